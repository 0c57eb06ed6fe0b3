// Two labels a row and the share of the first (mixup, cutmix): three words a row, (label, label, bits of the share).

struct Target {
    class_index: u32, // the label with the larger share, the lower on ties; NO_CLASS where the row does not count
    first: u32,
    second: u32,
    share: f32,
    out_of_range: bool,
}

fn no_target() -> Target {
    return Target(NO_CLASS, NO_CLASS, NO_CLASS, 0.0, false);
}

fn read_target(row: u32) -> Target {
    let at = params.labels_base + row * 3u;
    let first = labels[at];
    let second = labels[at + 1u];
    let share = bitcast<f32>(labels[at + 2u]);
    var goal = no_target();
    if (is_ignored(first) || is_ignored(second)) { return goal; }
    if (first >= params.classes || second >= params.classes) {
        goal.out_of_range = true;
        return goal;
    }
    let first_leads = share > 0.5 || (share == 0.5 && first < second);
    return Target(select(second, first, first_leads), first, second, share, false);
}

fn row_counts(goal: Target) -> bool {
    return goal.class_index != NO_CLASS;
}
