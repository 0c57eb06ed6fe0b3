// Second stage of the loss: loss_sum, and loss = loss_sum / denominator, or 0 where the denominator is 0. NaN if any
// row was NaN: nothing may look trained.

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(PARTIALS) var<storage, read> partials: array<Sums>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(local_invocation_index) index: u32) {
    var sums = no_sums();
    for (var i = index; i < params.partials; i += WORKGROUP_SIZE) {
        sums = add(sums, partials[i]);
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
    table.loss_sum = loss_sum;
    table.loss = loss;
}
