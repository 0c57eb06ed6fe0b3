// Losses with a single term, that of the label: hard labels without smoothing. No second visit is needed.
//
//     base = u (1 - p)^gamma (-log p) + z_loss lse^2
//     d base / d z[k] = p[k] a for k != label, b for the label;  a = u F + 2 z_loss lse,  b = -u F (1 - p) + 2 z_loss lse p,
//     F = (1 - p)^gamma (gamma p (-log p) / (1 - p) + 1)
//
// `c` is 1 over the sum that p is a share of.

// A row that is read again is read backwards.
const GRADS_BACKWARDS: bool = true;

// exp(z - top) of the label.
fn label_term(whole: Part) -> f32 {
    // One of the four, and zeros.
    if (PICKS_TERM) { return (own_e.x + own_e.y) + (own_e.z + own_e.w); }
    return term(whole.label, whole.top);
}

fn finish_row(row: u32, row_at: u32, goal: Target, whole: Part, lane: Lane) -> RowResult {
    var result: RowResult;
    // Where nothing weighs rows, this is all that is ever written to it: compilers see that no row differs.
    result.factor = 1.0;
    if (!row_counts(goal)) { return result; }
    result = row_result(row, goal, whole);
    let inverse = 1.0 / (1.0 + result.others);
    let log_sum = log_1p(result.others);
    let leads = result.class_index == result.top_at;
    let masked = whole.label <= -STAND_IN;
    // Where the label leads, 1 - p is the others' sum and -log p is log(1 + others): right to the last bit when it
    // leads by much. Otherwise the difference is taken before the logarithm is added: the two may be far apart in size.
    let p = select(label_term(whole), 1.0, leads) * inverse;
    let q = select(1.0 - p, result.others * inverse, leads);
    let minus_log_p = select((whole.top - whole.label) + log_sum, log_sum, leads);
    var u = 1.0;
    if (!WEIGHT_PER_ROW && is_leader()) { u = class_weight(result.class_index); }
    let power = u * focal_power(vec4<f32>(q)).x;
    var base = power * minus_log_p;
    let slope = power * focal_slope(vec4<f32>(p), vec4<f32>(q), vec4<f32>(minus_log_p)).x;
    result.a = slope;
    result.b = -slope * q;
    result.c = inverse;
    if (Z_LOSS != 0.0) {
        let lse = result.reference + log_sum;
        base += Z_LOSS * lse * lse;
        result.a += 2.0 * Z_LOSS * lse;
        result.b += 2.0 * Z_LOSS * lse * p;
    }
    result.loss = loss_bits(result, base, masked && u != 0.0);
    return result;
}

struct Slopes {
    others: f32,
    at_label: f32,
}

fn slopes(result: RowResult, scale: f32) -> Slopes {
    return Slopes(number_of_leader(scale * result.a * result.c), number_of_leader(scale * result.b));
}

fn grad_four(z: vec4<f32>, classes: vec4<u32>, row_at: u32, goal: Target, result: RowResult, s: Slopes) -> vec4<f32> {
    let e = exp_four(z, result.reference);
    return select(e * s.others, vec4<f32>(s.at_label), classes == vec4<u32>(result.class_index));
}
