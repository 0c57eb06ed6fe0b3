// What a row has once (label, weights) all of its invocations read: the same word, so one load on GPUs.

fn is_leader() -> bool {
    return true;
}

fn word_of_leader(word: u32) -> u32 {
    return word;
}

fn number_of_leader(number: f32) -> f32 {
    return number;
}
