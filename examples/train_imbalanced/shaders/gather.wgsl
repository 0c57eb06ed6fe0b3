// Copies the rows of this step out of the data set: one invocation a feature of a row.

struct Constants {
    batch: u32,
    features: u32,
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
// The rows of the data set in the order of this epoch.
@group(0) @binding(2) var<storage, read> order: array<u32>;
// The data set: [rows, features], [rows], [rows].
@group(0) @binding(3) var<storage, read> data_x: array<f32>;
@group(0) @binding(4) var<storage, read> data_labels: array<i32>;
@group(0) @binding(5) var<storage, read> data_weights: array<f32>;
// The batch: [batch, features], [batch], [batch].
@group(0) @binding(6) var<storage, read_write> x: array<f32>;
@group(0) @binding(7) var<storage, read_write> labels: array<i32>;
@group(0) @binding(8) var<storage, read_write> weights: array<f32>;

@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.x / constants.features;
    let feature = id.x % constants.features;
    if (row >= constants.batch) {
        return;
    }
    let from_row = order[state.first_row + row];
    x[id.x] = data_x[from_row * constants.features + feature];
    if (feature == 0u) {
        labels[row] = data_labels[from_row];
        weights[row] = data_weights[from_row];
    }
}
