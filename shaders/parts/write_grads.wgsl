// The gradients of a row, as far as they are the same for all its classes.

fn write_grads(row: u32, row_at: u32, in_row: u32, live: bool, goal: Target, result: RowResult) {
    open_grads();
    // Read outside of any branch, as above.
    let denominator = table.denominator;
    let grad_scale = table.grad_scale;
    var scale = 0.0;
    if (row_counts(goal) && denominator != 0.0) {
        scale = grad_scale * grad_out(row) * result.factor * LOGIT_SCALE / denominator;
    }
    visit_grads(row_at, in_row, live, goal, result, slopes(result, scale));
}
