// A weight for each row.

@group(0) @binding(SAMPLE_WEIGHTS) var<storage, read> sample_weights: array<f32>;

fn sample_weights_of(row: vec4<u32>) -> vec4<f32> {
    let i = row + vec4<u32>(params.sample_weights_base);
    return vec4<f32>(sample_weights[i.x], sample_weights[i.y], sample_weights[i.z], sample_weights[i.w]);
}
