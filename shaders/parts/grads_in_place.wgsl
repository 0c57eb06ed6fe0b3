// Gradients over the logits. Each invocation writes only the elements it reads itself, after reading them, and
// no other invocation's logit is needed once the row is reduced: so there is no race and no second buffer.

@group(0) @binding(LOGITS) var<storage, read_write> logits: array<StoredWord>;

fn write_out(index: u32, word: LogitWord) {
    logits[index] = to_stored(word);
}

fn read_out(index: u32) -> LogitWord {
    return from_stored(logits[index]);
}

fn out_base() -> u32 {
    return params.logits_base;
}
