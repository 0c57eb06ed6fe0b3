// The last visit to two rows that share their words. The first waits for the second, and both are written together: each
// word once, whole, by the invocation that read it, after it read it.

var<private> first_goal: Target;
var<private> first_result: RowResult;
var<private> first_slopes: Slopes;

fn visit_grads(row_at: u32, in_row: u32, live: bool, goal: Target, result: RowResult, s: Slopes) {
    if (row_at % 2u == 0u) {
        first_goal = goal;
        first_result = result;
        first_slopes = s;
        return;
    }
    // As in `grads_stream`: against the direction of the visit before. A single turn where registers hold the rows.
    let step = 4u * BLOCKS;
    let classes_to_write = select(0u, class_count(), live);
    let chunks = (classes_to_write + step - 1u) / step;
    for (var done = 0u; done < chunks; done++) {
        let first = select(done, chunks - 1u - done, GRADS_BACKWARDS && !ON_CPU) * step;
        if (row_counts(first_goal) || row_counts(goal)) { hold_pair(row_at, first); }
        // each BLOCK
        write_pair(row_at, block_classes(first, BLOCKu), pair_BLOCK, goal, result, s);
        // end
    }
}

fn write_pair(row_at: u32, classes: vec4<u32>, words: vec4<u32>, goal: Target, result: RowResult, s: Slopes) {
    let low = grads_of(words, row_at - 1u, classes, first_goal, first_result, first_slopes);
    let high = grads_of(words, row_at, classes, goal, result, s);
    let at = grads_base() + row_at / 2u + classes * (inner_size / 2u);
    let inside = classes < vec4<u32>(class_count());
    if (inside.x) { write_grad(at.x, pack_two(vec2<u32>(low.x, high.x))); }
    if (inside.y) { write_grad(at.y, pack_two(vec2<u32>(low.y, high.y))); }
    if (inside.z) { write_grad(at.z, pack_two(vec2<u32>(low.z, high.z))); }
    if (inside.w) { write_grad(at.w, pack_two(vec2<u32>(low.w, high.w))); }
}

// Zeros where the row does not count, NaN where it is not finite.
fn grads_of(
    words: vec4<u32>,
    row_at: u32,
    classes: vec4<u32>,
    goal: Target,
    result: RowResult,
    s: Slopes,
) -> vec4<u32> {
    if (!row_counts(goal)) { return vec4<u32>(0u); }
    let z = adjust(tame(half_of(words, row_at, classes)), classes);
    let grads = grad_four(z, classes, row_at, goal, result, s);
    return select(bitcast<vec4<u32>>(grads), vec4<u32>(NAN_BITS), vec4<bool>(result.bad));
}
