// 16-bit logits, class-last, two to a word, with an even stride: arithmetic is f32 all the same. Four classes are two
// words. The half of a word behind the last class is padding: it is read, dropped and never written.

alias LogitWord = u32;

fn first_class(lane: u32) -> u32 {
    return lane * 4u;
}

fn load_four(row_at: u32, classes: vec4<u32>) -> vec4<u32> {
    let row_word = logits_base() + row_at / 2u;
    let last = (class_count() - 1u) / 2u;
    let low = unpack_two(read_logit(row_word + min(classes.x / 2u, last)));
    let high = unpack_two(read_logit(row_word + min(classes.z / 2u, last)));
    return select(vec4<u32>(NEGATIVE_INFINITY_BITS), vec4<u32>(low, high), classes < vec4<u32>(class_count()));
}

// The same where all four are classes.
fn load_whole(row_at: u32, classes: vec4<u32>) -> vec4<u32> {
    let at = logits_base() + row_at / 2u + classes.x / 2u;
    return vec4<u32>(unpack_two(read_logit(at)), unpack_two(read_logit(at + 1u)));
}
