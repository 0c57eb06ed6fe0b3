// The second pass over rows that several workgroups share, for losses of many terms: the moments of each share.
//
//     row_moments[i, s] = what `parts/moments.wgsl` says, of the s-th workgroup's classes
//
// Reads logits, targets, weights, the table and every share of the row. Moments of rows that do not count are zeros.

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(ROW_MOMENTS) var<storage, read_write> row_moments: array<Moments>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    let row = row_of(group, lane);
    let in_row = lane_of(lane);
    stage_in(group, lane);
    let live = row < params.rows;
    var goal = read_target(min(row, params.rows - 1u));
    if (!live) { goal = no_target(); }
    let whole = reduce(visit_shares(min(row, params.rows - 1u), lane.index), lane);
    var result: RowResult;
    if (row_counts(goal)) { result = row_result(row, goal, whole); }
    let visit = row_counts(goal) && !result.bad;
    let moments = reduce_moments(visit_moments(row, row_offset(row), in_row, goal, result, visit), lane);
    if (live && lane.index == 0u) { row_moments[row * SPLITS + in_row / WORKGROUP_SIZE] = moments; }
}
