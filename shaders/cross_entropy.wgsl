// Softmax cross-entropy with weights, forward and backward in one kernel: losses and gradients in one visit to the row.
//
//     row_losses[i]     = factor * base
//     logit_grads[i, k] = grad_out[i] * factor * logit_scale / denominator * d base / d z[i, k]
//
// with `base` as `parts/row_single.wgsl` or `parts/row_general.wgsl` says. Reads logits, targets, weights, the table;
// writes every row loss and every gradient (zeros for rows that do not count), and counts rows into the table. `lanes()`
// invocations share a row.

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(ROW_LOSSES) var<storage, read_write> row_losses: array<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    let row = row_of(group, lane);
    let in_row = lane_of(lane);
    let live = row < params.rows;
    var goal = no_target();
    if (live) { goal = read_target(row); }
    let counts = row_counts(goal);
    let row_at = row_offset(row);

    // First visit: maximum, sum, argmax. Rows that do not count are not read, whatever they hold.
    let classes_to_read = select(0u, params.classes, counts);
    var part = empty_part();
    for (var first = first_class(in_row); first < classes_to_read; first += 4u * lanes()) {
        let classes = four_classes(first);
        let x = tame(load_four(row_at, classes));
        let z = adjust(x, classes);
        part = take_four(part, x, z, classes);
        part = take_target(part, goal, row_at, z, classes);
    }
    let whole = reduce(part, lane);
    let result = finish_row(row, row_at, goal, whole, lane);
    if (live && in_row == 0u) { row_losses[params.row_losses_base + row] = result.loss; }
    tally(counts && in_row == 0u, !result.bad && predicted_class(whole) == result.class_index, result.bad, row, lane);

    // Last visit: the gradient.
    var scale = 0.0;
    if (counts && table.denominator != 0.0) {
        scale = grad_out(row) * result.factor * LOGIT_SCALE / table.denominator;
    }
    let s = slopes(result, scale);
    let classes_to_write = select(0u, params.classes, live);
    for (var first = first_class(in_row); first < classes_to_write; first += 4u * lanes()) {
        let classes = four_classes(first);
        var words = vec4<u32>(0u);
        if (counts) {
            let z = adjust(tame(load_four(row_at, classes)), classes);
            let grads = grad_four(z, classes, row_at, goal, result, s);
            words = select(bitcast<vec4<u32>>(grads), vec4<u32>(NAN_BITS), vec4<bool>(result.bad));
        }
        store_four(row_at, classes, words);
    }
}
