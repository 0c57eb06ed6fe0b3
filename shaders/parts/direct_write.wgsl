// Gradients straight to memory.

// As for the logits: read once.
var<private> base_of_grads: u32;

fn open_grads() {
    base_of_grads = out_base();
}

fn grads_base() -> u32 {
    return base_of_grads;
}

fn write_grad(index: u32, word: LogitWord) {
    write_out(index, word);
}

fn read_grad(index: u32) -> LogitWord {
    return read_out(index);
}

fn stage_out(group: vec3<u32>, lane: Lane) {
}
