// Four 16-bit gradients. A word that holds padding beside the last class keeps it.

fn store_four(row_at: u32, classes: vec4<u32>, words: vec4<u32>) {
    let at = grads_base() + row_at / 2u + classes.x / 2u;
    if (classes.y < class_count()) {
        write_grad(at, pack_two(words.xy));
    } else if (classes.x < class_count()) {
        write_grad(at, (pack_two(words.xy) & 0xffffu) | (read_grad(at) & 0xffff0000u));
    }
    if (classes.w < class_count()) {
        write_grad(at + 1u, pack_two(words.zw));
    } else if (classes.z < class_count()) {
        write_grad(at + 1u, (pack_two(words.zw) & 0xffffu) | (read_grad(at + 1u) & 0xffff0000u));
    }
}

// The same where all four are classes.
fn store_whole(row_at: u32, classes: vec4<u32>, words: vec4<u32>) {
    let at = grads_base() + row_at / 2u + classes.x / 2u;
    write_grad(at, pack_two(words.xy));
    write_grad(at + 1u, pack_two(words.zw));
}
