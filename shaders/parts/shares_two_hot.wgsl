// What a row of two labels adds to the mass of its classes: the share of each, times the row's weight.

struct Shares {
    classes: vec2<u32>, // NO_CLASS: none
    mass: vec2<f32>,
}

fn shares_of(goal: Target, weight: f32) -> Shares {
    return Shares(vec2<u32>(goal.first, goal.second), weight * vec2<f32>(goal.share, 1.0 - goal.share));
}
