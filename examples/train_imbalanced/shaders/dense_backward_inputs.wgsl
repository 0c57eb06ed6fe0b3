// The gradient of a dense layer's inputs: dx[row][i] = sum over o of dy[row][o] * w[i][o], where the ReLU of
// the layer before let the input through. One invocation an input.

// As in dense.wgsl.
struct Layer {
    rows: u32,
    inputs: u32,
    outputs: u32,
    first_parameter: u32,
    relu: u32,
}

@group(0) @binding(0) var<uniform> layer: Layer;
@group(0) @binding(1) var<storage, read> parameters: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.x / layer.inputs;
    let i = id.x % layer.inputs;
    if (row >= layer.rows) {
        return;
    }
    var sum = 0.0;
    // The layer's input is the output of a ReLU: above 0 just where its slope is 1.
    if (x[id.x] > 0.0) {
        for (var o = 0u; o < layer.outputs; o++) {
            sum += dy[row * layer.outputs + o] * parameters[layer.first_parameter + i * layer.outputs + o];
        }
    }
    dx[id.x] = sum;
}
