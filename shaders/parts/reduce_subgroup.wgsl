// A workgroup a row, with subgroups of any size, known at run time only. One barrier, or none where the workgroup
// is a single subgroup.

override LANES: u32 = WORKGROUP_SIZE;

struct Lane {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_invocation_id) in_subgroup: u32,
    @builtin(subgroup_size) subgroup_size: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
}

// One a subgroup; as many as invocations, for no size is promised from below.
var<workgroup> shares: array<Part, WORKGROUP_SIZE>;

fn row_of(group: vec3<u32>, lane: Lane) -> u32 {
    return group_number(group);
}

fn lane_of(lane: Lane) -> u32 {
    return lane.index;
}

fn reduce(part: Part, lane: Lane) -> Part {
    let mine = combine_subgroup(part);
    // Uniform: every invocation of the workgroup sees the same number of subgroups.
    if (lane.subgroups == 1u) {
        return mine;
    }
    if (lane.in_subgroup == 0u) {
        shares[lane.subgroup] = mine;
    }
    // Every subgroup's share must be written before any subgroup reads it.
    workgroupBarrier();
    var all = empty_part();
    for (var i = lane.in_subgroup; i < lane.subgroups; i += lane.subgroup_size) {
        all = combine(all, shares[i]);
    }
    // Every subgroup repeats this: no second barrier, no subgroup operation in divergent flow.
    return combine_subgroup(all);
}
