// Mass of each class, of soft targets: mass[class] += weight of the row times its target for the class.
//
// A workgroup takes up to WORKGROUP_SIZE classes side by side and shares SOFT_ROWS rows among its lanes; each
// invocation adds up one class of its rows in registers. Exact: see `parts/exact.wgsl`.

override WORKGROUP_SIZE: u32 = 64u;
override SOFT_ROWS: u32 = 256u;
override CLASS_FIRST: bool = false;

@group(0) @binding(TARGET_PROBS) var<storage, read> target_probs: array<f32>;

fn target_at(row: u32, class_index: u32) -> f32 {
    var at = row * params.row_stride + class_index;
    if (CLASS_FIRST) {
        at = row / params.inner * params.row_stride + row % params.inner + class_index * params.inner;
    }
    return target_probs[params.target_probs_base + at];
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let width = min(params.classes, WORKGROUP_SIZE);
    let lanes = WORKGROUP_SIZE / width;
    let class_groups = (params.classes + width - 1u) / width;
    let number = group_number(group);
    let class_index = number % class_groups * width + index % width;
    let lane = index / width;
    let first_row = number / class_groups * SOFT_ROWS;
    let end_row = min(first_row + SOFT_ROWS, params.rows);
    if (class_index >= params.classes || lane >= lanes) { return; }
    var sum = vec4<u32>(0u);
    for (var row = first_row + lane; row < end_row; row += lanes) {
        sum = exact_sum(sum, exact_of(sample_weight(row) * target_at(row, class_index), TERM_LIMIT));
    }
    add_mass(class_index, sum);
}
