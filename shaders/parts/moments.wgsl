// What a second visit to a row adds up, for losses with more than one term: probabilities are known by then.

struct Moments {
    loss: f32,     // sum of u (1 - p)^gamma (-log p)
    others: f32,   // sum of g over all classes but the top one, g as in `row_general`
    top: f32,      // g of the top class
    expected: f32, // sum of cost * p
    held: vec2<f32>, // what a clip between two normalizations holds: see `probabilities_scores`
    infinite: f32, // above 0: a target of probability 0
}

fn empty_moments() -> Moments {
    return Moments(0.0, 0.0, 0.0, 0.0, vec2<f32>(0.0), 0.0);
}

fn add_moments(a: Moments, b: Moments) -> Moments {
    return Moments(
        a.loss + b.loss,
        a.others + b.others,
        a.top + b.top,
        a.expected + b.expected,
        a.held + b.held,
        a.infinite + b.infinite,
    );
}
