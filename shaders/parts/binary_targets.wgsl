// Targets, and where four elements lie. Targets, logits, gradients, losses and element weights have one layout.

// Whether rows follow each other without padding.
override DENSE: bool = false;
// 0: no target is ignored; 1: those equal to `ignore_value`; 2: NaN.
override IGNORE: u32 = 0u;

@group(0) @binding(TARGETS) var<storage, read> targets: array<u32>;

struct Places {
    row: vec4<u32>,    // in the tile
    column: vec4<u32>,
    at: vec4<u32>,     // words from the tile's first element
}

fn places_of(elements: vec4<u32>) -> Places {
    let position = elements + vec4<u32>(params.first_column);
    let row = position / vec4<u32>(params.columns);
    let column = position - row * params.columns;
    if (DENSE) { return Places(row, column, elements); }
    // The first row starts at `first_column`, and later ones at a stride that is larger: never below zero.
    return Places(row, column, row * params.row_stride + column - vec4<u32>(params.first_column));
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
