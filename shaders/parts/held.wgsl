// A share of a row in registers: BLOCKS times four classes an invocation. `src/wgsl.rs` writes the lines between `each`
// and `end` once for each block, with its number for BLOCK: loops may not be unrolled, and an array in private memory
// may not be taken for registers.
//
// `first` is the first class of the invocation's first block.

// Logits as finite numbers, before scale and bias.
// each BLOCK
var<private> held_BLOCK: vec4<f32>;
// end
// Where KEEPS_TERMS says so, they are exp(z - held_reference) once the sum has been taken: the gradient needs no second
// exp then.
var<private> held_reference: f32;

fn block_classes(first: u32, block: u32) -> vec4<u32> {
    return first + block_offsets(block);
}

// The largest of four numbers each, and where it was met first, relative to the first class.
struct Highest {
    value: vec4<f32>,
    at: vec4<u32>,
}

fn none_yet() -> Highest {
    return Highest(vec4<f32>(-STAND_IN), vec4<u32>(NO_CLASS));
}

fn take_four(before: Highest, z: vec4<f32>, offsets: vec4<u32>) -> Highest {
    let higher = z > before.value;
    return Highest(select(before.value, z, higher), select(before.at, offsets, higher));
}

// The lowest class of those that have the largest of all; NO_CLASS where there is nothing but stand-ins of -inf.
fn highest_class(highest: Highest, first: u32) -> u32 {
    let tied = select(vec4<u32>(NO_CLASS), highest.at, highest.value == vec4<f32>(highest_of(highest.value)));
    let lowest = min(min(tied.x, tied.y), min(tied.z, tied.w));
    return select(first + lowest, NO_CLASS, lowest == NO_CLASS);
}

// Takes what is held, classes later than those before, into maximum, argmax, the label's own logit and the sum; the sum
// only later, by `sum_held`, where SUMS_LATER says that nothing came before and the row's largest class will be known.
fn take_held(before: Part, goal: Target, row_at: u32, first: u32) -> Part {
    var part = before;
    open_target();
    var highest = none_yet();
    // each BLOCK
    let z_BLOCK = adjust(held_BLOCK, block_classes(first, BLOCKu));
    part = take_target(part, goal, row_at, z_BLOCK, first, block_offsets(BLOCKu));
    highest = take_four(highest, z_BLOCK, block_offsets(BLOCKu));
    // end
    part = close_target(part);
    let value = highest_of(highest.value);
    var passed = -STAND_IN;
    if (value > part.top) {
        passed = part.top;
        part.top = value;
        part.top_at = highest_class(highest, first);
    }
    if (ADJUSTS) {
        var raw = none_yet();
        // each BLOCK
        raw = take_four(raw, held_BLOCK, block_offsets(BLOCKu));
        // end
        let raw_value = highest_of(raw.value);
        if (raw_value > part.raw_top) {
            part.raw_top = raw_value;
            part.raw_top_at = highest_class(raw, first);
        }
    }
    if (SUMS_LATER) { return part; }
    // The reference follows the maximum lazily: a rescaling costs an exp and its rounding, and terms up to exp(4)
    // do no harm.
    if (part.top > part.reference + 4.0) {
        part.sum = part.sum * exp_difference(part.reference - part.top);
        part.reference = part.top;
    }
    part.sum += sum_held(first, part.reference, part.top_at);
    // The class that was on top until now joins the others.
    if (passed > -STAND_IN) { part.sum += term(passed, part.reference); }
    return part;
}

// What the terms of a whole row are relative to: its largest z. Where nothing was read, or there is nothing but -inf, it is
// beyond everything, so that every term is 0.
fn reference_of(whole: Part) -> f32 {
    return select(whole.top, STAND_IN, whole.top <= -STAND_IN);
}

// The sum of exp(z - reference) over all classes held but the top one.
fn sum_held(first: u32, reference: f32, top_at: u32) -> f32 {
    let at = vec4<u32>(top_at - first);
    var e = vec4<f32>(0.0);
    // each BLOCK
    let e_BLOCK = exp_four(adjust(held_BLOCK, block_classes(first, BLOCKu)), reference);
    e = select(e + e_BLOCK, e, block_offsets(BLOCKu) == at);
    if (KEEPS_TERMS) { held_BLOCK = e_BLOCK; }
    if (PICKS_TERM) { pick_term(e_BLOCK, block_offsets(BLOCKu)); }
    // end
    if (KEEPS_TERMS) { held_reference = reference; }
    return (e.x + e.y) + (e.z + e.w);
}
