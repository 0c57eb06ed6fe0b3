// A workgroup a row, without subgroups: shares go through workgroup memory in two levels of eight, which is two
// barriers for any workgroup up to 256.

override LANES: u32 = WORKGROUP_SIZE;

struct Lane {
    @builtin(local_invocation_index) index: u32,
}

var<workgroup> shares: array<Part, WORKGROUP_SIZE>;
var<workgroup> eighths: array<Part, (WORKGROUP_SIZE + 7u) / 8u>;

fn row_of(group: vec3<u32>, lane: Lane) -> u32 {
    return group_number(group);
}

fn lane_of(lane: Lane) -> u32 {
    return lane.index;
}

fn reduce(part: Part, lane: Lane) -> Part {
    shares[lane.index] = part;
    // Every share must be written before any other invocation reads it.
    workgroupBarrier();
    let from_share = lane.index * 8u;
    if (from_share < WORKGROUP_SIZE) {
        var eighth = shares[from_share];
        for (var i = from_share + 1u; i < min(from_share + 8u, WORKGROUP_SIZE); i++) {
            eighth = combine(eighth, shares[i]);
        }
        eighths[lane.index] = eighth;
    }
    // The same for the eighths. `shares` is not written again: the row is done once in a workgroup.
    workgroupBarrier();
    var all = eighths[0];
    for (var i = 1u; i < (WORKGROUP_SIZE + 7u) / 8u; i++) {
        all = combine(all, eighths[i]);
    }
    return all;
}
