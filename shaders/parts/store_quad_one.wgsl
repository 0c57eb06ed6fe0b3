// The same of gradients.

fn store_quad_word(at: u32, word: u32) {
    if (word < class_count()) { write_grad(at + word * quad_stride(), quad_words[word]); }
}
