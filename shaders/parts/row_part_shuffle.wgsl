// A neighbour's share. Called in uniform control flow only.

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
    part.sum = subgroupShuffleXor(mine.sum, step);
    return part;
}
