// 16 bytes as four words.

alias FourWords = vec4<u32>;

fn four_of(words: FourWords) -> vec4<u32> {
    return words;
}

fn to_four(words: vec4<u32>) -> FourWords {
    return words;
}
