// A tile of a matrix product, for the three kernels of a dense layer, which declare `left` and `right`.
//
// One invocation computes four rows by four columns: it loads 8 numbers for 16 products, where one element an
// invocation would load 2 for each. On lavapipe that made the forward pass five times as fast. There are no
// barriers and no workgroup memory; the matrices are small enough for a GPU's caches.

struct Layer {
    // Of the batch.
    rows: u32,
    inputs: u32,
    outputs: u32,
    // Where its parameters begin: [inputs + 1, outputs], the last row being the bias.
    first_parameter: u32,
    // 1 in hidden layers.
    relu: u32,
}

struct Tile {
    // The upper left element.
    row: u32,
    column: u32,
    // Rows and columns to load. At the edge they repeat the last one, so that every load is in bounds; what
    // comes of the copies is not stored.
    rows: vec4<u32>,
    columns: vec4<u32>,
}

struct Product {
    // What WGSL calls a matrix's column is a row of the tile here.
    sums: mat4x4<f32>,
    // The sums of `right` alone: the product with a row of ones.
    right_sums: vec4<f32>,
}

// The tile of an invocation in a product of `rows` by `columns`. Its `row` is past the end where there is none.
fn tile_of(invocation: u32, rows: u32, columns: u32) -> Tile {
    let across = (columns + 3u) / 4u;
    let row = invocation / across * 4u;
    let column = invocation % across * 4u;
    let four = vec4<u32>(0u, 1u, 2u, 3u);
    return Tile(row, column, min(row + four, vec4(rows - 1u)), min(column + four, vec4(columns - 1u)));
}

// The sum over `count` terms of left[a] * right[b], for each of four `a` and four `b`, both of which go on by
// their step from term to term.
fn product(first_a: vec4<u32>, step_a: u32, first_b: vec4<u32>, step_b: u32, count: u32) -> Product {
    var a = first_a;
    var b = first_b;
    var sums_0 = vec4(0.0);
    var sums_1 = vec4(0.0);
    var sums_2 = vec4(0.0);
    var sums_3 = vec4(0.0);
    var right_sums = vec4(0.0);
    for (var term = 0u; term < count; term++) {
        let r = vec4(right[b.x], right[b.y], right[b.z], right[b.w]);
        sums_0 += left[a.x] * r;
        sums_1 += left[a.y] * r;
        sums_2 += left[a.z] * r;
        sums_3 += left[a.w] * r;
        right_sums += r;
        a += vec4(step_a);
        b += vec4(step_b);
    }
    return Product(mat4x4(sums_0, sums_1, sums_2, sums_3), right_sums);
}
