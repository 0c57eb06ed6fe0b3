// What a labelled row weighs by its class.

fn target_weight(goal: Target) -> f32 {
    return class_weight(goal.class_index);
}
