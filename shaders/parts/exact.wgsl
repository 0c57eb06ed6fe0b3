// Sums without rounding: whole multiples of 2^-64 in 128 bits, two's complement, the lowest word first.
//
// Whole numbers add up to the same in any order: the bits of a sum depend neither on tiles nor on the device.

// A term, cut to a multiple of 2^-64 and to 2^(limit + 1) at most. 0 for what is not finite.
fn exact_of(x: f32, limit: u32) -> vec4<u32> {
    let bits = bitcast<u32>(x);
    let exponent = (bits >> 23u) & 0xffu;
    if (exponent == 255u) { return vec4<u32>(0u); }
    var mantissa = (bits & 0x7fffffu) | 0x800000u;
    // The place of the mantissa's lowest bit: 2^(exponent - 150) is 2^-64 at 86.
    if (exponent < 86u) {
        let lost = 86u - exponent;
        if (lost > 23u) { return vec4<u32>(0u); }
        return signed(vec4<u32>(mantissa >> lost, 0u, 0u, 0u), bits);
    }
    let highest = limit + 127u;
    if (exponent > highest) { mantissa = 0xffffffu; }
    let place = min(exponent, highest) - 86u;
    let bit = place % 32u;
    let low = mantissa << bit;
    // Shifts by 32 are none in WGSL.
    let high = select(0u, mantissa >> (32u - max(bit, 1u)), bit > 0u);
    let word = place / 32u;
    let pair = vec4<u32>(
        select(0u, low, word == 0u),
        select(select(0u, high, word == 0u), low, word == 1u),
        select(select(0u, high, word == 1u), low, word == 2u),
        select(select(0u, high, word == 2u), low, word == 3u),
    );
    return signed(pair, bits);
}

fn signed(magnitude: vec4<u32>, sign_bit: u32) -> vec4<u32> {
    return select(magnitude, exact_negation(magnitude), vec4<bool>(sign_bit >= 0x80000000u));
}

fn exact_sum(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    var sum = a + b;
    // What each word carries to the next. A word that is all ones passes a carry on, and carries none of its own.
    var carries = select(vec4<u32>(0u), vec4<u32>(1u), sum < a);
    sum.y += carries.x;
    carries.y += select(0u, 1u, sum.y < carries.x);
    sum.z += carries.y;
    carries.z += select(0u, 1u, sum.z < carries.y);
    sum.w += carries.z;
    return sum;
}

fn exact_negation(x: vec4<u32>) -> vec4<u32> {
    return exact_sum(~x, vec4<u32>(1u, 0u, 0u, 0u));
}

// The nearest f32.
fn exact_value(x: vec4<u32>) -> f32 {
    let negative = x.w >= 0x80000000u;
    let words = select(x, exact_negation(x), vec4<bool>(negative));
    // The highest word that is not 0, the one below it, and how many words are below that one's top.
    var top = vec3<u32>(words.x, 0u, 0u);
    if (words.y > 0u) { top = vec3<u32>(words.y, words.x, 1u); }
    if (words.z > 0u) { top = vec3<u32>(words.z, words.y, 2u); }
    if (words.w > 0u) { top = vec3<u32>(words.w, words.z, 3u); }
    if (top.x == 0u) { return 0.0; }
    let zeros = countLeadingZeros(top.x);
    let leading = (top.x << zeros) | select(0u, top.y >> (32u - max(zeros, 1u)), zeros > 0u);
    // 24 bits, rounded by the next one; they may round up to 2^24.
    let mantissa = (leading >> 8u) + ((leading >> 7u) & 1u);
    // The lowest of the 24 is worth 2^(32 words + 8 - zeros - 64).
    let scale = bitcast<f32>((32u * top.z + 71u - zeros) << 23u);
    let value = f32(mantissa) * scale;
    return select(value, -value, negative);
}
