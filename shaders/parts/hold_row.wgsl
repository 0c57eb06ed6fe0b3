// A share of a row from memory into registers.

// Loads: all of them before the first is used.
fn hold(row_at: u32, first: u32) {
    // each BLOCK
    var words_BLOCK = vec4<u32>(NEGATIVE_INFINITY_BITS);
    if (is_whole(BLOCKu)) {
        words_BLOCK = load_whole(row_at, block_classes(first, BLOCKu));
    } else if (!ON_CPU || block_classes(first, BLOCKu).x < class_count()) {
        words_BLOCK = load_four(row_at, block_classes(first, BLOCKu));
    }
    // end
    // each BLOCK
    held_BLOCK = tame(words_BLOCK);
    // end
}
