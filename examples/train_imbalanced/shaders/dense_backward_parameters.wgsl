// The gradient of a dense layer's weights and biases: dw[i][o] = sum over the rows of x[row][i] * dy[row][o].
// One invocation a parameter.

// As in dense.wgsl.
struct Layer {
    rows: u32,
    inputs: u32,
    outputs: u32,
    first_parameter: u32,
    relu: u32,
}

@group(0) @binding(0) var<uniform> layer: Layer;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
// Of all layers, in the layout of the parameters.
@group(0) @binding(3) var<storage, read_write> gradients: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x / layer.outputs;
    let o = id.x % layer.outputs;
    if (i > layer.inputs) {
        return;
    }
    var sum = 0.0;
    for (var row = 0u; row < layer.rows; row++) {
        // The bias is a weight whose input is always 1. The index is clamped because both arms of a select
        // are evaluated.
        let input = x[row * layer.inputs + min(i, layer.inputs - 1u)];
        sum += select(input, 1.0, i == layer.inputs) * dy[row * layer.outputs + o];
    }
    gradients[layer.first_parameter + id.x] = sum;
}
