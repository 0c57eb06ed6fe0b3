// The last visit to a row: its gradients, zeros where the row does not count, NaN where it is not finite. An invocation
// reads and writes its own share only.

fn write_grads(row: u32, row_at: u32, in_row: u32, live: bool, goal: Target, result: RowResult) {
    let counts = row_counts(goal);
    var scale = 0.0;
    if (counts && table.denominator != 0.0) {
        scale = table.grad_scale * grad_out(row) * result.factor * LOGIT_SCALE / table.denominator;
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
