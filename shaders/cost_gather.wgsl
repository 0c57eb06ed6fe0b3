// The prediction of each row (argmax of its logits, the lowest index on ties) and what it costs: cost[label, prediction].
//
//     gathered[i] = (prediction, bits of the cost as f32)
//
// The prediction does not depend on the label: ignored rows have one too, with cost 0. Rows that are not finite
// have prediction 0 and cost 0. Without a cost matrix, the cost of a row that counts is 1.

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(GATHERED) var<storage, read_write> gathered: array<vec2<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    stage_in(group, lane);
    take_rows(row_of(group, lane), lane);
}

fn take_row(row: u32, lane: Lane) {
    let in_row = lane_of(lane);
    let live = row < params.rows;
    let row_at = row_offset(row);

    // Whatever the label says, every row predicts: the target of the visit is any that counts.
    var any = no_target();
    if (live) { any.class_index = 0u; }
    let whole = reduce(visit_row(row, row_at, in_row, any), lane);

    if (live && in_row == 0u) {
        let goal = read_target(row);
        let predicted = select(predicted_class(whole), 0u, is_bad(whole));
        var cost_bits = 0u;
        if (row_counts(goal) && !is_bad(whole)) {
            cost_bits = bitcast<u32>(gathered_cost(goal.class_index, predicted));
        }
        gathered[params.gathered_base / 2u + row] = vec2<u32>(predicted, cost_bits);
    }
}
