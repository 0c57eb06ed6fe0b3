// Gradients of elements in a buffer of their own, in the layout of the scores.

@group(0) @binding(LOGITS) var<storage, read> logits: array<u32>;
@group(0) @binding(LOGIT_GRADS) var<storage, read_write> logit_grads: array<u32>;

fn write_grad(index: u32, word: u32) {
    logit_grads[index] = word;
}

fn read_grad(index: u32) -> u32 {
    return logit_grads[index];
}

fn grads_base() -> u32 {
    return params.logit_grads_base;
}
