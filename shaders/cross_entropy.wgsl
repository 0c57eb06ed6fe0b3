// Softmax cross-entropy with weights, forward and backward in one kernel: losses and gradients in one visit to the row.
//
//     row_losses[i]     = factor * base
//     logit_grads[i, k] = grad_scale * grad_out[i] * factor * logit_scale / denominator * d base / d z[i, k]
//
// with `base` as `parts/row_single.wgsl` or `parts/row_general.wgsl` says. Reads logits, targets, weights, the table;
// writes every row loss and every gradient (zeros for rows that do not count), and counts rows into the table. `lanes()`
// invocations share a row.

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    stage_in(group, lane);
    open_losses();
    open_weights();
    open_scale();
    take_rows(row_of(group, lane), lane);
    stage_out(group, lane);
}

fn take_row(row: u32, lane: Lane) {
    let in_row = lane_of(lane);
    let live = row < params.rows;
    // Read outside of any branch: what a whole workgroup shares is then read once by drivers that run on CPUs.
    var goal = read_target(min(row, params.rows - 1u));
    if (!live) { goal = no_target(); }
    let counts = row_counts(goal);
    let row_at = row_offset(row);

    let whole = reduce(visit_row(row, row_at, in_row, goal), lane);
    let result = finish_row(row, row_at, goal, whole, lane);
    if (live && in_row == 0u) { keep_row(row, goal, whole, result); }
    tally(counts && in_row == 0u, !result.bad && predicted_class(whole) == result.class_index, result.bad, row, lane);

    write_grads(row, row_at, in_row, live, goal, result);
}
