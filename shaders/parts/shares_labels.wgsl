// What a labelled row adds to the mass of its class: its weight.

struct Shares {
    classes: vec2<u32>, // NO_CLASS: none
    mass: vec2<f32>,
}

fn shares_of(goal: Target, weight: f32) -> Shares {
    return Shares(vec2<u32>(goal.class_index, NO_CLASS), vec2<f32>(weight, 0.0));
}
