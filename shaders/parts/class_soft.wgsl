// The class that stands for a row of soft targets, when the row is known.

fn row_class(goal: Target, whole: Part) -> u32 {
    // A class of a row that is not bad; a bad row's is never used, but must not lead astray.
    return min(whole.label_at, params.classes - 1u);
}

fn targets_are_bad(whole: Part) -> bool {
    return whole.label >= STAND_IN;
}
