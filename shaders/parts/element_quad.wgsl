// f32 logits of four rows at a time, in words of 16 bytes: class-last rows without padding, four of which are as many words
// as there are classes, wherever each of them starts; or class-first, neighbouring positions, of which a word is one
// class. Rows and `inner` are multiples of four, bases of 16 bytes.

fn first_class(lane: u32) -> u32 {
    return lane;
}
