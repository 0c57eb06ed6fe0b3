// Scores that are probabilities. What lies outside of [0, 1] is taken for its end.

const INFINITE_COSTS: bool = false;

fn sides_of(words: vec4<u32>) -> Sides {
    let zero = vec4<f32>(0.0);
    let p = clamp(tame(words), zero, vec4<f32>(1.0));
    let p_not = 1.0 - p;
    let above = p > p_not;
    let smaller = min(p, p_not);
    let inside = smaller >= vec4<f32>(params.clip_least);
    let costs = costs_of(select(vec4<f32>(params.clip_eps), smaller, inside));
    let one = vec4<f32>(1.0);
    let pull = one / select(one, p + params.log_eps, inside);
    let push = one / select(one, p_not + params.log_eps, inside);
    return Sides(
        above,
        max(p, p_not),
        smaller,
        select(costs.unlikely, costs.likely, above),
        select(costs.likely, costs.unlikely, above),
        select(zero, pull, inside),
        select(zero, push, inside),
    );
}

// m = near larger + far smaller; its slope is 1 - 2 t. Where m is 0 only the first power turns.
fn focus_of(near: vec4<f32>, far: vec4<f32>, sides: Sides) -> Focus {
    let m = near * sides.larger + far * sides.smaller;
    let gamma = params.focal_gamma;
    let at_zero = vec4<f32>(select(0.0, 1.0, gamma == 1.0));
    let turn = select(power(m, gamma - 1.0), at_zero, m == vec4<f32>(0.0));
    return Focus(power(m, gamma), gamma * turn);
}
