// Scores that are logits, whose sigmoid is clipped: beyond the clip a cost stays what it is there.

const INFINITE_COSTS: bool = false;
// Whether something is added within the logarithms.
override LOG_EPS: bool = false;

fn sides_of(words: vec4<u32>) -> Sides {
    let zero = vec4<f32>(0.0);
    let x = tame(words);
    let above = x > zero;
    let inside = abs(x) <= vec4<f32>(params.clip_logit);
    let e = odds_of(x);
    let one_plus = 1.0 + e;
    let larger = 1.0 / one_plus;
    let smaller = e / one_plus;
    var pull = select(larger, smaller, above);
    var push = select(smaller, larger, above);
    var costs: Costs;
    if (LOG_EPS) {
        costs = costs_of(select(vec4<f32>(params.clip_eps), smaller, inside));
        let slope = larger * smaller;
        let p = push;
        push = slope / (pull + params.log_eps);
        pull = slope / (p + params.log_eps);
    } else {
        costs.likely = log_1p_four(select(vec4<f32>(params.clip_odds), e, inside));
        costs.unlikely = min(abs(x), vec4<f32>(params.clip_logit)) + costs.likely;
    }
    return Sides(
        above,
        larger,
        smaller,
        select(costs.unlikely, costs.likely, above),
        select(costs.likely, costs.unlikely, above),
        select(zero, pull, inside),
        select(zero, push, inside),
    );
}
