// Mass of each class, of labels: mass[class] += weight of the row, or the share of each of its two labels.
//
// Exact, in the 128-bit sums of `parts/exact.wgsl`: the order of the atomics makes no difference. Rows of one class
// after another are added in registers first, so that skewed labels do not queue for one sum.

override WORKGROUP_SIZE: u32 = 64u;
override ROWS_PER_GROUP: u32 = 4096u;

struct Run {
    class_index: u32,
    sum: vec4<u32>,
}

fn take(before: Run, class_index: u32, term: f32) -> Run {
    if (class_index == NO_CLASS) { return before; }
    let exact = exact_of(term, TERM_LIMIT);
    if (class_index == before.class_index) { return Run(class_index, exact_sum(before.sum, exact)); }
    if (before.class_index != NO_CLASS) { add_mass(before.class_index, before.sum); }
    return Run(class_index, exact);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let first_row = group_number(group) * ROWS_PER_GROUP;
    let end_row = min(first_row + ROWS_PER_GROUP, params.rows);
    var first = Run(NO_CLASS, vec4<u32>(0u));
    var second = Run(NO_CLASS, vec4<u32>(0u));
    for (var row = first_row + index; row < end_row; row += WORKGROUP_SIZE) {
        let goal = read_target(row);
        if (row_counts(goal)) {
            let shares = shares_of(goal, sample_weight(row));
            first = take(first, shares.classes.x, shares.mass.x);
            second = take(second, shares.classes.y, shares.mass.y);
        }
    }
    if (first.class_index != NO_CLASS) { add_mass(first.class_index, first.sum); }
    if (second.class_index != NO_CLASS) { add_mass(second.class_index, second.sum); }
}
