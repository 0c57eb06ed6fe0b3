// A workgroup a row.

fn lanes() -> u32 {
    return WORKGROUP_SIZE;
}

struct Lane {
    @builtin(local_invocation_index) index: u32,
}

fn row_of(group: vec3<u32>, lane: Lane) -> u32 {
    return group_number(group);
}

fn lane_of(lane: Lane) -> u32 {
    return lane.index;
}

// All of a row's invocations meet in one reduction.
fn lanes_of_shares() -> u32 {
    return lanes();
}

fn lane_of_shares(lane: Lane) -> u32 {
    return lane_of(lane);
}
