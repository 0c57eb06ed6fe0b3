// Four f32 gradients, where `element_f32` loaded their logits. Padding is not written.

fn store_four(row_at: u32, classes: vec4<u32>, words: vec4<u32>) {
    let at = grads_base() + row_at + classes * class_stride();
    let inside = classes < vec4<u32>(class_count());
    if (inside.x) { write_grad(at.x, words.x); }
    if (inside.y) { write_grad(at.y, words.y); }
    if (inside.z) { write_grad(at.z, words.z); }
    if (inside.w) { write_grad(at.w, words.w); }
}

// The same where all four are classes.
fn store_whole(row_at: u32, classes: vec4<u32>, words: vec4<u32>) {
    let at = grads_base() + row_at + classes * class_stride();
    write_grad(at.x, words.x);
    write_grad(at.y, words.y);
    write_grad(at.z, words.z);
    write_grad(at.w, words.w);
}
