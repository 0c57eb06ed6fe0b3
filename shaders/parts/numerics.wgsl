// Numbers that WGSL does not promise: NaN and infinity by their bits, exp and log in the ranges where they hold.

// 0x1.fep+126. Finite logits are clamped to it, so that no difference of two logits overflows.
const LOGIT_LIMIT: f32 = 0x1.fep+126f;
// 0x1.ffp+126, just above: stands for +inf and NaN; negated, for -inf.
const STAND_IN: f32 = 0x1.ffp+126f;

const NEGATIVE_INFINITY_BITS: u32 = 0xff800000u;
const INFINITY_BITS: u32 = 0x7f800000u;
const NAN_BITS: u32 = 0x7fc00000u;

// Logits as finite numbers.
fn tame(words: vec4<u32>) -> vec4<f32> {
    let finite = (words & vec4<u32>(INFINITY_BITS)) != vec4<u32>(INFINITY_BITS);
    let negative_infinity = words == vec4<u32>(NEGATIVE_INFINITY_BITS);
    let infinite = select(vec4<f32>(STAND_IN), vec4<f32>(-STAND_IN), negative_infinity);
    let clamped = clamp(bitcast<vec4<f32>>(words), vec4<f32>(-LOGIT_LIMIT), vec4<f32>(LOGIT_LIMIT));
    return select(infinite, clamped, finite);
}

fn is_nan(word: u32) -> bool {
    return (word & 0x7fffffffu) > INFINITY_BITS;
}

fn is_infinite(word: u32) -> bool {
    return (word & 0x7fffffffu) == INFINITY_BITS;
}

// exp(x) for x up to about 4. exp(-104) rounds to 0 in f32; below that some drivers' exp is not to be trusted, and is
// exactly 0 here.
fn exp_difference(x: f32) -> f32 {
    return select(exp(x), 0.0, x < -104.0);
}

// exp(z - reference). Of a stand-in of -inf it is 0, unless there is nothing else.
fn exp_four(z: vec4<f32>, reference: f32) -> vec4<f32> {
    let x = z - vec4<f32>(reference);
    // Zeros last: a CPU's exp ends in a product that it can mask.
    return select(vec4<f32>(0.0), exp(x), x >= vec4<f32>(-104.0));
}

// log(1 + x), x >= 0, to f32's relative precision: WGSL's log is only absolutely precise near 1, and a driver's may divide.
// 1 + x = 2^k (1 + f), f from sqrt(1/2) - 1 to sqrt(2) - 1, and f is x itself where k is 0: nothing of a small x is lost.
// Then 2 atanh(f / (2 + f)) as a series, whose first term left out is 1e-9 of the sum.
fn log_1p(x: f32) -> f32 {
    let whole = bitcast<u32>(1.0 + x);
    // The bits of sqrt(1/2): what is below is of the power before.
    let k = bitcast<i32>(whole - 0x3f3504f3u) >> 23u;
    let f = select(bitcast<f32>(whole - (bitcast<u32>(k) << 23u)) - 1.0, x, k == 0);
    let s = f / (2.0 + f);
    let t = s * s;
    let series = 2.0 * s * (1.0 + t * (1.0 / 3.0 + t * (0.2 + t * (1.0 / 7.0 + t * (1.0 / 9.0)))));
    return f32(k) * 0.693147182 + series;
}
