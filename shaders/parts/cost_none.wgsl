// No cost matrix: every outcome counts 1, and no mistake has an expected cost.

const COST_LAMBDA: f32 = 0.0;

fn gathered_cost(class_index: u32, predicted: u32) -> f32 {
    return 1.0;
}

fn expected_cost_four(class_index: u32, classes: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(0.0);
}
