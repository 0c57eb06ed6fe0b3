// Gradients of a block to where they belong.

// each BLOCK
fn put_BLOCK(row_at: u32, first: u32, words: vec4<u32>) {
    if (is_whole(BLOCKu)) {
        store_whole(row_at, block_classes(first, BLOCKu), words);
    } else {
        store_four(row_at, block_classes(first, BLOCKu), words);
    }
}
// end
