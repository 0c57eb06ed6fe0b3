// Numbers as whole multiples of 2^-48 in three words, two's complement, low word first: their sums are exact, and so the
// same in any order. Made from an f32's bits, so that no driver's rounding is in them.

// Whether an f32 is a number below 2^24 in size. Of larger ones, 2^23 rows would pass what three words hold.
fn can_be_summed(word: u32) -> bool {
    return (word & 0x7fffffffu) < 0x4b800000u;
}

// Such a number, to the nearest multiple, halves away from zero.
fn fixed_point(word: u32) -> vec3<u32> {
    let exponent = (word >> 23u) & 0xffu;
    // The number is mantissa * 2^(exponent - 150), the result mantissa * 2^(exponent - 102). Below 2^-49 there is nothing
    // to keep, denormals included.
    let mantissa = (word & 0x7fffffu) | 0x800000u;
    if (exponent < 78u) { return vec3<u32>(0u); }
    var size = vec3<u32>(0u);
    if (exponent <= 102u) {
        let down = 102u - exponent;
        size.x = (mantissa + ((1u << down) >> 1u)) >> down;
    } else {
        let up = exponent - 102u;
        let bits = up % 32u;
        let low = mantissa << bits;
        // In two steps, for a shift by 32 is none.
        let high = (mantissa >> 1u) >> (31u - bits);
        size = select(vec3<u32>(low, high, 0u), vec3<u32>(0u, low, high), up >= 32u);
    }
    if ((word & 0x80000000u) == 0u) { return size; }
    return plus(~size, vec3<u32>(1u, 0u, 0u));
}

fn plus(a: vec3<u32>, b: vec3<u32>) -> vec3<u32> {
    let low = a.x + b.x;
    let carry = select(0u, 1u, low < b.x);
    let middle = a.y + b.y;
    let with_carry = middle + carry;
    let carries = select(0u, 1u, middle < b.y) + select(0u, 1u, with_carry < carry);
    return vec3<u32>(low, with_carry, a.z + b.z + carries);
}
