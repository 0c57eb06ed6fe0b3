// Losses with many terms: soft targets, two labels, smoothing, expected cost. A second visit adds them up, when
// probabilities are known.
//
//     base = sum of u (1 - p)^gamma (-log p) + z_loss lse^2 + sum of cost p          cost: lambda * cost[class, .]
//     g[j] = -u (1 - p)^gamma (gamma p (-log p) / (1 - p) + 1)
//     d base / d z[k] = g[k] (1 - p[k]) - p[k] sum of g[j] over j != k + p[k] (2 z_loss lse + cost[k] - sum of cost p)
//     a = sum of g over all but the top class, b = g of the top class, c = sum of cost p
//
// What p is, and so the first part of the slope, is for `probabilities_softmax` or `probabilities_scores` to say.

fn finish_row(row: u32, row_at: u32, goal: Target, whole: Part, lane: Lane) -> RowResult {
    var result: RowResult;
    if (row_counts(goal)) { result = row_result(row, goal, whole); }
    result = normalize_row(result, row_counts(goal) && !result.bad, row_at, lane);
    let visit = row_counts(goal) && !result.bad;
    let moments = visit_moments(row, row_at, lane_of(lane), goal, result, visit);
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
        if (COST_LAMBDA != 0.0) { result.c = all.expected; }
        result.d = all.held.x - (all.others + all.top) * all.held.y;
        result.loss = loss_bits(result, base, all.infinite > 0.0);
    }
    return result;
}
