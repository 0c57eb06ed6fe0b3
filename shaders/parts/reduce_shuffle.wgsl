// A row within a subgroup: shares are exchanged in pairs, then in fours, and so on. No workgroup memory, no barrier. The
// exchange is symmetrical, so all invocations of a row end with the same bits.

fn reduce(part: Part, lane: Lane) -> Part {
    var all = part;
    for (var step = 1u; step < LANES; step <<= 1u) {
        all = combine(all, shuffled(all, step));
    }
    return all;
}
