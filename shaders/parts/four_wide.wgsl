// 16 bytes as two words of 64 bits. For CPUs: a driver that loads and stores word by word, for one invocation after the
// other, does so half as often. The lower half of each comes first in memory.

alias FourWords = vec2<u64>;

fn four_of(words: FourWords) -> vec4<u32> {
    return vec4<u32>(u32(words.x), u32(words.x >> 32u), u32(words.y), u32(words.y >> 32u));
}

fn to_four(words: vec4<u32>) -> FourWords {
    return vec2<u64>(u64(words.x) | (u64(words.y) << 32u), u64(words.z) | (u64(words.w) << 32u));
}
