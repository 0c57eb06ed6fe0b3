// Softmax cross-entropy with weights, forward and backward in one kernel: losses and gradients in one visit to the row.
//
//     row_losses[i]     = factor * -log p[i, label]                  factor = sample weight * class weight * cost
//     logit_grads[i, k] = grad_out[i] * factor / denominator * (p[i, k] - [k == label])
//
// Reads logits, labels, weights, the table; writes every row loss and every gradient (zeros for rows that do not
// count), and counts rows into the table. LANES invocations share a row.

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(ROW_LOSSES) var<storage, read_write> row_losses: array<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    let row = row_of(group, lane);
    let in_row = lane_of(lane);
    let live = row < params.rows;
    var label = NO_CLASS;
    if (live) { label = row_class(row); }
    let counts = label != NO_CLASS;
    let row_at = row_offset(row);

    // First visit: maximum, sum, argmax. Rows that do not count are not read, whatever they hold.
    let classes_to_read = select(0u, params.classes, counts);
    var part = empty_part();
    for (var first = first_class(in_row); first < classes_to_read; first += 4u * LANES) {
        let classes = four_classes(first);
        part = take_four(part, load_four(row_at, classes), classes, label);
    }
    let whole = reduce(part, lane);

    var result: RowLoss;
    if (counts) { result = row_loss(row, label, whole); }
    if (live && in_row == 0u) { row_losses[params.row_losses_base + row] = result.loss; }
    tally(counts && in_row == 0u, !result.bad && whole.top_at == label, result.bad, row, lane);

    // Second visit: the gradient.
    var scale = 0.0;
    if (counts && table.denominator != 0.0) {
        scale = grad_out(row) * result.factor / table.denominator;
    }
    let scale_of_others = scale / select(result.sum, 1.0, !counts || result.bad);
    let at_label = -scale * result.rest;
    let classes_to_write = select(0u, params.classes, live);
    for (var first = first_class(in_row); first < classes_to_write; first += 4u * LANES) {
        let classes = four_classes(first);
        var words = vec4<u32>(0u);
        if (counts) {
            let e = exp_four(tame(load_four(row_at, classes)), result.reference);
            let grads = select(e * scale_of_others, vec4<f32>(at_label), classes == vec4<u32>(label));
            words = select(bitcast<vec4<u32>>(grads), vec4<u32>(NAN_BITS), vec4<bool>(result.bad));
        }
        store_four(row_at, classes, words);
    }
}
