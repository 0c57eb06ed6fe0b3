// 16 bytes of four rows a load.

alias LogitWord = vec4<u32>;

fn load_quad_word(at: u32, word: u32) {
    if (word < class_count()) { quad_words[word] = read_logit(at + word * quad_stride()); }
}
