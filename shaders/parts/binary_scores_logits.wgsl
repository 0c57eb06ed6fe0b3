// Scores that are logits: costs are softplus(-x) and softplus(x), softplus(x) = max(x, 0) + log(1 + exp(-|x|)).

// Where a logit is infinite its cost is.
const INFINITE_COSTS: bool = true;

fn sides_of(words: vec4<u32>) -> Sides {
    let zero = vec4<f32>(0.0);
    let x = tame(words);
    let above = x > zero;
    let e = odds_of(x);
    let one_plus = 1.0 + e;
    let larger = 1.0 / one_plus;
    let smaller = e / one_plus;
    let log_part = log_1p_four(e);
    let p = select(smaller, larger, above);
    let p_not = select(larger, smaller, above);
    return Sides(above, larger, smaller, max(-x, zero) + log_part, max(x, zero) + log_part, p_not, p);
}
