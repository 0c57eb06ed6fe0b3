// 16-bit logits, class-first: neighbouring positions share a word, the even one in its lower half. `inner` and
// `row_stride` are even. Arithmetic is f32 all the same.

alias LogitWord = u32;

fn class_stride() -> u32 {
    return inner_size;
}

// In elements; its parity is the row's.
fn row_offset(row: u32) -> u32 {
    return row / inner_size * params.row_stride + row % inner_size;
}

fn first_class(lane: u32) -> u32 {
    return lane;
}

// The words of four classes, each with the logits of two rows. As in `element_f32`: past the last class it is read again.
fn load_words(row_at: u32, classes: vec4<u32>) -> vec4<u32> {
    let at = logits_base() + row_at / 2u + min(classes, vec4<u32>(class_count() - 1u)) * (inner_size / 2u);
    return vec4<u32>(read_logit(at.x), read_logit(at.y), read_logit(at.z), read_logit(at.w));
}

// The logits of one of the two rows.
fn half_of(words: vec4<u32>, row_at: u32, classes: vec4<u32>) -> vec4<u32> {
    let x = unpack_two(words.x);
    let y = unpack_two(words.y);
    let z = unpack_two(words.z);
    let w = unpack_two(words.w);
    let second = vec4<bool>(row_at % 2u == 1u);
    let half = select(vec4<u32>(x.x, y.x, z.x, w.x), vec4<u32>(x.y, y.y, z.y, w.y), second);
    return select(vec4<u32>(NEGATIVE_INFINITY_BITS), half, classes < vec4<u32>(class_count()));
}

fn load_four(row_at: u32, classes: vec4<u32>) -> vec4<u32> {
    return half_of(load_words(row_at, classes), row_at, classes);
}
