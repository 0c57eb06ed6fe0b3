// Gradients of a block over the logits in hand.

// each BLOCK
fn put_BLOCK(row_at: u32, first: u32, words: vec4<u32>) {
    hand_BLOCK = words;
}
// end
