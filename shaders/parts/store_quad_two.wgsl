// The same of gradients.

fn store_quad_word(at: u32, word: u32) {
    if (word % 2u == 1u || word >= class_count()) { return; }
    write_grad((at + word) / 2u, Eight(quad_words[word], quad_words[word + 1u]));
}
