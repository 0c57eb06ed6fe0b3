// f16 in halves of words, without the f16 feature. By bits, for what unpack2x16float makes of NaN and infinity is not
// promised.

fn unpack_two(word: u32) -> vec2<u32> {
    let halves = vec2<u32>(word & 0xffffu, word >> 16u);
    let special = (halves & vec2<u32>(0x7c00u)) == vec2<u32>(0x7c00u);
    let finite = bitcast<vec2<u32>>(unpack2x16float(word));
    let sign = (halves & vec2<u32>(0x8000u)) << vec2<u32>(16u);
    let infinite = sign | vec2<u32>(0x7f800000u) | ((halves & vec2<u32>(0x3ffu)) << vec2<u32>(13u));
    return select(finite, infinite, special);
}

fn pack_two(words: vec2<u32>) -> u32 {
    let nan = (words & vec2<u32>(0x7fffffffu)) > vec2<u32>(INFINITY_BITS);
    // Clamped to the largest f16: an overflow is not promised to become infinity.
    let values = clamp(bitcast<vec2<f32>>(select(words, vec2<u32>(0u), nan)), vec2<f32>(-65504.0), vec2<f32>(65504.0));
    let packed = pack2x16float(values);
    let low = select(packed & 0xffffu, 0x7e00u, nan.x);
    let high = select(packed & 0xffff0000u, 0x7e000000u, nan.y);
    return low | high;
}
