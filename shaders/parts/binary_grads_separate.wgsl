// Gradients of elements in a buffer of their own, in the layout of the logits.

@group(0) @binding(LOGITS) var<storage, read> logits: array<u32>;
@group(0) @binding(LOGIT_GRADS) var<storage, read_write> logit_grads: array<u32>;

fn read_logits(at: vec4<u32>) -> vec4<u32> {
    let i = at + vec4<u32>(params.logits_base);
    return vec4<u32>(logits[i.x], logits[i.y], logits[i.z], logits[i.w]);
}

fn store_grads(at: vec4<u32>, inside: vec4<bool>, words: vec4<u32>) {
    let i = at + vec4<u32>(params.logit_grads_base);
    if (inside.x) { logit_grads[i.x] = words.x; }
    if (inside.y) { logit_grads[i.y] = words.y; }
    if (inside.z) { logit_grads[i.z] = words.z; }
    if (inside.w) { logit_grads[i.w] = words.w; }
}
