// Scores and gradients of 32 bits. Invocations side by side take elements side by side.

fn first_of(index: u32) -> u32 {
    return index;
}

fn four_of(element: u32) -> vec4<u32> {
    return element + vec4<u32>(0u, 1u, 2u, 3u) * WORKGROUP_SIZE;
}

fn read_scores(at: vec4<u32>) -> vec4<u32> {
    let i = at + vec4<u32>(params.logits_base);
    return vec4<u32>(logits[i.x], logits[i.y], logits[i.z], logits[i.w]);
}

fn store_grads(at: vec4<u32>, inside: vec4<bool>, words: vec4<u32>) {
    let i = at + vec4<u32>(grads_base());
    if (inside.x) { write_grad(i.x, words.x); }
    if (inside.y) { write_grad(i.y, words.y); }
    if (inside.z) { write_grad(i.z, words.z); }
    if (inside.w) { write_grad(i.w, words.w); }
}
