// Gradients of what is held: zeros where the row does not count, NaN where it is not finite.

fn write_held(row_at: u32, first: u32, goal: Target, result: RowResult, s: Slopes) {
    // each BLOCK
    var words_BLOCK = vec4<u32>(0u);
    // Where branches cost more than what they spare, there is none.
    if (NO_BRANCH || row_counts(goal)) {
        let classes = block_classes(first, BLOCKu);
        let grads = grad_four(adjust(held_BLOCK, classes), classes, row_at, goal, result, s);
        words_BLOCK = select(bitcast<vec4<u32>>(grads), vec4<u32>(NAN_BITS), vec4<bool>(result.bad));
    }
    if (NO_BRANCH) { words_BLOCK = select(vec4<u32>(0u), words_BLOCK, vec4<bool>(row_counts(goal))); }
    put_BLOCK(row_at, first, words_BLOCK);
    // end
}
