// Targets that are labels: one class a row.

struct Target {
    class_index: u32, // NO_CLASS where the row does not count
    out_of_range: bool,
}

fn no_target() -> Target {
    return Target(NO_CLASS, false);
}

// Nothing is ever indexed by an unchecked label.
fn read_target(row: u32) -> Target {
    var label = 0u;
    if (is_leader()) { label = label_at(row); }
    label = word_of_leader(label);
    if (is_ignored(label)) { return no_target(); }
    return Target(select(label, NO_CLASS, label >= params.classes), label >= params.classes);
}

fn row_counts(goal: Target) -> bool {
    return goal.class_index != NO_CLASS;
}
