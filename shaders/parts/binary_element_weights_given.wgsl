// A weight for each element, in the layout of the logits.

@group(0) @binding(ELEMENT_WEIGHTS) var<storage, read> element_weights: array<f32>;

fn element_weights_of(at: vec4<u32>) -> vec4<f32> {
    let i = at + vec4<u32>(params.element_weights_base);
    return vec4<f32>(element_weights[i.x], element_weights[i.y], element_weights[i.z], element_weights[i.w]);
}
