// A neighbour's moments. Called in uniform control flow only.

fn shuffled_moments(mine: Moments, step: u32) -> Moments {
    return Moments(
        subgroupShuffleXor(mine.loss, step),
        subgroupShuffleXor(mine.others, step),
        subgroupShuffleXor(mine.top, step),
        subgroupShuffleXor(mine.expected, step),
        subgroupShuffleXor(mine.held, step),
        subgroupShuffleXor(mine.infinite, step),
    );
}
