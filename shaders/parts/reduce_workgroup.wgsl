// Rows without subgroups: shares go through workgroup memory. One barrier for up to eight invocations a row; for more,
// two levels of eight, which is two barriers.

// Named, for naga 30 fails on a module whose array sizes are nameless expressions of overrides.
override EIGHTHS: u32 = (WORKGROUP_SIZE + 7u) / 8u;

var<workgroup> shares: array<Part, WORKGROUP_SIZE>;
var<workgroup> eighths: array<Part, EIGHTHS>;

fn reduce(part: Part, lane: Lane) -> Part {
    shares[lane.index] = part;
    // Every share must be written before any other invocation reads it.
    workgroupBarrier();
    let in_row = lane_of_shares(lane);
    let row_start = lane.index - in_row;
    if (lanes_of_shares() <= 8u) {
        var all = shares[row_start];
        for (var i = 1u; i < lanes_of_shares(); i++) {
            all = combine(all, shares[row_start + i]);
        }
        return all;
    }
    let from_share = in_row * 8u;
    if (from_share < lanes_of_shares()) {
        var eighth = shares[row_start + from_share];
        for (var i = from_share + 1u; i < min(from_share + 8u, lanes_of_shares()); i++) {
            eighth = combine(eighth, shares[row_start + i]);
        }
        eighths[row_start / 8u + in_row] = eighth;
    }
    // The same for the eighths. `shares` is not written again: each is reduced once in a workgroup.
    workgroupBarrier();
    var all = eighths[row_start / 8u];
    for (var i = 1u; i < (lanes_of_shares() + 7u) / 8u; i++) {
        all = combine(all, eighths[row_start / 8u + i]);
    }
    return all;
}
