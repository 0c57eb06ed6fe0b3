// Gradients of two blocks, in one store: those of the first wait for those of the second.

var<private> first_of_two: vec4<u32>;

// each PAIR
fn put_EVEN(row_at: u32, first: u32, words: vec4<u32>) {
    first_of_two = words;
}

fn put_ODD(row_at: u32, first: u32, words: vec4<u32>) {
    if (writes_word(first, EVENu)) {
        let at = block_classes(first, EVENu).x;
        write_grad((grads_base() + row_at + at) / 8u, Eight(first_of_two, words));
    }
}

// end
