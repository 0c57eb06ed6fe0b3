// From logits to what the softmax is taken of: z = scale * x + bias.

override HAS_BIAS: bool = false;
override LOGIT_SCALE: f32 = 1.0;
// A scale rounds: of two logits it may make one number.
override ADJUSTS: bool = HAS_BIAS || LOGIT_SCALE != 1.0;

fn adjust(x: vec4<f32>, classes: vec4<u32>) -> vec4<f32> {
    if (!ADJUSTS) { return x; }
    var z = x * LOGIT_SCALE;
    if (HAS_BIAS) { z += logit_bias_four(classes); }
    // Stand-ins stay stand-ins, and nothing else becomes one.
    let clamped = clamp(z, vec4<f32>(-LOGIT_LIMIT), vec4<f32>(LOGIT_LIMIT));
    return select(clamped, x, abs(x) >= vec4<f32>(STAND_IN));
}
