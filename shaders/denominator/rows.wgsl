// First stage of the denominator: sums and counts over ROWS_PER_GROUP rows, from labels and weights alone.
//
//     weights = sum of sample weight * weight of the target, sample_weights = sum of sample weights, over the rows that count
//
// One partial a workgroup. Where a partial begins does not depend on the tiling, so neither do the bits of the sum.

override WORKGROUP_SIZE: u32 = 64u;
override ROWS_PER_GROUP: u32 = 4096u;

@group(0) @binding(PARTIALS) var<storage, read_write> partials: array<Sums>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let first_row = group_number(group) * ROWS_PER_GROUP;
    let end_row = min(first_row + ROWS_PER_GROUP, params.rows);
    var sums = no_sums();
    for (var row = first_row + index; row < end_row; row += WORKGROUP_SIZE) {
        let goal = read_target(row);
        if (row_counts(goal)) {
            sums = add_row(sums, row, target_weight(goal));
        } else if (goal.out_of_range) {
            sums.out_of_range++;
            sums.first_bad = min(sums.first_bad, params.first_row + row);
        } else {
            sums.ignored++;
        }
    }
    let all = add_up(sums, index);
    // The grid may be larger than the work by some workgroups.
    if (index == 0u && first_row < params.rows) { partials[params.partials + group_number(group)] = all; }
}
