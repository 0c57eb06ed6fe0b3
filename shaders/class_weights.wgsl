// Class weights, and the log-prior, from class counts into the table.
//
//     SCHEME 0, Balanced: w[c] = n / (present * n[c])        n: sum of all counts, present: classes with any
//     SCHEME 1, Inverse:  w[c] = 1 / n[c]
//     a class with no row: the absent weight, never infinity
//     log-prior:          bias[c] = TAU log((n[c] + PRIOR_SMOOTHING) / sum of the same)
//
// One workgroup: the sums need all counts, and even 262,144 of them are little work.

override WORKGROUP_SIZE: u32 = 256u;
override SCHEME: u32 = 0u;
override ABSENT_WEIGHT: f32 = 0.0;
override WRITES_WEIGHTS: bool = true;
override WRITES_BIAS: bool = false;
override TAU: f32 = 1.0;
override PRIOR_SMOOTHING: f32 = 1.0;

@group(0) @binding(CLASS_COUNTS) var<storage, read> class_counts: array<u32>;

var<workgroup> rows_of: array<u32, WORKGROUP_SIZE>;
var<workgroup> present_of: array<u32, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(local_invocation_index) index: u32) {
    var rows = 0u;
    var present = 0u;
    for (var class_index = index; class_index < params.classes; class_index += WORKGROUP_SIZE) {
        let count = class_counts[class_index];
        rows += count;
        present += select(0u, 1u, count > 0u);
    }
    rows_of[index] = rows;
    present_of[index] = present;
    // All sums are written before any is read; they are not written again.
    workgroupBarrier();
    rows = 0u;
    present = 0u;
    for (var i = 0u; i < WORKGROUP_SIZE; i++) {
        rows += rows_of[i];
        present += present_of[i];
    }
    let smoothed = f32(rows) + PRIOR_SMOOTHING * f32(params.classes);
    for (var class_index = index; class_index < params.classes; class_index += WORKGROUP_SIZE) {
        let count = f32(class_counts[class_index]);
        if (WRITES_WEIGHTS) {
            var weight = ABSENT_WEIGHT;
            if (count > 0.0) {
                if (SCHEME == 0u) {
                    weight = f32(rows) / (f32(present) * count);
                } else {
                    weight = 1.0 / count;
                }
            }
            table.values[class_index] = weight;
        }
        if (WRITES_BIAS) {
            table.values[params.classes + class_index] = TAU * log((count + PRIOR_SMOOTHING) / smoothed);
        }
    }
}
