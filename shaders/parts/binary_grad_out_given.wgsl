// An upstream gradient for each element, in the layout of the logits.

@group(0) @binding(GRAD_OUT) var<storage, read> grad_out_values: array<f32>;

fn grad_out_of(at: vec4<u32>) -> vec4<f32> {
    let i = at + vec4<u32>(params.grad_out_base);
    return vec4<f32>(grad_out_values[i.x], grad_out_values[i.y], grad_out_values[i.z], grad_out_values[i.w]);
}
