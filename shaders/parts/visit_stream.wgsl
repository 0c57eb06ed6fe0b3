// The first visit to a row that does not fit registers: BLOCKS blocks at a time. Rows that do not count are not read,
// whatever they hold.

fn visit_row(row: u32, row_at: u32, in_row: u32, goal: Target) -> Part {
    let classes_to_read = select(0u, class_count(), row_counts(goal));
    var part = empty_part();
    for (var first = first_class(in_row); first < classes_to_read; first += 4u * BLOCKS * lanes()) {
        hold(row_at, first);
        part = take_held(part, goal, row_at, first);
    }
    return part;
}
