// LANES invocations a row, several rows a workgroup, none of which spans two subgroups. Places are counted within
// subgroups, so that nothing is assumed of how a workgroup is cut into them, but that they are full.

// A power of two, at most the smallest subgroup of the device, and a divisor of the workgroup size.
override LANES: u32 = 8u;

fn lanes() -> u32 {
    return LANES;
}

struct Lane {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_invocation_id) in_subgroup: u32,
    @builtin(subgroup_size) subgroup_size: u32,
    @builtin(subgroup_id) subgroup: u32,
}

// Place in the subgroup. Every kernel asks for its row first.
var<private> own_lane: u32;

fn row_of(group: vec3<u32>, lane: Lane) -> u32 {
    own_lane = lane.in_subgroup;
    let in_group = lane.subgroup * (lane.subgroup_size / LANES) + lane.in_subgroup / LANES;
    return group_number(group) * (WORKGROUP_SIZE / LANES) + in_group;
}

fn lane_of(lane: Lane) -> u32 {
    return lane.in_subgroup % LANES;
}
