// The probabilities of four classes, from scores that are log-probabilities, probabilities, or logits whose softmax is
// clipped: `Scores` in `src/spec.rs`.
//
//     n = v / sum v           v: p; clip(p) where the clip comes first        1 - n of the top class: the others' sum
//     c = n, or clip(n)       what the loss is made of
//
// `reference` and `others` of the result are the top's v and the sum of the others'; for clipped softmaxes they stay the
// logits', and where the clip comes first `c` is the sum of the others' clipped probabilities and `d` what the clip holds.

const LOG_PROBS: u32 = 1u;
const PROBS: u32 = 2u;
const SOFTMAX_PROBS: u32 = 3u;

override SCORES: u32 = 2u;
override CLIP_FIRST: bool = false;
override CLIP_LOW: f32 = 1e-7;
override CLIP_HIGH: f32 = 0.99999988079071044921875;
override MINUS_LOG_LOW: f32 = 16.1180953979492188;
override MINUS_LOG_HIGH: f32 = 1e-7;

// What is divided by, as far as it is not the top class.
struct Norm {
    others: f32,
}

fn empty_norm() -> Norm {
    return Norm(0.0);
}

fn add_norms(a: Norm, b: Norm) -> Norm {
    return Norm(a.others + b.others);
}

struct Probabilities {
    p: vec4<f32>, // n
    q: vec4<f32>, // 1 - n
    is_top: vec4<bool>,
    masked: vec4<bool>,
    within: vec4<bool>, // whether the clip passes the gradient
    inner: vec4<f32>,   // the softmax, where a clip and another sum followed
    // What the loss is made of: c, 1 - c, -log c.
    c: vec4<f32>,
    not_c: vec4<f32>,
    minus_log_p: vec4<f32>,
}

// What the loss is made of.
fn loss_p(x: Probabilities) -> vec4<f32> {
    return x.c;
}

fn loss_q(x: Probabilities) -> vec4<f32> {
    return x.not_c;
}

fn clipped(p: vec4<f32>, q: vec4<f32>) -> vec4<f32> {
    return select(select(p, vec4<f32>(CLIP_HIGH), q < vec4<f32>(CLIP_LOW)), vec4<f32>(CLIP_LOW), p < vec4<f32>(CLIP_LOW));
}

fn is_within(p: vec4<f32>, q: vec4<f32>) -> vec4<bool> {
    return (p >= vec4<f32>(CLIP_LOW)) & (q >= vec4<f32>(CLIP_LOW));
}

struct Raw {
    p: vec4<f32>,
    q: vec4<f32>, // 1 - p
}

// p and 1 - p as they are before any clip that comes first.
fn raw_four(z: vec4<f32>, is_top: vec4<bool>, result: RowResult) -> Raw {
    if (SCORES == PROBS) { return Raw(z, 1.0 - z); }
    let sum = 1.0 + result.others;
    let p = select(exp_four(z, result.reference), vec4<f32>(1.0), is_top) / sum;
    return Raw(p, select(1.0 - p, vec4<f32>(result.others / sum), is_top));
}

// A second visit, for a sum that the first did not know.
fn normalize_row(before: RowResult, visit: bool, row_at: u32, lane: Lane) -> RowResult {
    var result = before;
    if (SCORES == LOG_PROBS || (SCORES == SOFTMAX_PROBS && !CLIP_FIRST)) { return result; }
    let classes_to_read = select(0u, params.classes, visit);
    var mine = empty_norm();
    for (var first = first_class(lane_of(lane)); first < classes_to_read; first += 4u * lanes()) {
        let classes = four_classes(first);
        let z = adjust(tame(load_four(row_at, classes)), classes);
        let is_top = classes == vec4<u32>(result.top_at);
        let raw = raw_four(z, is_top, result);
        var v = raw.p;
        if (CLIP_FIRST) { v = clipped(v, raw.q); }
        let others = !is_top & (classes < vec4<u32>(params.classes));
        mine.others += sum_of(select(vec4<f32>(0.0), v, others));
    }
    // Uniform control flow again: the whole workgroup comes here.
    let all = reduce_norm(mine, lane);
    if (SCORES == SOFTMAX_PROBS) {
        result.c = all.others;
        return result;
    }
    if (CLIP_FIRST) {
        let top = result.reference;
        result.reference = clipped(vec4<f32>(top), vec4<f32>(1.0 - top)).x;
    }
    result.others = all.others;
    let sum = result.reference + result.others;
    // Written so that a sum that is no number is bad too.
    result.bad = result.bad || !(sum > 0.0 && sum < LOGIT_LIMIT);
    return result;
}

fn probabilities_four(z: vec4<f32>, classes: vec4<u32>, result: RowResult) -> Probabilities {
    var x: Probabilities;
    x.is_top = classes == vec4<u32>(result.top_at);
    // Nothing behind the last class is held.
    let outside = classes >= vec4<u32>(params.classes);
    x.within = vec4<bool>(true);
    if (SCORES == LOG_PROBS) {
        x.masked = z <= vec4<f32>(-STAND_IN);
        // Above 1 there is no probability.
        let log_p = min(z, vec4<f32>(0.0));
        x.c = exp_four(log_p, 0.0);
        x.not_c = vec4<f32>(
            one_minus_exp(log_p.x),
            one_minus_exp(log_p.y),
            one_minus_exp(log_p.z),
            one_minus_exp(log_p.w),
        );
        x.minus_log_p = -z;
        return x;
    }
    let raw = raw_four(select(z, vec4<f32>(0.0), vec4<bool>(SCORES == PROBS) & outside), x.is_top, result);
    var v = raw.p;
    var top = result.reference;
    var others = result.others;
    if (SCORES == SOFTMAX_PROBS) {
        let sum = 1.0 + result.others;
        x.inner = raw.p;
        top = 1.0 / sum;
        others = result.others / sum;
    }
    if (CLIP_FIRST) {
        x.within = is_within(raw.p, raw.q) | outside;
        v = clipped(raw.p, raw.q);
        if (SCORES == SOFTMAX_PROBS) {
            top = clipped(vec4<f32>(top), vec4<f32>(others)).x;
            others = result.c;
        }
    }
    if (SCORES == SOFTMAX_PROBS && !CLIP_FIRST) {
        // A softmax sums to 1: dividing again would only add rounding.
        x.p = raw.p;
        x.q = raw.q;
    } else {
        let sum = top + others;
        x.p = v / sum;
        x.q = select(1.0 - x.p, vec4<f32>(others / sum), x.is_top);
    }
    x.c = x.p;
    x.not_c = x.q;
    // Of 0 there is no logarithm; what is clipped has another.
    x.minus_log_p = select(-log(max(x.p, vec4<f32>(0x1p-126f))), vec4<f32>(log_1p(others / top)), x.is_top);
    if (SCORES == SOFTMAX_PROBS && !CLIP_FIRST) {
        let log_sum = log_1p(result.others);
        x.minus_log_p = select((result.reference - z) + log_sum, vec4<f32>(log_sum), x.is_top);
    }
    if (!CLIP_FIRST) {
        x.within = is_within(x.p, x.q) | outside;
        let low = x.p < vec4<f32>(CLIP_LOW);
        x.c = clipped(x.p, x.q);
        x.not_c = select(x.not_c, select(vec4<f32>(CLIP_LOW), vec4<f32>(CLIP_HIGH), low), !x.within);
        x.minus_log_p = select(
            x.minus_log_p,
            select(vec4<f32>(MINUS_LOG_HIGH), vec4<f32>(MINUS_LOG_LOW), low),
            !x.within,
        );
    }
    return x;
}

// A clip that comes last holds a class's own term.
fn passed_four(g: vec4<f32>, x: Probabilities) -> vec4<f32> {
    if (CLIP_FIRST) { return g; }
    return select(vec4<f32>(0.0), g, x.within);
}

// Between a softmax and its second normalization a clip holds the whole gradient of a class. All gradients sum to 0, so
// what passes is the opposite of what is held: sum of g (1 - n) - n (sum of the others' g).
fn held_by_clip(g: vec4<f32>, x: Probabilities) -> vec2<f32> {
    if (!(SCORES == SOFTMAX_PROBS && CLIP_FIRST)) { return vec2<f32>(0.0); }
    let zero = vec4<f32>(0.0);
    return vec2<f32>(sum_of(select(g, zero, x.within)), sum_of(select(x.p, zero, x.within)));
}

fn slope_four(g: vec4<f32>, others: vec4<f32>, x: Probabilities, result: RowResult) -> vec4<f32> {
    if (SCORES == LOG_PROBS) { return g; }
    let zero = vec4<f32>(0.0);
    if (SCORES == PROBS) {
        // A class without a term of its own may have no probability.
        let own = select(g * x.q / max(x.p, vec4<f32>(CLIP_LOW / LOGIT_LIMIT)), zero, g == zero);
        let slope = (own - others) / (result.reference + result.others);
        return select(slope, zero, vec4<bool>(CLIP_FIRST) & !x.within);
    }
    let slope = g * x.q - x.p * others;
    if (!CLIP_FIRST) { return slope; }
    return select(zero, slope, x.within) + x.inner * result.d;
}
