// An invocation's blocks lie apart: the lanes of a row take one each in turn.

// Relative to `first`: known when the pipeline is made, and so are comparisons with it spared an addition.
fn block_offsets(block: u32) -> vec4<u32> {
    return four_classes(4u * block * lanes());
}

// Whether all invocations have four classes in a block: known when the pipeline is made, or not at all.
fn is_whole(block: u32) -> bool {
    return 4u * (block + 1u) * lanes() <= CLASSES;
}
