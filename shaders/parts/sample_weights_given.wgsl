// Sample weights: one a row, one a sample, or one a step. Broadcasting is an index, never a copy.

@group(0) @binding(SAMPLE_WEIGHTS) var<storage, read> sample_weights: array<f32>;

fn sample_weight(row: u32) -> f32 {
    let batch_row = params.sample_weights_first_row + row;
    let index = batch_row / params.sample_weight_divisor % params.sample_weight_modulus;
    return sample_weights[params.sample_weights_base + index];
}
