// The forward half of `cross_entropy`, for engines that call backward later: losses, and per row what backward needs.
//
//     row_losses[i] = factor * base
//     row_stats[i]  = (reference, others, factor, a), (b, c, top class, class or d):  p[k] = exp(z[k] - reference) / (1 + others),
//                     lse = reference + log(1 + others);  factor is NaN for a row that is not finite;  a, b and c as
//                     `parts/row_single.wgsl` or `parts/row_general.wgsl` says
//
// Rows that do not count get a loss of 0 and statistics of 0.

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(ROW_STATS) var<storage, read_write> row_stats: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    stage_in(group, lane);
    open_losses();
    open_weights();
    take_rows(row_of(group, lane), lane);
}

fn take_row(row: u32, lane: Lane) {
    let in_row = lane_of(lane);
    let live = row < params.rows;
    // Read outside of any branch: what a whole workgroup shares is then read once by drivers that run on CPUs.
    var goal = read_target(min(row, params.rows - 1u));
    if (!live) { goal = no_target(); }
    let counts = row_counts(goal);
    let row_at = row_offset(row);

    let whole = reduce(visit_row(row, row_at, in_row, goal), lane);
    let result = finish_row(row, row_at, goal, whole, lane);
    if (live && in_row == 0u) {
        keep_row(row, goal, whole, result);
        var stats_0 = vec4<u32>(0u);
        var stats_1 = vec4<u32>(0u);
        if (result.bad) {
            stats_0.z = NAN_BITS;
        } else if (counts) {
            stats_0 = bitcast<vec4<u32>>(vec4<f32>(result.reference, result.others, result.factor, result.a));
            let last = select(result.class_index, bitcast<u32>(result.d), KEEPS_HELD);
            stats_1 = vec4<u32>(bitcast<u32>(result.b), bitcast<u32>(result.c), result.top_at, last);
        }
        let at = params.row_stats_base / 4u + row * 2u;
        row_stats[at] = stats_0;
        row_stats[at + 1u] = stats_1;
    }
    tally(counts && in_row == 0u, !result.bad && predicted_class(whole) == result.class_index, result.bad, row, lane);
}
