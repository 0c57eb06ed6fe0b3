// Counts the rows of each class: class_counts[label] += 1 for every row that counts. For few classes.
//
// Each workgroup counts ROWS_PER_GROUP rows in its own memory, then adds what it found: skewed labels (all rows of
// one class) meet in workgroup memory, not in one word of global memory. Whole numbers: the same in any order.

override WORKGROUP_SIZE: u32 = 64u;
override ROWS_PER_GROUP: u32 = 4096u;
// The most classes that fit; the host takes `direct` beyond it.
override PRIVATE_CLASSES: u32 = 1024u;

@group(0) @binding(CLASS_COUNTS) var<storage, read_write> class_counts: array<atomic<u32>>;

var<workgroup> found: array<atomic<u32>, PRIVATE_CLASSES>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    for (var class_index = index; class_index < params.classes; class_index += WORKGROUP_SIZE) {
        atomicStore(&found[class_index], 0u);
    }
    // Cleared before anyone counts: workgroup memory does not start as zero.
    workgroupBarrier();
    let first_row = group_number(group) * ROWS_PER_GROUP;
    let end_row = min(first_row + ROWS_PER_GROUP, params.rows);
    // Rows of one class after another are added at once: skewed labels, all of one class, cost fewer atomics, not more.
    var run_class = NO_CLASS;
    var run = 0u;
    for (var row = first_row + index; row < end_row; row += WORKGROUP_SIZE) {
        let label = read_target(row).class_index;
        if (label != run_class) {
            if (run_class != NO_CLASS) { atomicAdd(&found[run_class], run); }
            run_class = label;
            run = 0u;
        }
        run++;
    }
    if (run_class != NO_CLASS) { atomicAdd(&found[run_class], run); }
    // All have counted before anyone hands on.
    workgroupBarrier();
    for (var class_index = index; class_index < params.classes; class_index += WORKGROUP_SIZE) {
        let rows = atomicLoad(&found[class_index]);
        if (rows > 0u) { atomicAdd(&class_counts[class_index], rows); }
    }
}
