// Losses with many terms: soft targets, two labels, smoothing, expected cost. A second visit adds them up, when
// probabilities are known.
//
//     base = sum of u (1 - p)^gamma (-log p) + z_loss lse^2 + sum of cost p          cost: lambda * cost[class, .]
//     g[j] = -u (1 - p)^gamma (gamma p (-log p) / (1 - p) + 1)
//     d base / d z[k] = g[k] (1 - p[k]) - p[k] sum of g[j] over j != k + p[k] (2 z_loss lse + cost[k] - sum of cost p)
//     a = sum of g over all but the top class, b = g of the top class, c = sum of cost p

override LABEL_SMOOTHING: f32 = 0.0;

// Four classes' terms.
struct Terms {
    p: vec4<f32>,
    q: vec4<f32>,
    loss: vec4<f32>,
    g: vec4<f32>,
    cost: vec4<f32>,
    is_top: vec4<bool>,
    infinite: vec4<bool>,
}

fn terms_of(z: vec4<f32>, classes: vec4<u32>, row_at: u32, goal: Target, result: RowResult) -> Terms {
    var terms: Terms;
    let sum = 1.0 + result.others;
    let log_sum = log_1p(result.others);
    let inside = classes < vec4<u32>(params.classes);
    let masked = z <= vec4<f32>(-STAND_IN);
    terms.is_top = classes == vec4<u32>(result.top_at);
    let e = select(exp_four(z, result.reference), vec4<f32>(1.0), terms.is_top);
    terms.p = e / sum;
    terms.q = select(1.0 - terms.p, vec4<f32>(result.others / sum), terms.is_top);
    let minus_log_p = select((result.reference - z) + log_sum, vec4<f32>(log_sum), terms.is_top);
    var u = (1.0 - LABEL_SMOOTHING) * targets_four(goal, row_at, classes) + LABEL_SMOOTHING / f32(params.classes);
    if (!WEIGHT_PER_ROW) { u *= class_weight_four(classes); }
    u = select(vec4<f32>(0.0), u, inside);
    let q = terms.q;
    let power = u * vec4<f32>(focal_power(q.x), focal_power(q.y), focal_power(q.z), focal_power(q.w));
    terms.loss = power * minus_log_p;
    terms.g = -power * vec4<f32>(
        focal_slope(terms.p.x, q.x, minus_log_p.x),
        focal_slope(terms.p.y, q.y, minus_log_p.y),
        focal_slope(terms.p.z, q.z, minus_log_p.z),
        focal_slope(terms.p.w, q.w, minus_log_p.w),
    );
    terms.infinite = masked & (u != vec4<f32>(0.0));
    terms.loss = select(terms.loss, vec4<f32>(0.0), masked);
    terms.cost = select(vec4<f32>(0.0), expected_cost_four(result.class_index, classes), inside);
    return terms;
}

fn sum_of(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

fn finish_row(row: u32, row_at: u32, goal: Target, whole: Part, lane: Lane) -> RowResult {
    var result: RowResult;
    if (row_counts(goal)) { result = row_result(row, goal, whole); }
    let visit = row_counts(goal) && !result.bad;
    let classes_to_read = select(0u, params.classes, visit);
    var moments = empty_moments();
    for (var first = first_class(lane_of(lane)); first < classes_to_read; first += 4u * lanes()) {
        let classes = four_classes(first);
        let z = adjust(tame(load_four(row_at, classes)), classes);
        let terms = terms_of(z, classes, row_at, goal, result);
        moments.loss += sum_of(terms.loss);
        moments.others += sum_of(select(terms.g, vec4<f32>(0.0), terms.is_top));
        moments.top += sum_of(select(vec4<f32>(0.0), terms.g, terms.is_top));
        moments.expected += sum_of(terms.cost * terms.p);
        moments.infinite += sum_of(select(vec4<f32>(0.0), vec4<f32>(1.0), terms.infinite));
    }
    // Uniform control flow again: the whole workgroup comes here.
    let all = reduce_moments(moments, lane);
    if (row_counts(goal)) {
        var base = all.loss + all.expected;
        if (Z_LOSS != 0.0) {
            let lse = result.reference + log_1p(result.others);
            base += Z_LOSS * lse * lse;
        }
        result.a = all.others;
        result.b = all.top;
        result.c = all.expected;
        result.loss = loss_bits(result, base, all.infinite > 0.0);
    }
    return result;
}

struct Slopes {
    scale: f32,
}

fn slopes(result: RowResult, scale: f32) -> Slopes {
    return Slopes(scale);
}

fn grad_four(z: vec4<f32>, classes: vec4<u32>, row_at: u32, goal: Target, result: RowResult, s: Slopes) -> vec4<f32> {
    let terms = terms_of(z, classes, row_at, goal, result);
    // At the top class the others' sum is known apart, so that nothing is left of its own term by rounding.
    let others = select(vec4<f32>(result.a + result.b) - terms.g, vec4<f32>(result.a), terms.is_top);
    var slope = terms.g * terms.q - terms.p * others + terms.p * (terms.cost - result.c);
    if (Z_LOSS != 0.0) {
        let lse = result.reference + log_1p(result.others);
        slope += terms.p * (2.0 * Z_LOSS * lse);
    }
    return s.scale * slope;
}
