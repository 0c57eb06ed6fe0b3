// The visit to a row that fits registers: they hold it from here on. Rows that do not count are not read, whatever they
// hold; but where READS_ALL says so they are, and nothing comes of it: on CPUs a branch around the loads costs every row
// something. Invocations past the last row read row 0 then.

fn visit_row(row: u32, row_at: u32, in_row: u32, goal: Target) -> Part {
    if (!READS_ALL && !row_counts(goal)) { return empty_part(); }
    let read_at = select(row_at, row_offset(0u), READS_ALL && row >= params.rows);
    hold(read_at, first_class(in_row));
    return take_held(empty_part(), goal, read_at, first_class(in_row));
}
