// The gradients of a row, as far as they are the same for all its classes.

// Read once, outside of any branch, as in `class_count`; and before anyone counts in the table, for cores that count there
// take the line of memory from one another.
var<private> denominator: f32;
var<private> grad_scale: f32;

fn open_scale() {
    open_grads();
    denominator = table.denominator;
    grad_scale = table.grad_scale;
}

fn write_grads(row: u32, row_at: u32, in_row: u32, live: bool, goal: Target, result: RowResult) {
    // By its bits: where the denominator is NaN nothing may look trained, and to a driver NaN may be no more unequal to 0
    // than it is equal.
    let scales = is_leader() && row_counts(goal) && (bitcast<u32>(denominator) & 0x7fffffffu) != 0u;
    var upstream = 1.0;
    if (scales) { upstream = grad_out(row) * result.factor; }
    // Divided outside of the branch, and by the same for all rows where nothing weighs them apart: compilers divide once.
    let scale = select(0.0, grad_scale * upstream * LOGIT_SCALE / denominator, scales);
    visit_grads(row_at, in_row, live, goal, result, slopes(result, scale));
}
