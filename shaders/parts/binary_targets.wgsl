// Targets, and where four elements lie. Targets, scores, gradients, losses and element weights have one layout.

// Whether blocks follow each other without padding.
override DENSE: bool = false;
override CLASS_FIRST: bool = false;
// 0: no target is ignored; 1: those equal to `ignore_value`; 2: NaN.
override IGNORE: u32 = 0u;

@group(0) @binding(TARGETS) var<storage, read> targets: array<u32>;

struct Places {
    row: vec4<u32>,    // from the tile's first row
    column: vec4<u32>,
    at: vec4<u32>,     // elements of the layout, from the tile's first
}

fn places_of(elements: vec4<u32>) -> Places {
    let position = elements + vec4<u32>(params.first_within);
    let block = position / vec4<u32>(params.block);
    let within = position - block * params.block;
    var row = block;
    var column = within;
    if (CLASS_FIRST) {
        column = within / vec4<u32>(params.inner);
        row = block * params.inner + (within - column * params.inner);
    }
    if (DENSE) { return Places(row, column, elements); }
    // The first block starts at `first_within`, and later ones at a stride that is larger: never below zero.
    return Places(row, column, block * params.row_stride + within - vec4<u32>(params.first_within));
}

// The elements of some rows in a column, in a tile of whole blocks.
fn elements_of(row: vec4<u32>, column: u32) -> vec4<u32> {
    if (!CLASS_FIRST) { return row * params.columns + vec4<u32>(column); }
    let block = row / vec4<u32>(params.inner);
    return block * params.block + (row - block * params.inner) + vec4<u32>(column * params.inner);
}

struct Targets {
    values: vec4<f32>,   // 0 where the target is not finite
    finite: vec4<bool>,
    ignored: vec4<bool>,
}

fn read_targets(at: vec4<u32>) -> Targets {
    let i = at + vec4<u32>(params.targets_base);
    let words = vec4<u32>(targets[i.x], targets[i.y], targets[i.z], targets[i.w]);
    let finite = (words & vec4<u32>(0x7f800000u)) != vec4<u32>(0x7f800000u);
    let values = bitcast<vec4<f32>>(select(vec4<u32>(0u), words, finite));
    var ignored = vec4<bool>(false);
    if (IGNORE == 1u) { ignored = finite & (values == vec4<f32>(params.ignore_value)); }
    if (IGNORE == 2u) { ignored = (words & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u); }
    return Targets(values, finite, ignored);
}
