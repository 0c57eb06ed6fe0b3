// Costs of probabilities that are clipped, and to which something is added within the logarithms. The smaller of p and
// 1 - p is clipped; the other is 1 less that.

struct Costs {
    likely: vec4<f32>,   // -log(1 - least + log_eps)
    unlikely: vec4<f32>, // -log(least + log_eps)
}

fn costs_of(least: vec4<f32>) -> Costs {
    // 1 - d: by the rest of it, where it is near 1.
    let d = least - params.log_eps;
    let below = d >= vec4<f32>(0.0);
    let log_part = log_1p_four(select(-d, d / (1.0 - d), below));
    return Costs(select(-log_part, log_part, below), -log(least + params.log_eps));
}
