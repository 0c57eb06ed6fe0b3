// What an invocation knows of its share of a row, and how two shares become one.
//
// The label's class is kept out of `sum`: the gradient at the label is -(sum of the others' probabilities), which
// p - 1 would lose for a confident row.

struct Part {
    top: f32,       // the largest logit
    top_at: u32,    // its class, the lowest on ties
    label: f32,     // the label's logit, or -STAND_IN
    reference: f32, // what `sum` is relative to
    sum: f32,       // sum of exp(z - reference) over the other classes
}

fn empty_part() -> Part {
    return Part(-STAND_IN, NO_CLASS, -STAND_IN, -STAND_IN, 0.0);
}

// A sum relative to `from`, made relative to `to` >= `from`.
fn relative_to(sum: f32, from_reference: f32, to_reference: f32) -> f32 {
    // Not exp(0): WGSL lets that be 3 ulp off 1.
    if (from_reference == to_reference) { return sum; }
    return sum * exp_difference(from_reference - to_reference);
}

// Takes four more classes, later ones than before.
fn take_four(before: Part, words: vec4<u32>, classes: vec4<u32>, label: u32) -> Part {
    var part = before;
    let z = tame(words);
    let highest = max(max(z.x, z.y), max(z.z, z.w));
    if (highest > part.top) {
        part.top = highest;
        // The lowest of the four that is as high: looked at from the last to the first.
        var at = classes.w;
        at = select(at, classes.z, z.z == highest);
        at = select(at, classes.y, z.y == highest);
        at = select(at, classes.x, z.x == highest);
        part.top_at = at;
    }
    let is_label = classes == vec4<u32>(label);
    let own = select(vec4<f32>(-STAND_IN), z, is_label);
    part.label = max(part.label, max(max(own.x, own.y), max(own.z, own.w)));
    let others = select(z, vec4<f32>(-STAND_IN), is_label);
    let highest_other = max(max(others.x, others.y), max(others.z, others.w));
    // The reference follows the maximum lazily: a rescaling costs an exp and its rounding, and terms up to exp(4)
    // do no harm.
    if (highest_other > part.reference + 4.0) {
        part.sum = part.sum * exp_difference(part.reference - highest_other);
        part.reference = highest_other;
    }
    let e = exp_four(others, part.reference);
    part.sum += (e.x + e.y) + (e.z + e.w);
    return part;
}

fn combine(a: Part, b: Part) -> Part {
    var part: Part;
    part.top = max(a.top, b.top);
    // A share without any class has NO_CLASS, the highest index: it never wins a tie.
    part.top_at = min(select(NO_CLASS, a.top_at, a.top == part.top), select(NO_CLASS, b.top_at, b.top == part.top));
    part.label = max(a.label, b.label);
    part.reference = max(a.reference, b.reference);
    part.sum = relative_to(a.sum, a.reference, part.reference) + relative_to(b.sum, b.reference, part.reference);
    return part;
}
