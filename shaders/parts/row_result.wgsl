// A row after its reduction: shared by the fused kernel, the forward one and the backward one.

override WEIGHT_PER_ROW: bool = false;
override FOCAL_GAMMA: f32 = 0.0;
override Z_LOSS: f32 = 0.0;
// Whether backward needs `d` of a row, and not its class.
override KEEPS_HELD: bool = false;

// `a` to `d` are what the gradient needs beside: see `row_single` and `row_general`.
struct RowResult {
    bad: bool,
    loss: u32,      // bits of the weighted loss
    reference: f32, // the largest z: p = exp(z - reference) / (1 + others)
    others: f32,    // sum of exp(z - reference) over the other classes
    factor: f32,    // sample weight, gathered cost, and the class weight where it is per row
    a: f32,
    b: f32,
    c: f32,
    d: f32,
    top_at: u32,
    class_index: u32,
}

// (1 - p)^gamma; 0 where q is 0, which pow need not give. Without branches: these stand in unrolled text, and a compiler for
// CPUs (SwiftShader's) takes minutes and gigabytes for many.
fn focal_power(q: vec4<f32>) -> vec4<f32> {
    if (FOCAL_GAMMA == 0.0) { return vec4<f32>(1.0); }
    let zero = q <= vec4<f32>(0.0);
    return select(pow(select(q, vec4<f32>(1.0), zero), vec4<f32>(FOCAL_GAMMA)), vec4<f32>(0.0), zero);
}

// gamma p (-log p) / (1 - p) + 1: with u (1 - p)^gamma, the slope of a focal term. The quotient goes to 1 with q to 0.
fn focal_slope(p: vec4<f32>, q: vec4<f32>, minus_log_p: vec4<f32>) -> vec4<f32> {
    if (FOCAL_GAMMA == 0.0) { return vec4<f32>(1.0); }
    let zero = q <= vec4<f32>(0.0);
    let quotient = (p * minus_log_p) / select(q, vec4<f32>(1.0), zero);
    return FOCAL_GAMMA * select(quotient, vec4<f32>(1.0), zero) + 1.0;
}

// What can be said of any row: everything but the loss and the gradient's three numbers.
fn row_result(row: u32, goal: Target, whole: Part) -> RowResult {
    var result: RowResult;
    result.bad = is_bad(whole) || targets_are_bad(whole);
    result.class_index = row_class(goal, whole);
    result.top_at = min(whole.top_at, class_count() - 1u);
    result.reference = whole.top;
    // Of one look at the whole row, the reference is the top.
    result.others = whole.sum;
    if (!ONE_LOOK) { result.others = relative_to(whole.sum, whole.reference, whole.top); }
    result.factor = 1.0;
    if (is_leader()) {
        result.factor = sample_weight(row) * gathered_cost(result.class_index, predicted_class(whole));
        if (WEIGHT_PER_ROW) { result.factor *= class_weight(result.class_index); }
    }
    return result;
}

// The weighted loss as bits. `infinite`: a target has probability 0.
fn loss_bits(result: RowResult, base: f32, infinite: bool) -> u32 {
    var bits = bitcast<u32>(result.factor * base);
    if (infinite) { bits = select(INFINITY_BITS, NEGATIVE_INFINITY_BITS, result.factor < 0.0); }
    // A row that weighs nothing costs nothing, even where its label is masked with -inf.
    if (result.factor == 0.0) { bits = 0u; }
    if (result.bad) { bits = NAN_BITS; }
    return bits;
}
