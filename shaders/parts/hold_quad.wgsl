// Four rows in registers, in the words that hold them in memory; and one of them, in hand, in blocks of four classes. Which
// component of which word has a class is known when the pipeline is made.

var<private> quad_words: array<vec4<u32>, 4u * BLOCKS>;

// The row in hand: its logits, and then its gradients.
// each BLOCK
var<private> hand_BLOCK: vec4<u32>;
// end

// Which component, over all words, has a class of one of the four rows.
fn quad_place(quarter: u32, class_index: u32) -> u32 {
    if (CLASS_FIRST) { return 4u * class_index + quarter; }
    return quarter * class_count() + class_index;
}

fn quad_word(quarter: u32, class_index: u32) -> u32 {
    if (class_index >= class_count()) { return NEGATIVE_INFINITY_BITS; }
    let place = quad_place(quarter, class_index);
    return quad_words[place / 4u][place % 4u];
}

// Words from one to the next.
fn quad_stride() -> u32 {
    if (CLASS_FIRST) { return inner_size / 4u; }
    return 1u;
}

// As many words as classes.
fn load_quad(row: u32) {
    let at = (logits_base() + row_offset(row)) / 4u;
    // each BLOCK
    load_quad_word(at, 4u * BLOCKu);
    load_quad_word(at, 4u * BLOCKu + 1u);
    load_quad_word(at, 4u * BLOCKu + 2u);
    load_quad_word(at, 4u * BLOCKu + 3u);
    // end
}

fn pick_row(quarter: u32) {
    // each BLOCK
    hand_BLOCK = vec4<u32>(
        quad_word(quarter, 4u * BLOCKu),
        quad_word(quarter, 4u * BLOCKu + 1u),
        quad_word(quarter, 4u * BLOCKu + 2u),
        quad_word(quarter, 4u * BLOCKu + 3u),
    );
    // end
}

fn hold(row_at: u32, first: u32) {
    // each BLOCK
    held_BLOCK = tame(hand_BLOCK);
    // end
}
