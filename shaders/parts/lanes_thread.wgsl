// An invocation a row.

fn lanes() -> u32 {
    return 1u;
}

struct Lane {
    @builtin(local_invocation_index) index: u32,
}

fn row_of(group: vec3<u32>, lane: Lane) -> u32 {
    return group_number(group) * WORKGROUP_SIZE + lane.index;
}

fn lane_of(lane: Lane) -> u32 {
    return 0u;
}
