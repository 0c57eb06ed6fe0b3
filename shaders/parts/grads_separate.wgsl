// Gradients in a buffer of their own, beside the logits.

@group(0) @binding(LOGITS) var<storage, read> logits: array<StoredWord>;
@group(0) @binding(LOGIT_GRADS) var<storage, read_write> logit_grads: array<StoredWord>;

fn write_out(index: u32, word: LogitWord) {
    logit_grads[index] = to_stored(word);
}

fn read_out(index: u32) -> LogitWord {
    return from_stored(logit_grads[index]);
}

fn out_base() -> u32 {
    return params.logit_grads_base;
}
