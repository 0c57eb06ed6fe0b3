// The sigmoid of logits, and its focal power.

// exp(-|x|)
fn odds_of(x: vec4<f32>) -> vec4<f32> {
    return exp(max(-abs(x), vec4<f32>(-104.0)));
}

// m = near larger + far smaller: nothing cancels, and m' / m = (1 - 2 t) p (1 - p) / m has a limit where m goes to 0.
fn focus_of(near: vec4<f32>, far: vec4<f32>, sides: Sides) -> Focus {
    let zero = vec4<f32>(0.0);
    let m = near * sides.larger + far * sides.smaller;
    let value = power(m, params.focal_gamma);
    let above_zero = m > zero;
    var ratio = select(zero, sides.smaller / select(vec4<f32>(1.0), m, above_zero), above_zero);
    ratio = select(ratio, vec4<f32>(1.0), near == zero);
    return Focus(value, params.focal_gamma * value * (ratio * sides.larger));
}
