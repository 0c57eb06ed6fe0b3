// What the two answers to an element cost, and how that changes with its score.

struct Sides {
    above: vec4<bool>,    // the score is on the side of positives
    larger: vec4<f32>,    // of p and 1 - p
    smaller: vec4<f32>,
    positive: vec4<f32>,  // -log p
    negative: vec4<f32>,  // -log(1 - p)
    pull: vec4<f32>,      // minus the slope of `positive`
    push: vec4<f32>,      // the slope of `negative`
}

// The focal power m^gamma, m = t (1 - p) + (1 - t) p.
struct Focus {
    power: vec4<f32>,
    turn: vec4<f32>,      // its slope over 1 - 2 t
}
