// Gradients of elements over their scores: each word is written by the invocation that read it, afterwards.

@group(0) @binding(LOGITS) var<storage, read_write> logits: array<u32>;

fn write_grad(index: u32, word: u32) {
    logits[index] = word;
}

fn read_grad(index: u32) -> u32 {
    return logits[index];
}

fn grads_base() -> u32 {
    return params.logits_base;
}
