// f32 logits of four rows at a time, in words of 16 bytes: class-last rows without padding, four of which are as many words
// as there are classes, wherever each of them starts; or class-first, neighbouring positions, of which a word is one
// class. Rows and `inner` are multiples of four, bases of 16 bytes.

override CLASS_FIRST: bool = false;

fn class_stride() -> u32 {
    return select(1u, inner_size, CLASS_FIRST);
}

// The element of a row's class 0, relative to the base.
fn row_offset(row: u32) -> u32 {
    if (CLASS_FIRST) {
        return row / inner_size * params.row_stride + row % inner_size;
    }
    return row * params.row_stride;
}

fn first_class(lane: u32) -> u32 {
    return lane;
}

fn four_classes(first: u32) -> vec4<u32> {
    return first + vec4<u32>(0u, 1u, 2u, 3u);
}
