// Several workgroups a row: as if one workgroup of many more invocations had it. A reduction goes over one workgroup; what
// it finds meets that of the others in memory.

override SPLITS: u32 = 2u;

fn lanes() -> u32 {
    return WORKGROUP_SIZE * SPLITS;
}

struct Lane {
    @builtin(local_invocation_index) index: u32,
}

// Which of the row's workgroups this is. Every kernel asks for its row first.
var<private> split: u32;

fn row_of(group: vec3<u32>, lane: Lane) -> u32 {
    split = group_number(group) % SPLITS;
    return group_number(group) / SPLITS;
}

fn lane_of(lane: Lane) -> u32 {
    return split * WORKGROUP_SIZE + lane.index;
}

fn lanes_of_shares() -> u32 {
    return WORKGROUP_SIZE;
}

fn lane_of_shares(lane: Lane) -> u32 {
    return lane.index;
}
