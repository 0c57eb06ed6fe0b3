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

// Takes what is held, classes later than those before, into maximum, sum, argmax and the label's own logit.
fn take_held(before: Part, goal: Target, row_at: u32, first: u32) -> Part {
    var part = before;
    // each BLOCK
    let z_BLOCK = adjust(held_BLOCK, block_classes(first, BLOCKu));
    part = take_target(part, goal, row_at, z_BLOCK, first, block_offsets(BLOCKu));
    // end
    var high = vec4<f32>(-STAND_IN);
    // each BLOCK
    high = max(high, z_BLOCK);
    // end
    let highest = highest_of(high);
    var passed = -STAND_IN;
    if (highest > part.top) {
        passed = part.top;
        part.top = highest;
        var at = vec4<u32>(NO_CLASS);
        // each BLOCK
        at = min(at, select(vec4<u32>(NO_CLASS), block_offsets(BLOCKu), z_BLOCK == vec4<f32>(highest)));
        // end
        part.top_at = first + min(min(at.x, at.y), min(at.z, at.w));
    }
    if (ADJUSTS) {
        var raw_high = vec4<f32>(-STAND_IN);
        // each BLOCK
        raw_high = max(raw_high, held_BLOCK);
        // end
        let raw_highest = highest_of(raw_high);
        if (raw_highest > part.raw_top) {
            part.raw_top = raw_highest;
            var at = vec4<u32>(NO_CLASS);
            // each BLOCK
            at = min(at, select(vec4<u32>(NO_CLASS), block_offsets(BLOCKu), held_BLOCK == vec4<f32>(raw_highest)));
            // end
            part.raw_top_at = first + min(min(at.x, at.y), min(at.z, at.w));
        }
    }
    // The reference follows the maximum lazily: a rescaling costs an exp and its rounding, and terms up to exp(4)
    // do no harm.
    if (part.top > part.reference + 4.0) {
        part.sum = part.sum * exp_difference(part.reference - part.top);
        part.reference = part.top;
    }
    let top_at = vec4<u32>(part.top_at - first);
    var e = vec4<f32>(0.0);
    // each BLOCK
    let e_BLOCK = exp_four(z_BLOCK, part.reference);
    e += select(e_BLOCK, vec4<f32>(0.0), block_offsets(BLOCKu) == top_at);
    if (KEEPS_TERMS) { held_BLOCK = e_BLOCK; }
    // end
    if (KEEPS_TERMS) { held_reference = part.reference; }
    part.sum += (e.x + e.y) + (e.z + e.w);
    // The class that was on top until now joins the others.
    if (passed > -STAND_IN) { part.sum += term(passed, part.reference); }
    return part;
}
