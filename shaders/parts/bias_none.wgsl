// No bias on the logits.

fn logit_bias_four(classes: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(0.0);
}
