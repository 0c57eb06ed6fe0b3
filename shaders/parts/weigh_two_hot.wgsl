// What a row of two labels weighs by its classes.

override WEIGHT_PER_ROW: bool = false;

fn target_weight(goal: Target) -> f32 {
    if (WEIGHT_PER_ROW) { return class_weight(goal.class_index); }
    return goal.share * class_weight(goal.first) + (1.0 - goal.share) * class_weight(goal.second);
}
