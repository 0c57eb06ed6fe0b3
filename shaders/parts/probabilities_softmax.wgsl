// The probabilities of four classes: the softmax of the logits.

struct Probabilities {
    p: vec4<f32>,
    q: vec4<f32>, // 1 - p
    minus_log_p: vec4<f32>,
    is_top: vec4<bool>,
    masked: vec4<bool>, // probability 0, whose logarithm is no number
}

// What the loss is made of.
fn loss_p(x: Probabilities) -> vec4<f32> {
    return x.p;
}

fn loss_q(x: Probabilities) -> vec4<f32> {
    return x.q;
}

// Nothing beside what the first visit found.
fn normalize_row(before: RowResult, visit: bool, row_at: u32, lane: Lane) -> RowResult {
    return before;
}

fn probabilities_four(z: vec4<f32>, classes: vec4<u32>, result: RowResult) -> Probabilities {
    var x: Probabilities;
    let sum = 1.0 + result.others;
    let log_sum = log_1p(result.others);
    x.masked = z <= vec4<f32>(-STAND_IN);
    x.is_top = classes == vec4<u32>(result.top_at);
    x.p = select(exp_four(z, result.reference), vec4<f32>(1.0), x.is_top) / sum;
    x.q = select(1.0 - x.p, vec4<f32>(result.others / sum), x.is_top);
    x.minus_log_p = select((result.reference - z) + log_sum, vec4<f32>(log_sum), x.is_top);
    return x;
}

// All of a class's term counts in the gradient.
fn passed_four(g: vec4<f32>, x: Probabilities) -> vec4<f32> {
    return g;
}

// (sum of g, sum of p) of four classes as far as a clip holds their gradients.
fn held_by_clip(g: vec4<f32>, x: Probabilities) -> vec2<f32> {
    return vec2<f32>(0.0);
}

// From the sum of the other classes' g to the slope of the terms.
fn slope_four(g: vec4<f32>, others: vec4<f32>, x: Probabilities, result: RowResult) -> vec4<f32> {
    return g * x.q - x.p * others;
}
