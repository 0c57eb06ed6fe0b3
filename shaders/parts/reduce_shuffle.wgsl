// What is summed of a row within a subgroup, as in `row_part_shuffle`. `Part` itself has a reduction of its own there.

fn reduce(part: Part, lane: Lane) -> Part {
    var all = part;
    for (var step = 1u; step < LANES; step <<= 1u) {
        all = combine(all, shuffled(all, step));
    }
    return all;
}
