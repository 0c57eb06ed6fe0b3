// What a row has once (label, weights) the first of its invocations reads for all: drivers that run on CPUs walk over the
// invocations for each load, and pass by those that do not take part. Numbers that come of it are the leader's; what it
// says is asked for in uniform control flow only.

fn leader() -> u32 {
    return own_lane - own_lane % LANES;
}

fn is_leader() -> bool {
    return own_lane == leader();
}

fn word_of_leader(word: u32) -> u32 {
    return subgroupShuffle(word, leader());
}

fn number_of_leader(number: f32) -> f32 {
    return subgroupShuffle(number, leader());
}
