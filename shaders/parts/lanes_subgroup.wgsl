// A workgroup a row, with subgroups of any size, known at run time only.

fn lanes() -> u32 {
    return WORKGROUP_SIZE;
}

// Whether the workgroup is known to be one subgroup: then nothing goes through workgroup memory. A constant, because
// browsers' compilers take no built-in value out of a struct for uniform, and a barrier needs uniform control flow.
override SINGLE_SUBGROUP: bool = false;

struct Lane {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_invocation_id) in_subgroup: u32,
    @builtin(subgroup_size) subgroup_size: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
}

fn row_of(group: vec3<u32>, lane: Lane) -> u32 {
    return group_number(group);
}

fn lane_of(lane: Lane) -> u32 {
    return lane.index;
}
