// An invocation's blocks lie in pairs, as they are loaded: the lanes of a row take one each in turn.

// Relative to `first`: known when the pipeline is made, and so are comparisons with it spared an addition.
fn block_offsets(block: u32) -> vec4<u32> {
    return four_classes(8u * (block / 2u) * lanes() + 4u * (block % 2u));
}

// Whether all invocations have four classes in a block, and so eight in its pair: known when the pipeline is made, or not
// at all.
fn is_whole(block: u32) -> bool {
    return 8u * (block / 2u + 1u) * lanes() <= CLASSES;
}
