// Scores and gradients of 16 bits, two to a word: arithmetic is f32 all the same. An invocation takes four elements side by
// side, which are two whole words: pairs are never torn between rows or tiles, and so no word has two writers. The half
// behind the last element of all is not the batch's: it keeps what it holds.

fn first_of(index: u32) -> u32 {
    return 4u * index;
}

fn four_of(element: u32) -> vec4<u32> {
    return element + vec4<u32>(0u, 1u, 2u, 3u);
}

fn read_scores(at: vec4<u32>) -> vec4<u32> {
    let low = unpack_two(logits[params.logits_base + at.x / 2u]);
    let high = unpack_two(logits[params.logits_base + at.z / 2u]);
    return vec4<u32>(low, high);
}

fn store_grads(at: vec4<u32>, inside: vec4<bool>, words: vec4<u32>) {
    let low = grads_base() + at.x / 2u;
    let high = grads_base() + at.z / 2u;
    if (inside.y) {
        write_grad(low, pack_two(words.xy));
    } else if (inside.x) {
        write_grad(low, (pack_two(words.xy) & 0xffffu) | (read_grad(low) & 0xffff0000u));
    }
    if (inside.w) {
        write_grad(high, pack_two(words.zw));
    } else if (inside.z) {
        write_grad(high, (pack_two(words.zw) & 0xffffu) | (read_grad(high) & 0xffff0000u));
    }
}
