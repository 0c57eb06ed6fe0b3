// Gradients of elements over their logits: each is written by the invocation that read it, afterwards.

@group(0) @binding(LOGITS) var<storage, read_write> logits: array<u32>;

fn read_logits(at: vec4<u32>) -> vec4<u32> {
    let i = at + vec4<u32>(params.logits_base);
    return vec4<u32>(logits[i.x], logits[i.y], logits[i.z], logits[i.w]);
}

fn store_grads(at: vec4<u32>, inside: vec4<bool>, words: vec4<u32>) {
    let i = at + vec4<u32>(params.logits_base);
    if (inside.x) { logits[i.x] = words.x; }
    if (inside.y) { logits[i.y] = words.y; }
    if (inside.z) { logits[i.z] = words.z; }
    if (inside.w) { logits[i.w] = words.w; }
}
