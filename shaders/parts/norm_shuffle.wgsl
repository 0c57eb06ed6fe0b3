// A neighbour's share of a normalization. Called in uniform control flow only.

fn shuffled_norm(mine: Norm, step: u32) -> Norm {
    return Norm(subgroupShuffleXor(mine.others, step));
}
