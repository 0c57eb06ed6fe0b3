// Counts the rows of each class: class_counts[label] += 1 for every row that counts. For many classes, where a
// workgroup's own counts would not fit and rows of one class seldom meet.

override WORKGROUP_SIZE: u32 = 64u;
override ROWS_PER_GROUP: u32 = 4096u;

@group(0) @binding(CLASS_COUNTS) var<storage, read_write> class_counts: array<atomic<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let first_row = group_number(group) * ROWS_PER_GROUP;
    let end_row = min(first_row + ROWS_PER_GROUP, params.rows);
    for (var row = first_row + index; row < end_row; row += WORKGROUP_SIZE) {
        let label = read_target(row).class_index;
        if (label != NO_CLASS) { atomicAdd(&class_counts[label], 1u); }
    }
}
