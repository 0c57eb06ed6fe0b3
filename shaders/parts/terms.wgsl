// What four classes add to a loss of many terms, and to its gradient: the formulas are in `row_general`.

override LABEL_SMOOTHING: f32 = 0.0;

// A row that is read again is read backwards, then forwards: this is the third visit.
const GRADS_BACKWARDS: bool = false;

// Four classes' terms.
struct Terms {
    loss: vec4<f32>,
    g: vec4<f32>,
    cost: vec4<f32>,
    infinite: vec4<bool>,
}

fn terms_of(x: Probabilities, classes: vec4<u32>, row_at: u32, goal: Target, result: RowResult) -> Terms {
    var terms: Terms;
    let inside = classes < vec4<u32>(params.classes);
    var u = (1.0 - LABEL_SMOOTHING) * targets_four(goal, row_at, classes) + LABEL_SMOOTHING / f32(params.classes);
    if (!WEIGHT_PER_ROW) { u *= class_weight_four(classes); }
    u = select(vec4<f32>(0.0), u, inside);
    let p = loss_p(x);
    let q = loss_q(x);
    let power = u * focal_power(q);
    terms.loss = power * x.minus_log_p;
    terms.g = passed_four(-power * focal_slope(p, q, x.minus_log_p), x);
    terms.infinite = x.masked & (u != vec4<f32>(0.0));
    terms.loss = select(terms.loss, vec4<f32>(0.0), x.masked);
    terms.cost = select(vec4<f32>(0.0), expected_cost_four(result.class_index, classes), inside);
    return terms;
}

fn sum_of(x: vec4<f32>) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}

// Takes four classes into the moments.
fn take_terms(before: Moments, z: vec4<f32>, classes: vec4<u32>, row_at: u32, goal: Target, result: RowResult) -> Moments {
    var moments = before;
    let x = probabilities_four(z, classes, result);
    let terms = terms_of(x, classes, row_at, goal, result);
    moments.loss += sum_of(terms.loss);
    moments.others += sum_of(select(terms.g, vec4<f32>(0.0), x.is_top));
    moments.top += sum_of(select(vec4<f32>(0.0), terms.g, x.is_top));
    moments.expected += sum_of(terms.cost * x.p);
    moments.held += held_by_clip(terms.g, x);
    moments.infinite += sum_of(select(vec4<f32>(0.0), vec4<f32>(1.0), terms.infinite));
    return moments;
}

struct Slopes {
    scale: f32,
}

fn slopes(result: RowResult, scale: f32) -> Slopes {
    return Slopes(scale);
}

fn grad_four(z: vec4<f32>, classes: vec4<u32>, row_at: u32, goal: Target, result: RowResult, s: Slopes) -> vec4<f32> {
    let x = probabilities_four(z, classes, result);
    let terms = terms_of(x, classes, row_at, goal, result);
    // At the top class the others' sum is known apart, so that nothing is left of its own term by rounding.
    let others = select(vec4<f32>(result.a + result.b) - terms.g, vec4<f32>(result.a), x.is_top);
    var slope = slope_four(terms.g, others, x, result);
    if (COST_LAMBDA != 0.0) { slope += x.p * (terms.cost - result.c); }
    if (Z_LOSS != 0.0) {
        let lse = result.reference + log_1p(result.others);
        slope += x.p * (2.0 * Z_LOSS * lse);
    }
    return s.scale * slope;
}
