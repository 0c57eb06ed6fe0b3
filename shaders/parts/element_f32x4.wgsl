// f32 logits, class-last, with classes, stride and base all multiples of four: one 16-byte load for four classes.

alias LogitWord = vec4<u32>;

fn first_class(lane: u32) -> u32 {
    return lane * 4u;
}

fn load_four(row_at: u32, classes: vec4<u32>) -> vec4<u32> {
    // As in `element_f32`: past the last class it is read again, then dropped.
    let words = read_logit((logits_base() + row_at + min(classes.x, class_count() - 4u)) / 4u);
    return select(vec4<u32>(NEGATIVE_INFINITY_BITS), words, classes < vec4<u32>(class_count()));
}

// The same where all four are classes.
fn load_whole(row_at: u32, classes: vec4<u32>) -> vec4<u32> {
    return read_logit((logits_base() + row_at + classes.x) / 4u);
}
