// The loss of a batch from the sum of its losses, as bits: (loss_sum, loss), loss = loss_sum / denominator, or 0 where the
// denominator is 0. `kinds` says what was no number and so is not in the sum: bit 0 a NaN, bit 1 +inf, bit 2 -inf.

fn final_loss(sum: f32, kinds: u32, denominator: f32) -> vec2<u32> {
    var loss_sum = bitcast<u32>(sum);
    var loss = 0u;
    // By its bits: NaN is not 0.
    let divides = (bitcast<u32>(denominator) & 0x7fffffffu) != 0u;
    if (divides) { loss = bitcast<u32>(sum / denominator); }
    // +inf + -inf is no number either.
    if ((kinds & 1u) != 0u || kinds == 6u) {
        loss_sum = NAN_BITS;
        loss = NAN_BITS;
    } else if (kinds != 0u) {
        loss_sum = select(NEGATIVE_INFINITY_BITS, INFINITY_BITS, kinds == 2u);
        if (divides) { loss = loss_sum; }
        // A negative denominator turns the sign.
        if (denominator < 0.0) { loss = loss ^ 0x80000000u; }
    }
    return vec2<u32>(loss_sum, loss);
}
