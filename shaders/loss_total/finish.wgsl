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
    let loss = final_loss(all.loss, all.kinds, table.denominator);
    table.loss_sum = loss.x;
    table.loss = loss.y;
}
