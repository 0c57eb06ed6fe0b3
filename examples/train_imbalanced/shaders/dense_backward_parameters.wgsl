// The gradient of a dense layer's weights and biases: dw[i][o] = sum over the rows of x[row][i] * dy[row][o].
// One invocation a tile of four inputs by four outputs: see product.wgsl, which comes before this text.

@group(0) @binding(0) var<uniform> layer: Layer;
// x: [rows, inputs].
@group(0) @binding(1) var<storage, read> left: array<f32>;
// dy: [rows, outputs].
@group(0) @binding(2) var<storage, read> right: array<f32>;
// Of all layers, in the layout of the parameters.
@group(0) @binding(3) var<storage, read_write> gradients: array<f32>;

@compute @workgroup_size(32)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    // One row more than there are inputs: the bias is a weight whose input is always 1.
    let tile = tile_of(id.x, layer.inputs + 1u, layer.outputs);
    if (tile.row > layer.inputs) {
        return;
    }
    let inputs = min(tile.rows, vec4(layer.inputs - 1u));
    let result = product(inputs, layer.inputs, tile.columns, layer.outputs, layer.rows);
    for (var r = 0u; r < min(4u, layer.inputs + 1u - tile.row); r++) {
        for (var c = 0u; c < min(4u, layer.outputs - tile.column); c++) {
            let i = tile.row + r;
            let gradient = select(result.sums[r][c], result.right_sums[c], i == layer.inputs);
            gradients[layer.first_parameter + i * layer.outputs + tile.column + c] = gradient;
        }
    }
}
