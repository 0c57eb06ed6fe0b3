// A row an invocation, or a share of one.

fn take_rows(index: u32, lane: Lane) {
    take_row(index, lane);
}
