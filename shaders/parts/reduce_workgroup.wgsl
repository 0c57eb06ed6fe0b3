// A workgroup a row, without subgroups: shares go through workgroup memory in two levels of eight, which is two
// barriers for any workgroup up to 256.

// Named, for naga 30 fails on a module whose array sizes are nameless expressions of overrides.
override EIGHTHS: u32 = (WORKGROUP_SIZE + 7u) / 8u;

var<workgroup> shares: array<Part, WORKGROUP_SIZE>;
var<workgroup> eighths: array<Part, EIGHTHS>;

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
    // The same for the eighths. `shares` is not written again: each is reduced once in a workgroup.
    workgroupBarrier();
    var all = eighths[0];
    for (var i = 1u; i < EIGHTHS; i++) {
        all = combine(all, eighths[i]);
    }
    return all;
}
