// Class weights, and the log-prior, from class counts into the table.
//
//     with n[c] the smoothed count of a class that has rows, n their sum, K the classes (those with rows, or all):
//     SCHEME 0, Balanced:         w[c] = n / (K n[c])
//     SCHEME 1, Inverse:          w[c] = 1 / n[c]
//     SCHEME 2, InversePower:     w[c] = n[c]^-P, scaled so that the sum of n[c] w[c] is n
//     SCHEME 3, EffectiveNumber:  w[c] = 1 / (1 - beta^n[c]), scaled so that the weights sum to K
//     SCHEME 4, MedianFrequency:  w[c] = median of n[c] / n[c]
//     SCHEME 5, LogFrequency:     w[c] = 1 / log(A + n[c] / n)
//     SCHEME 6, InverseFrequency: w[c] = (n / n[c])^P
//     a class with no row: the absent weight, never infinity
//     log-prior:                  bias[c] = TAU log((n[c] + PRIOR_SMOOTHING) / sum of the same)
//
// Counts are u32, or f32 where they are mass or go over many batches. One workgroup: the sums need all counts, and
// even 262,144 of them are little work.

override WORKGROUP_SIZE: u32 = 256u;
override SCHEME: u32 = 0u;
override SCHEME_NUMBER: f32 = 1.0; // P, log(beta), or A
override COUNT_SMOOTHING: f32 = 0.0;
override MIN_WEIGHT: f32 = 0.0;
override MAX_WEIGHT: f32 = 3.40282346638528859812e38f;
override OVER_ALL: bool = false;
override ABSENT_WEIGHT: f32 = 0.0;
override WRITES_WEIGHTS: bool = true;
override WRITES_BIAS: bool = false;
override TAU: f32 = 1.0;
override PRIOR_SMOOTHING: f32 = 1.0;
// Whether counts are f32.
override FLOAT_COUNTS: bool = false;

@group(0) @binding(CLASS_COUNTS) var<storage, read> class_counts: array<u32>;

const LARGEST: f32 = 3.40282346638528859812e38f;
const LARGEST_BITS: u32 = 0x7f7fffffu;

var<workgroup> words_of: array<vec4<u32>, WORKGROUP_SIZE>;

// A count as a word that orders as counts do, 0 where a class has no rows: a mass that is not above 0, or no number. And
// behind the last class: all invocations walk as far as the first, for one driver (llvmpipe's GL, Mesa 22.3.6) loses what an
// invocation found in a loop that its neighbours stay in.
fn count_at(class_index: u32) -> u32 {
    let word = class_counts[min(class_index, params.classes - 1u)];
    return select(word, 0u, class_index >= params.classes || (FLOAT_COUNTS && word > LARGEST_BITS));
}

fn number_of(word: u32) -> f32 {
    return select(f32(word), bitcast<f32>(word), FLOAT_COUNTS);
}

// Sums over the workgroup, which every invocation gets, added in the same order: a whole number of 64 bits in x and y,
// another of 32 in z, and an f32 in w.
fn add_words(mine: vec4<u32>, index: u32) -> vec4<u32> {
    // What the last call left is read by all before it is overwritten.
    workgroupBarrier();
    words_of[index] = mine;
    workgroupBarrier();
    var all = vec4<u32>(0u);
    for (var i = 0u; i < WORKGROUP_SIZE; i++) {
        let other = words_of[i];
        let low = all.x + other.x;
        let sum = bitcast<u32>(bitcast<f32>(all.w) + bitcast<f32>(other.w));
        all = vec4<u32>(low, all.y + other.y + select(0u, 1u, low < all.x), all.z + other.z, sum);
    }
    return all;
}

fn add_floats(mine: f32, index: u32) -> f32 {
    return bitcast<f32>(add_words(vec4<u32>(0u, 0u, 0u, bitcast<u32>(mine)), index).w);
}

fn least_word(mine: u32, index: u32) -> u32 {
    workgroupBarrier();
    words_of[index] = vec4<u32>(mine, 0u, 0u, 0u);
    workgroupBarrier();
    var least = mine;
    for (var i = 0u; i < WORKGROUP_SIZE; i++) { least = min(least, words_of[i].x); }
    return least;
}

// The weight before its scale, times its scale. Powers are relative to the rarest class, which has `least` rows, so that
// sums of them stay within f32; and go in halves, for a half underflows only where the whole is far below f32.
fn scaled_weight(scale: f32, n: f32, least: f32) -> f32 {
    if (SCHEME == 2u) {
        let half = pow(n / least, -0.5 * SCHEME_NUMBER);
        return scale * half * half;
    }
    if (SCHEME == 3u) { return scale / one_minus_exp(n * SCHEME_NUMBER); }
    return scale / n;
}

// The median of the counts above zero: the value at one place of their order, found bit by bit, and the next one.
fn median_count(present: u32, index: u32) -> f32 {
    let place = (present - 1u) / 2u;
    var value = 0u;
    for (var bit = 0u; bit < 32u; bit++) {
        let candidate = value | (0x80000000u >> bit);
        var below = 0u;
        for (var class_index = index; class_index - index < params.classes; class_index += WORKGROUP_SIZE) {
            let count = count_at(class_index);
            below += select(0u, 1u, count > 0u && count < candidate);
        }
        // The value is at least the candidate where no more than `place` counts are below it.
        if (add_words(vec4<u32>(0u, 0u, below, 0u), index).z <= place) { value = candidate; }
    }
    var at_most = 0u;
    var next = 0xffffffffu;
    for (var class_index = index; class_index - index < params.classes; class_index += WORKGROUP_SIZE) {
        let count = count_at(class_index);
        at_most += select(0u, 1u, count > 0u && count <= value);
        if (count > value) { next = min(next, count); }
    }
    let all_at_most = add_words(vec4<u32>(0u, 0u, at_most, 0u), index).z;
    next = least_word(next, index);
    let upper = select(next, value, present % 2u == 1u || all_at_most > place + 1u);
    return 0.5 * number_of(value) + 0.5 * number_of(upper);
}

// log(part / whole), also where the quotient is below all f32.
fn log_share(part: f32, whole: f32) -> f32 {
    let share = part / whole;
    if (share < 0x1p-120f) { return log(part) - log(whole); }
    return log(share);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(local_invocation_index) index: u32) {
    var whole = vec4<u32>(0u);
    var sum = 0.0;
    var least_count = 0xffffffffu;
    for (var class_index = index; class_index - index < params.classes; class_index += WORKGROUP_SIZE) {
        let count = count_at(class_index);
        let low = whole.x + count;
        whole = vec4<u32>(low, whole.y + select(0u, 1u, low < whole.x), whole.z + select(0u, 1u, count > 0u), 0u);
        sum += number_of(count);
        if (count > 0u) { least_count = min(least_count, count); }
    }
    whole.w = bitcast<u32>(sum);
    let all = add_words(whole, index);
    // Whole counts add up exactly, and are rounded once.
    let exact_rows = f32(all.y) * 4294967296.0 + f32(all.x);
    let unsmoothed = select(exact_rows, bitcast<f32>(all.w), FLOAT_COUNTS);
    let rows = unsmoothed + COUNT_SMOOTHING * f32(all.z);
    let classes = f32(select(all.z, params.classes, OVER_ALL));

    var scale = 1.0;
    var least = 1.0;
    if (WRITES_WEIGHTS) {
        if (SCHEME == 0u) { scale = rows / classes; }
        if (SCHEME == 2u || SCHEME == 3u) {
            // Without rows it is not used.
            least = number_of(least_word(least_count, index)) + COUNT_SMOOTHING;
            var shares = 0.0;
            for (var class_index = index; class_index - index < params.classes; class_index += WORKGROUP_SIZE) {
                let count = count_at(class_index);
                let n = number_of(count) + COUNT_SMOOTHING;
                if (count > 0u) {
                    let weight = scaled_weight(1.0, n, least);
                    shares += select(weight, weight * (n / least), SCHEME == 2u);
                }
            }
            scale = min(select(classes, rows / least, SCHEME == 2u) / add_floats(shares, index), LARGEST);
        }
        if (SCHEME == 4u) { scale = median_count(max(all.z, 1u), index) + COUNT_SMOOTHING; }
    }

    let prior_sum = unsmoothed + PRIOR_SMOOTHING * f32(params.classes);
    for (var class_index = index; class_index - index < params.classes; class_index += WORKGROUP_SIZE) {
        let count = count_at(class_index);
        if (WRITES_WEIGHTS) {
            let n = number_of(count) + COUNT_SMOOTHING;
            var weight = ABSENT_WEIGHT;
            if (count > 0u) {
                if (SCHEME == 5u) {
                    weight = 1.0 / log(SCHEME_NUMBER + n / rows);
                } else if (SCHEME == 6u) {
                    // In two halves: the first cannot overflow, and the second saturates.
                    let half = pow(rows / n, 0.5 * SCHEME_NUMBER);
                    weight = select(LARGEST, half * half, half < 0x1.ffp+63f);
                } else {
                    weight = scaled_weight(scale, n, least);
                }
                weight = clamp(weight, MIN_WEIGHT, MAX_WEIGHT);
            }
            if (class_index < params.classes) { table.values[class_index] = weight; }
        }
        if (WRITES_BIAS && class_index < params.classes) {
            table.values[params.classes + class_index] = TAU * log_share(number_of(count) + PRIOR_SMOOTHING, prior_sum);
        }
    }
}
