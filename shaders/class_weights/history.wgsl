// Counts over many batches: takes the batch's into the history, and gives those that the weights are made of.
//
//     CUMULATIVE: sum[c] += counts[c], in the 128 bits of `parts/exact.wgsl`
//     else:       moving[c] = MOMENTUM moving[c] + (1 - MOMENTUM) counts[c], and counted[c] = moving[c] / its weight
//
// One workgroup, once a step, after any all-reduce of the counts. The history starts with 16 words (`src/history.rs`
// holds their twin): words 8 and 9 are the batches seen, word 10 the weight that all of them have in a moving average.

override WORKGROUP_SIZE: u32 = 256u;
override CUMULATIVE: bool = false;
override MOMENTUM: f32 = 0.9;
// Whether counts are f32.
override MASS: bool = false;

@group(0) @binding(CLASS_COUNTS) var<storage, read> class_counts: array<u32>;
@group(0) @binding(HISTORY) var<storage, read_write> history: array<u32>;
@group(0) @binding(COUNTED) var<storage, read_write> counted: array<f32>;

const HEADER_WORDS: u32 = 16u;
const STEPS: u32 = 8u;
const WEIGHT: u32 = 10u;
// A moving average below 2^-64 is 0: a class that has been gone for so long has no rows.
const LEAST_MOVING: f32 = 0x1p-64f;
// The largest exponent of a batch's mass: 2^32 rows of 2^30.
const MASS_LIMIT: u32 = 61u;

fn add_batch(class_index: u32, count: u32) -> f32 {
    let at = HEADER_WORDS + 4u * class_index;
    let before = vec4<u32>(history[at], history[at + 1u], history[at + 2u], history[at + 3u]);
    var term = vec4<u32>(0u, 0u, count, 0u);
    if (MASS) { term = exact_of(bitcast<f32>(count), MASS_LIMIT); }
    let sum = exact_sum(before, term);
    history[at] = sum.x;
    history[at + 1u] = sum.y;
    history[at + 2u] = sum.z;
    history[at + 3u] = sum.w;
    return exact_value(sum);
}

fn move_towards(class_index: u32, count: u32, weight: f32) -> f32 {
    let at = HEADER_WORDS + class_index;
    let n = select(f32(count), bitcast<f32>(count), MASS);
    var moved = MOMENTUM * bitcast<f32>(history[at]) + (1.0 - MOMENTUM) * n;
    if (abs(moved) < LEAST_MOVING) { moved = 0.0; }
    history[at] = bitcast<u32>(moved);
    return moved / weight;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(local_invocation_index) index: u32) {
    let weight = MOMENTUM * bitcast<f32>(history[WEIGHT]) + (1.0 - MOMENTUM);
    let steps = history[STEPS] + 1u;
    // All have read the header before one writes it.
    storageBarrier();
    if (index == 0u) {
        history[STEPS] = steps;
        history[STEPS + 1u] += select(0u, 1u, steps == 0u);
        history[WEIGHT] = select(bitcast<u32>(weight), 0u, CUMULATIVE);
    }
    // As far everywhere: see `count_at` in `weights.wgsl`.
    for (var class_index = index; class_index - index < params.classes; class_index += WORKGROUP_SIZE) {
        if (class_index >= params.classes) { continue; }
        let count = class_counts[class_index];
        if (CUMULATIVE) {
            counted[class_index] = add_batch(class_index, count);
        } else {
            counted[class_index] = move_towards(class_index, count, weight);
        }
    }
}
