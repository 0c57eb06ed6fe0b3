// Gradients in a buffer of their own, beside the logits.

@group(0) @binding(LOGITS) var<storage, read> logits: array<LogitWord>;
@group(0) @binding(LOGIT_GRADS) var<storage, read_write> logit_grads: array<LogitWord>;

fn write_out(index: u32, word: LogitWord) {
    logit_grads[index] = word;
}

fn read_out(index: u32) -> LogitWord {
    return logit_grads[index];
}

fn out_base() -> u32 {
    return params.logit_grads_base;
}
