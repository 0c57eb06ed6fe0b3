// Which words of eight classes an invocation reads and writes, where rows start and end anywhere within them: a part of a
// row's first word and of its last may belong to its neighbours. Class numbers run on into those: below 0, where they wrap
// around, and past the last.

// The number that a word's first class has for the row, where an invocation starts.
fn first_place(row_at: u32, in_row: u32) -> u32 {
    return first_class(in_row) - row_at % 8u;
}

// Whether all eight of a word's classes are the row's.
fn is_own(first: u32) -> bool {
    return first < class_count() - 7u;
}

fn reads_word(first: u32, block: u32) -> bool {
    return bitcast<i32>(block_classes(first, block).x) < bitcast<i32>(class_count());
}

// Of the others, `visit_grads` writes what is the row's.
fn writes_word(first: u32, block: u32) -> bool {
    return is_own(block_classes(first, block).x);
}
