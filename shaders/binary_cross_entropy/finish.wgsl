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
    let loss = final_loss(all.loss, all.kinds, table.denominator);
    table.loss_sum = loss.x;
    table.loss = loss.y;
    table.weight_sum = all.weights;
    table.sample_weight_sum = all.sample_weights;
    table.valid_rows = all.valid;
    table.ignored_rows = all.ignored;
    table.nonfinite_rows = all.nonfinite;
    table.first_bad_row = all.first_bad;
    table.correct_rows = all.correct;
    table.nonzero_rows = all.nonzero;
    table.correct_weight = all.correct_weights;
}
