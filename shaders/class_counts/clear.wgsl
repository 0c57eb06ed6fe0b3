// Sets the counts of a batch, or the sums of its mass, to zero, before its tiles add to them.

override WORKGROUP_SIZE: u32 = 64u;
// Words of a class: one of its count, four of its mass.
override CLEARED_WORDS: u32 = 1u;

@group(0) @binding(CLASS_COUNTS) var<storage, read_write> class_counts: array<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let class_index = group_number(group) * WORKGROUP_SIZE + index;
    if (class_index >= params.classes) { return; }
    for (var word = 0u; word < CLEARED_WORDS; word++) { class_counts[class_index * CLEARED_WORDS + word] = 0u; }
}
