// Gradients of what is held: zeros where the row does not count, NaN where it is not finite.

// Of four logits, as bits.
fn words_of_grads(
    held: vec4<f32>,
    classes: vec4<u32>,
    row_at: u32,
    goal: Target,
    result: RowResult,
    s: Slopes,
) -> vec4<u32> {
    var words = vec4<u32>(0u);
    // Where branches cost more than what they spare, there is none.
    if (NO_BRANCH || row_counts(goal)) {
        let grads = grad_four(adjust(held, classes), classes, row_at, goal, result, s);
        words = select(bitcast<vec4<u32>>(grads), vec4<u32>(NAN_BITS), vec4<bool>(result.bad));
    }
    if (NO_BRANCH) { words = select(vec4<u32>(0u), words, vec4<bool>(row_counts(goal))); }
    return words;
}

fn write_held(row_at: u32, first: u32, goal: Target, result: RowResult, s: Slopes) {
    // each BLOCK
    let words_BLOCK = words_of_grads(held_BLOCK, block_classes(first, BLOCKu), row_at, goal, result, s);
    put_BLOCK(row_at, first, words_BLOCK);
    // end
}
