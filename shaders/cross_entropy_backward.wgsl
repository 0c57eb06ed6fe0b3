// The backward half of `cross_entropy`, from the statistics that the forward half wrote.
//
//     logit_grads[i, k] = grad_scale * grad_out[i] * factor * logit_scale / denominator * d base / d z[i, k]
//
// Reads logits once, writes every gradient once: no reduction, no barrier.

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(ROW_STATS) var<storage, read> row_stats: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    stage_in(group, lane);
    open_scale();
    take_rows(row_of(group, lane), lane);
    stage_out(group, lane);
}

fn take_row(row: u32, lane: Lane) {
    let in_row = lane_of(lane);
    let live = row < params.rows;
    // Read outside of any branch: what a whole workgroup shares is then read once by drivers that run on CPUs.
    var goal = read_target(min(row, params.rows - 1u));
    if (!live) { goal = no_target(); }
    let counts = row_counts(goal);
    let row_at = row_offset(row);

    var result: RowResult;
    if (counts) {
        let at = params.row_stats_base / 4u + row * 2u;
        let stats_0 = row_stats[at];
        let stats_1 = row_stats[at + 1u];
        result.bad = is_nan(stats_0.z);
        let numbers = bitcast<vec4<f32>>(select(stats_0, vec4<u32>(0u), vec4<bool>(result.bad)));
        result.reference = numbers.x;
        result.others = numbers.y;
        result.factor = numbers.z;
        result.a = numbers.w;
        result.b = bitcast<f32>(stats_1.x);
        result.c = bitcast<f32>(stats_1.y);
        result.top_at = stats_1.z;
        if (KEEPS_HELD) { result.d = bitcast<f32>(stats_1.w); }
        // Checked again: the caller may have written here.
        result.class_index = min(stats_1.w, params.classes - 1u);
    }
    write_grads(row, row_at, in_row, live, goal, result);
}
