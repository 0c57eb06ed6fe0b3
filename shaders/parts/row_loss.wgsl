// From a reduced row to its loss: shared by the fused kernel and the forward one.

struct RowLoss {
    bad: bool,      // NaN or +inf among the logits, or nothing but -inf
    reference: f32, // probabilities are exp(z - reference) / sum
    sum: f32,
    rest: f32,      // sum of the probabilities of the other classes
    factor: f32,    // sample weight, class weight, cost
    loss: u32,      // the bits of factor * cross-entropy
}

fn row_loss(row: u32, label: u32, part: Part) -> RowLoss {
    var result: RowLoss;
    // The stand-ins are beyond every finite logit, so the largest logit tells.
    result.bad = part.top >= STAND_IN || part.top <= -STAND_IN;
    let reference = max(part.reference, part.label);
    let others = relative_to(part.sum, part.reference, reference);
    let confident = part.label >= reference;
    let masked = part.label <= -STAND_IN;
    var own = select(exp_difference(part.label - reference), 1.0, confident);
    own = select(own, 0.0, masked);
    result.reference = reference;
    result.sum = others + own;
    result.rest = others / result.sum;
    // Where the label leads, log(1 + the others): right to the last bit when it leads by much. Otherwise the
    // difference is taken before the logarithm is added, for the two may be far apart in size.
    var loss: f32;
    if (confident) {
        loss = log_1p(others);
    } else {
        loss = (reference - part.label) + log(result.sum);
    }
    // top_at is a class of a row that is not bad; the cost of a bad row is never used.
    let predicted = min(part.top_at, params.classes - 1u);
    result.factor = sample_weight(row) * class_weight(label) * cost(label, predicted);
    result.loss = bitcast<u32>(result.factor * loss);
    if (masked) {
        // The label itself is masked with -inf: its loss is infinite, with the sign of the factor.
        result.loss = select(INFINITY_BITS, NEGATIVE_INFINITY_BITS, result.factor < 0.0);
    }
    if (result.factor == 0.0) { result.loss = 0u; }
    if (result.bad) { result.loss = NAN_BITS; }
    return result;
}
