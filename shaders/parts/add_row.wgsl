// A row that counts, added to the sums.

fn add_row(before: Sums, row: u32, target_weight: f32) -> Sums {
    var sums = before;
    let s = sample_weight(row);
    let weight = s * target_weight;
    sums.valid++;
    sums.sample_weights += s;
    sums.weights += weight;
    // By its bits: NaN is no zero, whatever a driver compares.
    sums.nonzero += select(0u, 1u, (bitcast<u32>(weight) & 0x7fffffffu) != 0u);
    // The loss of such a row is no number either, and neither is the sum.
    if ((bitcast<u32>(s) & 0x7f800000u) == 0x7f800000u) {
        sums.bad_weights++;
        sums.first_bad = min(sums.first_bad, params.first_row + row);
    }
    return sums;
}
