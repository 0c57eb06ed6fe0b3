// 32 bytes of four class-last rows a load, where the number of classes is even.

alias LogitWord = Eight;

fn load_quad_word(at: u32, word: u32) {
    // An odd one comes with that before it.
    if (word % 2u == 1u || word >= class_count()) { return; }
    let two = read_logit((at + word) / 2u);
    quad_words[word] = two.low;
    quad_words[word + 1u] = two.high;
}
