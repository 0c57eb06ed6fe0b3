// A dense layer: y[row][o] = b[o] + sum over i of x[row][i] * w[i][o], and max(y, 0) in hidden layers.
// One invocation a tile of four rows by four outputs: see product.wgsl, which comes before this text.

@group(0) @binding(0) var<uniform> layer: Layer;
// x: [rows, inputs].
@group(0) @binding(1) var<storage, read> left: array<f32>;
// The parameters of all layers.
@group(0) @binding(2) var<storage, read> right: array<f32>;
// [rows, outputs].
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let tile = tile_of(id.x, layer.rows, layer.outputs);
    if (tile.row >= layer.rows) {
        return;
    }
    let weights = layer.first_parameter + tile.columns;
    let result = product(tile.rows * layer.inputs, 1u, weights, layer.outputs, layer.inputs);
    for (var r = 0u; r < min(4u, layer.rows - tile.row); r++) {
        for (var c = 0u; c < min(4u, layer.outputs - tile.column); c++) {
            let o = tile.column + c;
            let bias = right[layer.first_parameter + layer.inputs * layer.outputs + o];
            let sum = result.sums[r][c] + bias;
            y[(tile.row + r) * layer.outputs + o] = select(sum, max(sum, 0.0), layer.relu == 1u);
        }
    }
}
