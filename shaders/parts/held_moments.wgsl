// What is held, for losses of more than one term.

fn add_held(before: Moments, goal: Target, row_at: u32, first: u32, result: RowResult) -> Moments {
    var moments = before;
    // each BLOCK
    let classes_BLOCK = block_classes(first, BLOCKu);
    moments = take_terms(moments, adjust(held_BLOCK, classes_BLOCK), classes_BLOCK, row_at, goal, result);
    // end
    return moments;
}
