// The four classes of a block lie side by side.

fn four_classes(first: u32) -> vec4<u32> {
    return first + vec4<u32>(0u, 1u, 2u, 3u);
}
