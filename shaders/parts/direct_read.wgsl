// Logits straight from memory.

// Read once, as in `class_count`.
var<private> base_of_logits: u32;

fn logits_base() -> u32 {
    return base_of_logits;
}

fn read_logit(index: u32) -> LogitWord {
    return from_stored(logits[index]);
}

fn stage_in(group: vec3<u32>, lane: Lane) {
    open_rows();
    base_of_logits = params.logits_base;
}
