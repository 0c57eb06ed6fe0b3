// 1 - exp(x) for x <= 0, to f32's relative precision: near 0 by its series.

fn one_minus_exp(x: f32) -> f32 {
    if (x < -0.5) { return 1.0 - exp(max(x, -104.0)); }
    var series = 1.0;
    for (var k = 9u; k > 1u; k--) { series = 1.0 + x / f32(k) * series; }
    return -x * series;
}
