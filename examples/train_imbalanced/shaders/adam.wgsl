// Adam: one invocation a parameter, all layers at once.

struct Constants {
    count: u32,
    rate: f32,
    // 1 - beta of the running means of the gradient and of its square.
    rest_1: f32,
    rest_2: f32,
    epsilon: f32,
}

// As in advance.wgsl.
struct State {
    step: u32,
    first_row: u32,
    correction_1: f32,
    correction_2: f32,
}

@group(0) @binding(0) var<uniform> constants: Constants;
@group(0) @binding(1) var<uniform> state: State;
@group(0) @binding(2) var<storage, read> gradients: array<f32>;
@group(0) @binding(3) var<storage, read_write> moments_1: array<f32>;
@group(0) @binding(4) var<storage, read_write> moments_2: array<f32>;
@group(0) @binding(5) var<storage, read_write> parameters: array<f32>;

@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= constants.count) {
        return;
    }
    let gradient = gradients[id.x];
    // m + (1 - beta)(g - m) is beta m + (1 - beta) g with one constant instead of two that must sum to 1.
    let m = moments_1[id.x] + constants.rest_1 * (gradient - moments_1[id.x]);
    let v = moments_2[id.x] + constants.rest_2 * (gradient * gradient - moments_2[id.x]);
    moments_1[id.x] = m;
    moments_2[id.x] = v;
    // v is a mean of squares; rounding may not take it below 0.
    let scale = sqrt(max(v / state.correction_2, 0.0)) + constants.epsilon;
    parameters[id.x] -= constants.rate * (m / state.correction_1) / scale;
}
