// 16 bytes as two words of 64 bits. For CPUs: a driver that loads and stores word by word, for one invocation after the
// other, does so half as often. The lower half of each comes first in memory.

alias StoredWord = vec2<u64>;

fn from_stored(word: StoredWord) -> vec4<u32> {
    return vec4<u32>(u32(word.x), u32(word.x >> 32u), u32(word.y), u32(word.y >> 32u));
}

fn to_stored(word: vec4<u32>) -> StoredWord {
    return vec2<u64>(u64(word.x) | (u64(word.y) << 32u), u64(word.z) | (u64(word.w) << 32u));
}
