// Mass of each class as an f32: its exact sum, rounded once.

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(MASS) var<storage, read> mass: array<u32>;
@group(0) @binding(CLASS_COUNTS) var<storage, read_write> class_counts: array<f32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let class_index = group_number(group) * WORKGROUP_SIZE + index;
    if (class_index >= params.classes) { return; }
    let at = 4u * class_index;
    class_counts[class_index] = exact_value(vec4<u32>(mass[at], mass[at + 1u], mass[at + 2u], mass[at + 3u]));
}
