// A dense layer: y[row][o] = b[o] + sum over i of x[row][i] * w[i][o]. One invocation an output.
//
// Neighbouring invocations share x and read neighbouring weights. A network this small is bound by the number
// of dispatches, so there are no tiles and no barriers.

struct Layer {
    rows: u32,
    inputs: u32,
    outputs: u32,
    // Where its parameters begin: [inputs + 1, outputs], the last row being the bias.
    first_parameter: u32,
    // 1 in hidden layers.
    relu: u32,
}

@group(0) @binding(0) var<uniform> layer: Layer;
@group(0) @binding(1) var<storage, read> parameters: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.x / layer.outputs;
    let o = id.x % layer.outputs;
    if (row >= layer.rows) {
        return;
    }
    // The bias comes first, as the CPU trainer has it.
    var sum = parameters[layer.first_parameter + layer.inputs * layer.outputs + o];
    for (var i = 0u; i < layer.inputs; i++) {
        sum += x[row * layer.inputs + i] * parameters[layer.first_parameter + i * layer.outputs + o];
    }
    y[id.x] = select(sum, max(sum, 0.0), layer.relu == 1u);
}
