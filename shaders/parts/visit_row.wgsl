// The first visit to a row: maximum, sum, argmax, and the label's own logit, of an invocation's share. Rows that do not
// count are not read, whatever they hold.

fn visit_row(row_at: u32, in_row: u32, goal: Target) -> Part {
    let classes_to_read = select(0u, params.classes, row_counts(goal));
    var part = empty_part();
    for (var first = first_class(in_row); first < classes_to_read; first += 4u * lanes()) {
        let classes = four_classes(first);
        let x = tame(load_four(row_at, classes));
        let z = adjust(x, classes);
        part = take_four(part, x, z, classes);
        part = take_target(part, goal, row_at, z, classes);
    }
    return part;
}
