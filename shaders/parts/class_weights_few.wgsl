// Class weights, given or live, of few classes: all of them are read by every invocation, outside of any branch, and picked
// from there. Drivers that run on CPUs read what all invocations share once, and walk over them for every load whose place
// differs.

// each BLOCK
var<private> weights_BLOCK: vec4<f32>;
// end

// Past the last class, the last one's.
fn weight_of(class_index: u32) -> f32 {
    return table.values[min(class_index, class_count() - 1u)];
}

fn open_weights() {
    // each BLOCK
    weights_BLOCK = vec4<f32>(
        weight_of(4u * BLOCKu),
        weight_of(4u * BLOCKu + 1u),
        weight_of(4u * BLOCKu + 2u),
        weight_of(4u * BLOCKu + 3u),
    );
    // end
}

fn class_weight(class_index: u32) -> f32 {
    var own = vec4<f32>(0.0);
    // each BLOCK
    own = select(own, weights_BLOCK, four_classes(4u * BLOCKu) == vec4<u32>(class_index));
    // end
    // One of the four, and zeros.
    return (own.x + own.y) + (own.z + own.w);
}
