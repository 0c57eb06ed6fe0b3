// bf16 in halves of words: the upper half of an f32. Stored to the nearest, ties to even.

fn unpack_two(word: u32) -> vec2<u32> {
    return vec2<u32>(word << 16u, word & 0xffff0000u);
}

fn pack_two(words: vec2<u32>) -> u32 {
    let nan = (words & vec2<u32>(0x7fffffffu)) > vec2<u32>(INFINITY_BITS);
    let rounded = words + vec2<u32>(0x7fffu) + ((words >> vec2<u32>(16u)) & vec2<u32>(1u));
    let halves = select(rounded >> vec2<u32>(16u), vec2<u32>(0x7fc0u), nan);
    return halves.x | (halves.y << 16u);
}
