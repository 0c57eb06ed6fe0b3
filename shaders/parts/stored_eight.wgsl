// Eight classes in four words of 64 bits. The lower half of each comes first in memory.

struct Eight {
    low: vec4<u32>,
    high: vec4<u32>,
}

alias StoredWord = vec4<u64>;

fn from_stored(word: StoredWord) -> Eight {
    let low = vec4<u32>(u32(word.x), u32(word.x >> 32u), u32(word.y), u32(word.y >> 32u));
    let high = vec4<u32>(u32(word.z), u32(word.z >> 32u), u32(word.w), u32(word.w >> 32u));
    return Eight(low, high);
}

fn to_stored(word: Eight) -> StoredWord {
    let low = vec2<u64>(u64(word.low.x) | (u64(word.low.y) << 32u), u64(word.low.z) | (u64(word.low.w) << 32u));
    let high = vec2<u64>(u64(word.high.x) | (u64(word.high.y) << 32u), u64(word.high.z) | (u64(word.high.w) << 32u));
    return vec4<u64>(low, high);
}
