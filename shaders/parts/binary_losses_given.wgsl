// Each element's loss is written, in the layout of the logits, as bits: it may be NaN.

@group(0) @binding(ELEMENT_LOSSES) var<storage, read_write> element_losses: array<u32>;

fn store_losses(at: vec4<u32>, inside: vec4<bool>, words: vec4<u32>) {
    let i = at + vec4<u32>(params.element_losses_base);
    if (inside.x) { element_losses[i.x] = words.x; }
    if (inside.y) { element_losses[i.y] = words.y; }
    if (inside.z) { element_losses[i.z] = words.z; }
    if (inside.w) { element_losses[i.w] = words.w; }
}
