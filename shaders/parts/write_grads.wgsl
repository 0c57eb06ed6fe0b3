// The gradients of a row, as far as they are the same for all its classes.

fn write_grads(row: u32, row_at: u32, in_row: u32, live: bool, goal: Target, result: RowResult) {
    open_grads();
    // Read outside of any branch, as above. By its bits: where the denominator is NaN nothing may look trained, and to a
    // driver NaN may be no more unequal to 0 than it is equal.
    let denominator = table.denominator;
    let grad_scale = table.grad_scale;
    var scale = 0.0;
    if (row_counts(goal) && (bitcast<u32>(denominator) & 0x7fffffffu) != 0u) {
        scale = grad_scale * grad_out(row) * result.factor * LOGIT_SCALE / denominator;
    }
    visit_grads(row_at, in_row, live, goal, result, slopes(result, scale));
}
