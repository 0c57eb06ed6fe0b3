// Eight classes in four words of 64 bits.

struct Eight {
    low: vec4<u32>,
    high: vec4<u32>,
}

alias StoredWord = vec4<u64>;

fn from_stored(word: StoredWord) -> Eight {
    return Eight(four_of(word.xy), four_of(word.zw));
}

fn to_stored(word: Eight) -> StoredWord {
    return vec4<u64>(to_four(word.low), to_four(word.high));
}
