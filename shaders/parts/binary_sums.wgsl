// What some elements add up to. What is not a number among the losses is kept apart: WGSL need not carry NaN or
// infinity through a sum.

struct Sums {
    loss: f32,
    kinds: u32, // of losses: bit 0: a NaN, bit 1: +inf, bit 2: -inf
    weights: f32,
    sample_weights: f32,
    valid: u32,
    ignored: u32,
    nonzero: u32,
    nonfinite: u32,
    first_bad: u32,
    correct: u32,
    correct_weights: f32,
}

// Words of one in the table.
const SUMS_WORDS: u32 = 11u;

fn no_sums() -> Sums {
    return Sums(0.0, 0u, 0.0, 0.0, 0u, 0u, 0u, 0u, 0xffffffffu, 0u, 0.0);
}

fn add(a: Sums, b: Sums) -> Sums {
    return Sums(
        a.loss + b.loss,
        a.kinds | b.kinds,
        a.weights + b.weights,
        a.sample_weights + b.sample_weights,
        a.valid + b.valid,
        a.ignored + b.ignored,
        a.nonzero + b.nonzero,
        a.nonfinite + b.nonfinite,
        min(a.first_bad, b.first_bad),
        a.correct + b.correct,
        a.correct_weights + b.correct_weights,
    );
}

fn sum_four(x: vec4<f32>) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}

fn count_four(is: vec4<bool>) -> u32 {
    let ones = select(vec4<u32>(0u), vec4<u32>(1u), is);
    return (ones.x + ones.y) + (ones.z + ones.w);
}

// The weights' part of four elements' sums.
fn take_weights(before: Sums, counts: vec4<bool>, ignored: vec4<bool>, s: vec4<f32>, weight: vec4<f32>) -> Sums {
    var sums = before;
    let zero = vec4<f32>(0.0);
    sums.valid += count_four(counts);
    sums.ignored += count_four(ignored);
    sums.sample_weights += sum_four(select(zero, s, counts));
    sums.weights += sum_four(select(zero, weight, counts));
    // By their bits: NaN is no zero, whatever a driver compares.
    let magnitudes = bitcast<vec4<u32>>(weight) & vec4<u32>(0x7fffffffu);
    sums.nonzero += count_four(counts & (magnitudes != vec4<u32>(0u)));
    return sums;
}

fn store_sums(number: u32, sums: Sums) {
    let at = params.partials_at + number * SUMS_WORDS;
    table.values[at] = bitcast<u32>(sums.loss);
    table.values[at + 1u] = sums.kinds;
    table.values[at + 2u] = bitcast<u32>(sums.weights);
    table.values[at + 3u] = bitcast<u32>(sums.sample_weights);
    table.values[at + 4u] = sums.valid;
    table.values[at + 5u] = sums.ignored;
    table.values[at + 6u] = sums.nonzero;
    table.values[at + 7u] = sums.nonfinite;
    table.values[at + 8u] = sums.first_bad;
    table.values[at + 9u] = sums.correct;
    table.values[at + 10u] = bitcast<u32>(sums.correct_weights);
}

fn load_sums(number: u32) -> Sums {
    let at = params.partials_at + number * SUMS_WORDS;
    return Sums(
        bitcast<f32>(table.values[at]),
        table.values[at + 1u],
        bitcast<f32>(table.values[at + 2u]),
        bitcast<f32>(table.values[at + 3u]),
        table.values[at + 4u],
        table.values[at + 5u],
        table.values[at + 6u],
        table.values[at + 7u],
        table.values[at + 8u],
        table.values[at + 9u],
        bitcast<f32>(table.values[at + 10u]),
    );
}
