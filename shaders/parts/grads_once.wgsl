// The last visit, to a row in registers: every invocation writes what it holds.

fn visit_grads(row_at: u32, in_row: u32, live: bool, goal: Target, result: RowResult, s: Slopes) {
    if (live) { write_held(row_at, first_class(in_row), goal, result, s); }
}
