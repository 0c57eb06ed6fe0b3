// The only visit of the backward half, to a row that fits registers.

fn visit_grads(row_at: u32, in_row: u32, live: bool, goal: Target, result: RowResult, s: Slopes) {
    if (row_counts(goal)) { hold(row_at, first_class(in_row)); }
    if (live) { write_held(row_at, first_class(in_row), goal, result, s); }
}
