// Opens a step: which rows it takes, and Adam's bias corrections. One invocation.
//
// The counter lives on the device, so that every step of a training records the same commands.

struct Constants {
    batch: u32,
    steps_per_epoch: u32,
    // 1 - beta of the running means of the gradient and of its square.
    rest_1: f32,
    rest_2: f32,
}

struct State {
    // Steps that are over.
    step: u32,
    // The step's first row in the epoch's order.
    first_row: u32,
    // 1 - beta^step. Kept as such: beta^step is next to 1, and the subtraction would lose its digits.
    correction_1: f32,
    correction_2: f32,
}

@group(0) @binding(0) var<uniform> constants: Constants;
@group(0) @binding(1) var<storage, read_write> state: State;

@compute @workgroup_size(1)
fn main() {
    state.first_row = (state.step % constants.steps_per_epoch) * constants.batch;
    state.step += 1u;
    state.correction_1 += constants.rest_1 * (1.0 - state.correction_1);
    state.correction_2 += constants.rest_2 * (1.0 - state.correction_2);
}
