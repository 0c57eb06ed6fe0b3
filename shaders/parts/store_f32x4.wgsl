// Four f32 gradients in one 16-byte store.

fn store_four(row_at: u32, classes: vec4<u32>, words: vec4<u32>) {
    if (classes.x < class_count()) { write_grad((grads_base() + row_at + classes.x) / 4u, words); }
}

// The same where all four are classes.
fn store_whole(row_at: u32, classes: vec4<u32>, words: vec4<u32>) {
    write_grad((grads_base() + row_at + classes.x) / 4u, words);
}
