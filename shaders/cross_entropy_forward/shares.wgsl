// The first pass over rows that several workgroups share: what each knows of its share.
//
//     row_shares[i, s] = maximum, sum, argmax and the label's logit of the s-th workgroup's classes
//
// Reads logits and targets. Shares of rows that do not count are empty.

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(ROW_SHARES) var<storage, read_write> row_shares: array<Part>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    let row = row_of(group, lane);
    let in_row = lane_of(lane);
    stage_in(group, lane);
    let live = row < params.rows;
    var goal = read_target(min(row, params.rows - 1u));
    if (!live) { goal = no_target(); }
    let share = reduce(visit_row(row, row_offset(row), in_row, goal), lane);
    if (live && lane.index == 0u) { row_shares[row * SPLITS + in_row / WORKGROUP_SIZE] = share; }
}
