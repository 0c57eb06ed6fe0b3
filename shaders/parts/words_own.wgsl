// Which words of eight classes an invocation reads and writes, where rows start and end with words: those of its row.

fn reads_word(first: u32, block: u32) -> bool {
    return is_whole(block) || block_classes(first, block).x < class_count();
}

fn writes_word(first: u32, block: u32) -> bool {
    return reads_word(first, block);
}
