// Counts the rows of each class: class_counts[label] += 1 for every row that counts. For many classes, where a
// workgroup's own counts would not fit, and for CPUs.

override WORKGROUP_SIZE: u32 = 64u;
override ROWS_PER_GROUP: u32 = 4096u;

@group(0) @binding(CLASS_COUNTS) var<storage, read_write> class_counts: array<atomic<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let first_row = group_number(group) * ROWS_PER_GROUP;
    let end_row = min(first_row + ROWS_PER_GROUP, params.rows);
    // Rows of one class after another are added at once: skewed labels, all of one class, cost fewer atomics, not more.
    var run_class = NO_CLASS;
    var run = 0u;
    for (var row = first_row + index; row < end_row; row += WORKGROUP_SIZE) {
        let label = read_target(row).class_index;
        if (label != run_class) {
            if (run_class != NO_CLASS) { atomicAdd(&class_counts[run_class], run); }
            run_class = label;
            run = 0u;
        }
        run++;
    }
    if (run_class != NO_CLASS) { atomicAdd(&class_counts[run_class], run); }
}
