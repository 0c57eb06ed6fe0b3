// LANES invocations a row, several rows a workgroup. The invocations of a row are neighbours.

// A power of two, and a divisor of the workgroup size.
override LANES: u32 = 8u;

fn lanes() -> u32 {
    return LANES;
}

struct Lane {
    @builtin(local_invocation_index) index: u32,
}

fn row_of(group: vec3<u32>, lane: Lane) -> u32 {
    return group_number(group) * (WORKGROUP_SIZE / LANES) + lane.index / LANES;
}

fn lane_of(lane: Lane) -> u32 {
    return lane.index % LANES;
}

// All of a row's invocations meet in one reduction.
fn lanes_of_shares() -> u32 {
    return lanes();
}

fn lane_of_shares(lane: Lane) -> u32 {
    return lane_of(lane);
}
