// What an invocation knows of its share of a row, and how two shares become one.
//
// The largest class is kept out of `sum`: 1 - p of that class is the sum of the others, which a subtraction would lose
// where one class has nearly all of the probability. For every other class p is at most 1/2, and 1 - p is safe.

struct Part {
    top: f32,       // the largest z (scaled, biased logit)
    top_at: u32,    // its class, the lowest on ties
    raw_top: f32,   // the same of the logits themselves, where scale or bias make them differ
    raw_top_at: u32,
    label: f32,     // the label's z; for soft targets the largest target
    label_at: u32,  // its class, the lowest on ties
    reference: f32, // what `sum` is relative to: within 4 of `top`
    sum: f32,       // sum of exp(z - reference) over all classes but the top one
}

fn empty_part() -> Part {
    return Part(-STAND_IN, NO_CLASS, -STAND_IN, NO_CLASS, -STAND_IN, NO_CLASS, -STAND_IN, 0.0);
}

// A sum relative to `from`, made relative to `to` >= `from`.
fn relative_to(sum: f32, from_reference: f32, to_reference: f32) -> f32 {
    // Not exp(0): WGSL lets that be 3 ulp off 1.
    if (from_reference == to_reference) { return sum; }
    return sum * exp_difference(from_reference - to_reference);
}

// exp(z - reference) of a single class, 0 for a stand-in of -inf.
fn term(z: f32, reference: f32) -> f32 {
    return select(exp_difference(z - reference), 0.0, z <= -STAND_IN);
}

fn highest_of(z: vec4<f32>) -> f32 {
    return max(max(z.x, z.y), max(z.z, z.w));
}

// The lowest of four classes whose value is the highest.
fn first_of(z: vec4<f32>, highest: f32, classes: vec4<u32>) -> u32 {
    // Looked at from the last to the first.
    var at = classes.w;
    at = select(at, classes.z, z.z == highest);
    at = select(at, classes.y, z.y == highest);
    return select(at, classes.x, z.x == highest);
}

// What two shares have together, but for the sum.
fn combine_tops(a: Part, b: Part) -> Part {
    var part: Part;
    part.top = max(a.top, b.top);
    // A share without any class has NO_CLASS, the highest index: it never wins a tie.
    part.top_at = min(select(NO_CLASS, a.top_at, a.top == part.top), select(NO_CLASS, b.top_at, b.top == part.top));
    if (ADJUSTS) {
        part.raw_top = max(a.raw_top, b.raw_top);
        part.raw_top_at = min(
            select(NO_CLASS, a.raw_top_at, a.raw_top == part.raw_top),
            select(NO_CLASS, b.raw_top_at, b.raw_top == part.raw_top),
        );
    }
    part.label = max(a.label, b.label);
    part.label_at = min(
        select(NO_CLASS, a.label_at, a.label == part.label),
        select(NO_CLASS, b.label_at, b.label == part.label),
    );
    part.reference = max(a.reference, b.reference);
    return part;
}

fn combine(a: Part, b: Part) -> Part {
    var part = combine_tops(a, b);
    part.sum = relative_to(a.sum, a.reference, part.reference) + relative_to(b.sum, b.reference, part.reference);
    // One of the two tops is a top no more.
    let passed = select(a.top, b.top, a.top_at == part.top_at);
    part.sum += term(passed, part.reference);
    return part;
}

// NaN or +inf among the logits, or nothing but -inf: the stand-ins are beyond every finite logit.
fn is_bad(whole: Part) -> bool {
    return whole.top >= STAND_IN || whole.top <= -STAND_IN;
}
