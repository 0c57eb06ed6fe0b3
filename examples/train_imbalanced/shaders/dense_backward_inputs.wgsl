// The gradient of a dense layer's inputs: dx[row][i] = sum over o of dy[row][o] * w[i][o], where the ReLU of
// the layer before let the input through.
// One invocation a tile of four rows by four inputs: see product.wgsl, which comes before this text.

@group(0) @binding(0) var<uniform> layer: Layer;
// dy: [rows, outputs].
@group(0) @binding(1) var<storage, read> left: array<f32>;
// The parameters of all layers.
@group(0) @binding(2) var<storage, read> right: array<f32>;
// [rows, inputs].
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let tile = tile_of(id.x, layer.rows, layer.inputs);
    if (tile.row >= layer.rows) {
        return;
    }
    let weights = layer.first_parameter + tile.columns * layer.outputs;
    let result = product(tile.rows * layer.outputs, 1u, weights, 1u, layer.outputs);
    for (var r = 0u; r < min(4u, layer.rows - tile.row); r++) {
        for (var c = 0u; c < min(4u, layer.inputs - tile.column); c++) {
            let element = (tile.row + r) * layer.inputs + tile.column + c;
            // The layer's input is the output of a ReLU: above 0 just where its slope is 1.
            dx[element] = select(0.0, result.sums[r][c], x[element] > 0.0);
        }
    }
}
