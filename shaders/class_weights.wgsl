// Class weights, and the log-prior, from class counts into the table.
//
//     with n[c] the smoothed count of a class that has rows, n their sum, K the classes (those with rows, or all):
//     SCHEME 0, Balanced:        w[c] = n / (K n[c])
//     SCHEME 1, Inverse:         w[c] = 1 / n[c]
//     SCHEME 2, InversePower:    w[c] = n[c]^-P, scaled so that the sum of n[c] w[c] is n
//     SCHEME 3, EffectiveNumber: w[c] = 1 / (1 - beta^n[c]), scaled so that the weights sum to K
//     SCHEME 4, MedianFrequency: w[c] = median of n[c] / n[c]
//     SCHEME 5, LogFrequency:    w[c] = 1 / log(A + n[c] / n)
//     a class with no row: the absent weight, never infinity
//     log-prior:                 bias[c] = TAU log((n[c] + PRIOR_SMOOTHING) / sum of the same)
//
// One workgroup: the sums need all counts, and even 262,144 of them are little work.

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

@group(0) @binding(CLASS_COUNTS) var<storage, read> class_counts: array<u32>;

var<workgroup> whole_of: array<vec2<u32>, WORKGROUP_SIZE>;
var<workgroup> float_of: array<f32, WORKGROUP_SIZE>;

// The sums over the workgroup; every invocation gets them, added in the same order.
fn add_whole(mine: vec2<u32>, index: u32) -> vec2<u32> {
    // What the last call left is read by all before it is overwritten.
    workgroupBarrier();
    whole_of[index] = mine;
    workgroupBarrier();
    var all = vec2<u32>(0u);
    for (var i = 0u; i < WORKGROUP_SIZE; i++) { all += whole_of[i]; }
    return all;
}

fn add_floats(mine: f32, index: u32) -> f32 {
    float_of[index] = mine;
    // Called once: nothing was there before.
    workgroupBarrier();
    var all = 0.0;
    for (var i = 0u; i < WORKGROUP_SIZE; i++) { all += float_of[i]; }
    return all;
}

// The weight before its scale.
fn raw_weight(n: f32) -> f32 {
    if (SCHEME == 2u) { return pow(n, -SCHEME_NUMBER); }
    if (SCHEME == 3u) { return 1.0 / one_minus_exp(n * SCHEME_NUMBER); }
    return 1.0 / n;
}

// The median of the counts above zero: the value at one place of their order, found bit by bit, and the next one.
fn median_count(present: u32, index: u32) -> f32 {
    let place = (present - 1u) / 2u;
    var value = 0u;
    for (var bit = 0u; bit < 32u; bit++) {
        let candidate = value | (0x80000000u >> bit);
        var below = 0u;
        for (var class_index = index; class_index < params.classes; class_index += WORKGROUP_SIZE) {
            let count = class_counts[class_index];
            below += select(0u, 1u, count > 0u && count < candidate);
        }
        // The value is at least the candidate where no more than `place` counts are below it.
        if (add_whole(vec2<u32>(below, 0u), index).x <= place) { value = candidate; }
    }
    var at_most = 0u;
    var next = 0xffffffffu;
    for (var class_index = index; class_index < params.classes; class_index += WORKGROUP_SIZE) {
        let count = class_counts[class_index];
        at_most += select(0u, 1u, count > 0u && count <= value);
        if (count > value) { next = min(next, count); }
    }
    let all_at_most = add_whole(vec2<u32>(at_most, 0u), index).x;
    // A minimum through the same memory.
    workgroupBarrier();
    whole_of[index] = vec2<u32>(next, 0u);
    workgroupBarrier();
    for (var i = 0u; i < WORKGROUP_SIZE; i++) { next = min(next, whole_of[i].x); }
    let upper = select(next, value, present % 2u == 1u || all_at_most > place + 1u);
    return 0.5 * f32(value) + 0.5 * f32(upper);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(local_invocation_index) index: u32) {
    var mine = vec2<u32>(0u);
    for (var class_index = index; class_index < params.classes; class_index += WORKGROUP_SIZE) {
        let count = class_counts[class_index];
        mine += vec2<u32>(count, select(0u, 1u, count > 0u));
    }
    let all = add_whole(mine, index);
    let rows = f32(all.x) + COUNT_SMOOTHING * f32(all.y);
    let classes = f32(select(all.y, params.classes, OVER_ALL));

    var scale = 1.0;
    if (WRITES_WEIGHTS) {
        if (SCHEME == 0u) { scale = rows / classes; }
        if (SCHEME == 2u || SCHEME == 3u) {
            var sum = 0.0;
            for (var class_index = index; class_index < params.classes; class_index += WORKGROUP_SIZE) {
                let count = class_counts[class_index];
                let n = f32(count) + COUNT_SMOOTHING;
                let weight = raw_weight(n);
                if (count > 0u) { sum += select(weight, weight * n, SCHEME == 2u); }
            }
            scale = select(classes, rows, SCHEME == 2u) / add_floats(sum, index);
        }
        if (SCHEME == 4u) { scale = median_count(max(all.y, 1u), index) + COUNT_SMOOTHING; }
    }

    let prior_sum = f32(all.x) + PRIOR_SMOOTHING * f32(params.classes);
    for (var class_index = index; class_index < params.classes; class_index += WORKGROUP_SIZE) {
        let count = class_counts[class_index];
        if (WRITES_WEIGHTS) {
            let n = f32(count) + COUNT_SMOOTHING;
            var weight = ABSENT_WEIGHT;
            if (count > 0u) {
                weight = scale * raw_weight(n);
                if (SCHEME == 5u) { weight = 1.0 / log(SCHEME_NUMBER + n / rows); }
                weight = clamp(weight, MIN_WEIGHT, MAX_WEIGHT);
            }
            table.values[class_index] = weight;
        }
        if (WRITES_BIAS) {
            table.values[params.classes + class_index] = TAU * log((f32(count) + PRIOR_SMOOTHING) / prior_sum);
        }
    }
}
