// Words are stored as they are computed with.

alias StoredWord = LogitWord;

fn from_stored(word: StoredWord) -> LogitWord {
    return word;
}

fn to_stored(word: LogitWord) -> StoredWord {
    return word;
}
