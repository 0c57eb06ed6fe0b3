// Logarithms and powers of four numbers, in the ranges where they hold.

// log(1 + e) for e from 0 to 1, to f32's relative precision.
fn log_1p_four(e: vec4<f32>) -> vec4<f32> {
    let s = e / (2.0 + e);
    let t = s * s;
    let series = 2.0 * s * (1.0 + t * (1.0 / 3.0 + t * (0.2 + t * (1.0 / 7.0 + t * (1.0 / 9.0)))));
    return select(log(1.0 + e), series, e <= vec4<f32>(0.5));
}

// m^exponent, and 0 for m <= 0. Never a logarithm of 0, and never an overflow.
fn power(m: vec4<f32>, exponent: f32) -> vec4<f32> {
    let logarithm = log(max(m, vec4<f32>(0x1p-126f)));
    let value = exp(clamp(exponent * logarithm, vec4<f32>(-104.0), vec4<f32>(88.0)));
    return select(value, vec4<f32>(0.0), m <= vec4<f32>(0.0));
}

// A number whose order among integers is that of the float's among floats: comparing it flushes nothing.
fn ordered(words: vec4<u32>) -> vec4<i32> {
    let bits = bitcast<vec4<i32>>(words);
    return select(bits, bits ^ vec4<i32>(0x7fffffff), bits < vec4<i32>(0));
}

fn finite_four(x: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(x) & vec4<u32>(INFINITY_BITS)) != vec4<u32>(INFINITY_BITS);
}
