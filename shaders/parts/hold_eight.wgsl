// A share of a row from memory into registers, two blocks a load.

// Loads: all of them before the first is used.
fn hold(row_at: u32, first: u32) {
    let at = logits_base() + row_at;
    // each PAIR
    var words_PAIR = Eight(vec4<u32>(NEGATIVE_INFINITY_BITS), vec4<u32>(NEGATIVE_INFINITY_BITS));
    if (reads_word(first, EVENu)) {
        words_PAIR = read_logit((at + block_classes(first, EVENu).x) / 8u);
    }
    // end
    // each PAIR
    held_EVEN = tame(words_PAIR.low);
    held_ODD = tame(words_PAIR.high);
    // end
}
