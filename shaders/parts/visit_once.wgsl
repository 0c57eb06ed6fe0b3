// The visit to a row that fits registers: they hold it from here on. Rows that do not count are not read, whatever they
// hold.

fn visit_row(row: u32, row_at: u32, in_row: u32, goal: Target) -> Part {
    if (!row_counts(goal)) { return empty_part(); }
    hold(row_at, first_class(in_row));
    return take_held(empty_part(), goal, row_at, first_class(in_row));
}
