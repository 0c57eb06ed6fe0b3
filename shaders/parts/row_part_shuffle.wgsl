// A row's shares within a subgroup: they are exchanged in pairs, then in fours, and so on. First what is largest, then sums
// that are all relative to it: an invocation takes two exponentials, however many share the row. No workgroup memory, no
// barrier. The exchange is symmetrical, so all invocations of a row end with the same bits. Called in uniform control flow
// only.

fn reduce(mine: Part, lane: Lane) -> Part {
    var all = mine;
    for (var step = 1u; step < LANES; step <<= 1u) {
        all = combine_tops(all, shuffled(all, step));
    }
    // Every top but the row's joins the others.
    var sum = relative_to(mine.sum, mine.reference, all.reference);
    sum += select(term(mine.top, all.reference), 0.0, mine.top_at == all.top_at);
    for (var step = 1u; step < LANES; step <<= 1u) {
        sum += subgroupShuffleXor(sum, step);
    }
    all.sum = sum;
    return all;
}

// A neighbour's share, without its sum.
fn shuffled(mine: Part, step: u32) -> Part {
    var part = mine;
    part.top = subgroupShuffleXor(mine.top, step);
    part.top_at = subgroupShuffleXor(mine.top_at, step);
    if (ADJUSTS) {
        part.raw_top = subgroupShuffleXor(mine.raw_top, step);
        part.raw_top_at = subgroupShuffleXor(mine.raw_top_at, step);
    }
    part.label = subgroupShuffleXor(mine.label, step);
    part.label_at = subgroupShuffleXor(mine.label_at, step);
    part.reference = subgroupShuffleXor(mine.reference, step);
    return part;
}
