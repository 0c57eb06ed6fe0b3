// A workgroup a row, with subgroups. One barrier, or none where the workgroup is a single subgroup.

// One a subgroup; as many as invocations, for no size is promised from below.
var<workgroup> shares: array<Part, WORKGROUP_SIZE>;

fn reduce(part: Part, lane: Lane) -> Part {
    let mine = combine_subgroup(part);
    if (SINGLE_SUBGROUP) {
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
