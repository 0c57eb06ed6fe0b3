// Gradients of four rows, in the words of their logits.

fn keep_grads(quarter: u32) {
    // each BLOCK
    put_quad_word(quarter, 4u * BLOCKu, hand_BLOCK.x);
    put_quad_word(quarter, 4u * BLOCKu + 1u, hand_BLOCK.y);
    put_quad_word(quarter, 4u * BLOCKu + 2u, hand_BLOCK.z);
    put_quad_word(quarter, 4u * BLOCKu + 3u, hand_BLOCK.w);
    // end
}

fn put_quad_word(quarter: u32, class_index: u32, word: u32) {
    if (class_index >= class_count()) { return; }
    let place = quad_place(quarter, class_index);
    quad_words[place / 4u][place % 4u] = word;
}

fn store_quad(row: u32) {
    let at = (grads_base() + row_offset(row)) / 4u;
    // each BLOCK
    store_quad_word(at, 4u * BLOCKu);
    store_quad_word(at, 4u * BLOCKu + 1u);
    store_quad_word(at, 4u * BLOCKu + 2u);
    store_quad_word(at, 4u * BLOCKu + 3u);
    // end
}
