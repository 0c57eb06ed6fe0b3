// The totals from the partial sums: loss = loss_sum / denominator, or 0 where the denominator is 0. NaN if any element
// was NaN: nothing may look trained. One workgroup.

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(local_invocation_index) index: u32) {
    var sums = no_sums();
    for (var i = index; i < params.partials; i += WORKGROUP_SIZE) {
        sums = add(sums, load_sums(i));
    }
    let all = add_up(sums, index);
    if (index != 0u) { return; }
    var loss_sum = bitcast<u32>(all.loss);
    var loss = 0u;
    if (table.denominator != 0.0) { loss = bitcast<u32>(all.loss / table.denominator); }
    // +inf + -inf is no number either.
    if ((all.kinds & 1u) != 0u || all.kinds == 6u) {
        loss_sum = NAN_BITS;
        loss = NAN_BITS;
    } else if (all.kinds != 0u) {
        loss_sum = select(NEGATIVE_INFINITY_BITS, INFINITY_BITS, all.kinds == 2u);
        if (table.denominator != 0.0) { loss = loss_sum; }
        // A negative denominator turns the sign.
        if (table.denominator < 0.0) { loss = loss ^ 0x80000000u; }
    }
    table.loss = loss;
    table.loss_sum = loss_sum;
    table.weight_sum = all.weights;
    table.sample_weight_sum = all.sample_weights;
    table.valid_rows = all.valid;
    table.ignored_rows = all.ignored;
    table.nonfinite_rows = all.nonfinite;
    table.first_bad_row = all.first_bad;
    table.correct_rows = all.correct;
    table.nonzero_rows = all.nonzero;
}
