// The prediction of each row (argmax of its logits, the lowest index on ties) and what it costs: cost[label, prediction].
//
//     gathered[i] = (prediction, bits of the cost as f32)
//
// The prediction does not depend on the label: ignored rows have one too, with cost 0. Rows that are not finite
// have prediction 0 and cost 0. Without a cost matrix, the cost of a row that counts is 1.

override WORKGROUP_SIZE: u32 = 64u;
// Scale and bias play no part in a prediction.
override HAS_BIAS: bool = false;

@group(0) @binding(GATHERED) var<storage, read_write> gathered: array<vec2<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    let row = row_of(group, lane);
    let in_row = lane_of(lane);
    let live = row < params.rows;
    let row_at = row_offset(row);

    let classes_to_read = select(0u, params.classes, live);
    var part = empty_part();
    for (var first = first_class(in_row); first < classes_to_read; first += 4u * lanes()) {
        let classes = four_classes(first);
        let x = tame(load_four(row_at, classes));
        part = take_four(part, x, x, classes);
    }
    let whole = reduce(part, lane);

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
