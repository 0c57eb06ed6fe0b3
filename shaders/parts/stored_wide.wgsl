// Four classes in two words of 64 bits.

alias StoredWord = FourWords;

fn from_stored(word: StoredWord) -> vec4<u32> {
    return four_of(word);
}

fn to_stored(word: vec4<u32>) -> StoredWord {
    return to_four(word);
}
