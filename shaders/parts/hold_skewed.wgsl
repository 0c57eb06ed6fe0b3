// A share of a row from memory into registers, two blocks a load, where rows start and end anywhere within words of 32 bytes.
// Words are loaded whole: a part of a row's first and of its last may belong to its neighbours. Class numbers run on into
// those: below 0, where they wrap around, and past the last.

// The number that a word's first class has for the row, where an invocation starts.
fn first_place(row_at: u32, in_row: u32) -> u32 {
    return first_class(in_row) - row_at % 8u;
}

// Loads: all of them before the first is used.
fn hold(row_at: u32, first: u32) {
    let at = logits_base() + row_at;
    // each PAIR
    var words_PAIR = Eight(vec4<u32>(NEGATIVE_INFINITY_BITS), vec4<u32>(NEGATIVE_INFINITY_BITS));
    if (bitcast<i32>(block_classes(first, EVENu).x) < bitcast<i32>(class_count())) {
        words_PAIR = read_logit((at + block_classes(first, EVENu).x) / 8u);
    }
    // end
    // each PAIR
    held_EVEN = tame(words_PAIR.low);
    held_ODD = tame(words_PAIR.high);
    // end
}
