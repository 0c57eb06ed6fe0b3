// Gradients of what is held, where that is the terms of the sum: losses of the label's term alone. Zeros where the row
// does not count, for then its slopes are 0, and what is held is finite in any case; NaN where it is not finite.

fn write_held(row_at: u32, first: u32, goal: Target, result: RowResult, s: Slopes) {
    var others = s.others;
    if (!ONE_LOOK) { others *= relative_to(1.0, held_reference, result.reference); }
    // What is held of a row that does not count may be relative to anything, and so its factor infinite.
    if (READS_ALL && !row_counts(goal)) { others = 0.0; }
    let label_at = vec4<u32>(result.class_index - first);
    // each BLOCK
    let grads_BLOCK = select(held_BLOCK * others, vec4<f32>(s.at_label), block_offsets(BLOCKu) == label_at);
    let words_BLOCK = select(bitcast<vec4<u32>>(grads_BLOCK), vec4<u32>(NAN_BITS), vec4<bool>(result.bad));
    put_BLOCK(row_at, first, words_BLOCK);
    // end
}
