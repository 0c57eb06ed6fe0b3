// Shares of two rows from memory into registers: neighbouring positions, whose 16-bit logits lie in the same words. Words
// are read once for both.

// The words, as they are in memory.
// each BLOCK
var<private> pair_BLOCK: vec4<u32>;
// end
// Which they are: the pair, and its first class. None yet.
var<private> pair_held: vec2<u32> = vec2<u32>(0xffffffffu);

fn hold_pair(row_at: u32, first: u32) {
    let wanted = vec2<u32>(row_at / 2u, first);
    if (all(pair_held == wanted)) { return; }
    pair_held = wanted;
    // each BLOCK
    if (!ON_CPU || block_classes(first, BLOCKu).x < class_count()) {
        pair_BLOCK = load_words(row_at, block_classes(first, BLOCKu));
    }
    // end
}

// One row's half of them.
fn hold(row_at: u32, first: u32) {
    hold_pair(row_at, first);
    // each BLOCK
    held_BLOCK = tame(half_of(pair_BLOCK, row_at, block_classes(first, BLOCKu)));
    // end
}
