// The forward half of `cross_entropy`, for engines that call backward later: losses, and per row what backward needs.
//
//     row_losses[i] = factor * -log p[i, label]
//     row_stats[i]  = (reference, sum, rest, factor):  p[i, k] = exp(z[i, k] - reference) / sum,  lse = reference + log sum,
//                     rest = the sum of p[i, k] over k != label;  factor is NaN for a row that is not finite
//
// Rows that do not count get a loss of 0 and statistics (0, 1, 0, 0).

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(ROW_LOSSES) var<storage, read_write> row_losses: array<u32>;
@group(0) @binding(ROW_STATS) var<storage, read_write> row_stats: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    let row = row_of(group, lane);
    let in_row = lane_of(lane);
    let live = row < params.rows;
    var label = NO_CLASS;
    if (live) { label = row_class(row); }
    let counts = label != NO_CLASS;
    let row_at = row_offset(row);

    let classes_to_read = select(0u, params.classes, counts);
    var part = empty_part();
    for (var first = first_class(in_row); first < classes_to_read; first += 4u * LANES) {
        let classes = four_classes(first);
        part = take_four(part, load_four(row_at, classes), classes, label);
    }
    let whole = reduce(part, lane);

    var result: RowLoss;
    if (counts) { result = row_loss(row, label, whole); }
    if (live && in_row == 0u) {
        row_losses[params.row_losses_base + row] = result.loss;
        var stats = vec4<u32>(0u, bitcast<u32>(1.0), 0u, 0u);
        if (counts) {
            stats = bitcast<vec4<u32>>(vec4<f32>(result.reference, result.sum, result.rest, result.factor));
        }
        if (result.bad) { stats = vec4<u32>(0u, bitcast<u32>(1.0), 0u, NAN_BITS); }
        row_stats[params.row_stats_base / 4u + row] = stats;
    }
    tally(counts && in_row == 0u, !result.bad && whole.top_at == label, result.bad, row, lane);
}
