// First stage of the denominator for soft targets, one row an invocation: what a row weighs takes all of its classes.
//
//     weights = sum of sample weight * sum_j class weight * target,   or, per row, the weight of the largest target's class
//
// One partial a workgroup, of WORKGROUP_SIZE rows wherever tiles begin.

override WORKGROUP_SIZE: u32 = 64u;
override WEIGHT_PER_ROW: bool = false;

@group(0) @binding(PARTIALS) var<storage, read_write> partials: array<Sums>;

fn soft_weight(row: u32) -> f32 {
    let row_at = row_offset(row);
    var mass = 0.0;
    var part = empty_part();
    // Eight classes a turn: one driver leaves loops silently after 65,535 turns.
    for (var first = 0u; first < params.classes; first += 8u) {
        for (var half = 0u; half < 8u; half += 4u) {
            let classes = first + half + vec4<u32>(0u, 1u, 2u, 3u);
            let t = targets_four(Target(true), row_at, classes);
            let products = t * class_weight_four(classes);
            mass += (products.x + products.y) + (products.z + products.w);
            if (WEIGHT_PER_ROW) { part = take_target(part, Target(true), row_at, t, 0u, classes); }
        }
    }
    if (WEIGHT_PER_ROW) { return class_weight(row_class(Target(true), part)); }
    return mass;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let row = group_number(group) * WORKGROUP_SIZE + index;
    var sums = no_sums();
    if (row < params.rows) { sums = add_row(sums, row, soft_weight(row)); }
    let all = add_up(sums, index);
    // The grid may be larger than the work by some workgroups.
    if (index == 0u && row < params.rows) { partials[params.partials + group_number(group)] = all; }
}
