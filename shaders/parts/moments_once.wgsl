// The second visit, to a row in registers.

fn visit_moments(row: u32, row_at: u32, in_row: u32, goal: Target, result: RowResult, visit: bool) -> Moments {
    if (!visit) { return empty_moments(); }
    return add_held(empty_moments(), goal, row_at, first_class(in_row), result);
}
