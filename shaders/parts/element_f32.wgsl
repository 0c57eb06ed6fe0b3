// f32 logits, any stride, class-last or class-first. Four loads in flight: a lane takes the classes `first`,
// `first + lanes()`, `first + 2 lanes()`, `first + 3 lanes()`, so that neighbouring lanes read neighbouring words.
//
// Words travel as u32: the tests for NaN and infinity are tests of bits, and a NaN that is written as bits
// survives compilers that assume there is none.

alias LogitWord = u32;

fn first_class(lane: u32) -> u32 {
    return lane;
}

fn four_classes(first: u32) -> vec4<u32> {
    return first + vec4<u32>(0u, 1u, 2u, 3u) * lanes();
}

fn load_four(row_at: u32, classes: vec4<u32>) -> vec4<u32> {
    // Lanes past the last class read the last class, then drop it: no branch between the four loads.
    let at = logits_base() + row_at + min(classes, vec4<u32>(class_count() - 1u)) * class_stride();
    let words = vec4<u32>(read_logit(at.x), read_logit(at.y), read_logit(at.z), read_logit(at.w));
    return select(vec4<u32>(NEGATIVE_INFINITY_BITS), words, classes < vec4<u32>(class_count()));
}

// The same where all four are classes.
fn load_whole(row_at: u32, classes: vec4<u32>) -> vec4<u32> {
    let at = logits_base() + row_at + classes * class_stride();
    return vec4<u32>(read_logit(at.x), read_logit(at.y), read_logit(at.z), read_logit(at.w));
}
