// The backward half of `cross_entropy`, from the statistics that the forward half wrote.
//
//     logit_grads[i, k] = grad_out[i] * factor / denominator * (exp(z[i, k] - reference) / sum - [k == label])
//
// Reads logits once, writes every gradient once: no reduction, no barrier.

override WORKGROUP_SIZE: u32 = 64u;

@group(0) @binding(ROW_STATS) var<storage, read> row_stats: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, lane: Lane) {
    let row = row_of(group, lane);
    let in_row = lane_of(lane);
    let live = row < params.rows;
    var label = NO_CLASS;
    var stats_words = vec4<u32>(0u);
    if (live) {
        label = row_class(row);
        stats_words = row_stats[params.row_stats_base / 4u + row];
    }
    let counts = label != NO_CLASS;
    let row_at = row_offset(row);

    let bad = is_nan(stats_words.w);
    let stats = bitcast<vec4<f32>>(select(stats_words, vec4<u32>(0u), bad));
    var scale = 0.0;
    if (counts && table.denominator != 0.0) {
        scale = grad_out(row) * stats.w / table.denominator;
    }
    let scale_of_others = scale / select(stats.y, 1.0, !counts || bad);
    let at_label = -scale * stats.z;
    let classes_to_write = select(0u, params.classes, live);
    for (var first = first_class(in_row); first < classes_to_write; first += 4u * LANES) {
        let classes = four_classes(first);
        var words = vec4<u32>(0u);
        if (counts) {
            let e = exp_four(tame(load_four(row_at, classes)), stats.x);
            let grads = select(e * scale_of_others, vec4<f32>(at_label), classes == vec4<u32>(label));
            words = select(bitcast<vec4<u32>>(grads), vec4<u32>(NAN_BITS), vec4<bool>(bad));
        }
        store_four(row_at, classes, words);
    }
}
