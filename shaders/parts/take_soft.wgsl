// Soft targets: the class with the largest one stands for the row. Found on the way, as are targets that are no numbers.

@group(0) @binding(TARGET_PROBS) var<storage, read> target_probs: array<u32>;

fn target_words(row_at: u32, classes: vec4<u32>) -> vec4<u32> {
    let at = params.target_probs_base + row_at + min(classes, vec4<u32>(params.classes - 1u)) * class_stride();
    let words = vec4<u32>(target_probs[at.x], target_probs[at.y], target_probs[at.z], target_probs[at.w]);
    return select(vec4<u32>(NEGATIVE_INFINITY_BITS), words, classes < vec4<u32>(params.classes));
}

fn open_target() {
}

fn close_target(before: Part) -> Part {
    return before;
}

fn pick_term(e: vec4<f32>, offsets: vec4<u32>) {
}

fn take_target(before: Part, goal: Target, row_at: u32, z: vec4<f32>, first: u32, offsets: vec4<u32>) -> Part {
    let classes = first + offsets;
    var part = before;
    let words = target_words(row_at, classes);
    let inside = classes < vec4<u32>(params.classes);
    let infinite = (words & vec4<u32>(INFINITY_BITS)) == vec4<u32>(INFINITY_BITS);
    // A target that is NaN or infinite is the largest: it shows at the end of the row.
    let t = select(tame(words), vec4<f32>(STAND_IN), infinite & inside);
    let highest = highest_of(t);
    if (highest > part.label) {
        part.label = highest;
        part.label_at = first_of(t, highest, classes);
    }
    return part;
}

fn targets_four(goal: Target, row_at: u32, classes: vec4<u32>) -> vec4<f32> {
    let words = target_words(row_at, classes);
    return bitcast<vec4<f32>>(select(vec4<u32>(0u), words, classes < vec4<u32>(params.classes)));
}
