// Gradients into the tile, over the logits, and the tile to memory, where neighbours write word by word.

fn open_grads() {
}

fn grads_base() -> u32 {
    return 0u;
}

fn write_grad(index: u32, word: u32) {
    tile[tile_place(index)] = word;
}

fn read_grad(index: u32) -> u32 {
    return tile[tile_place(index)];
}

fn stage_out(group: vec3<u32>, lane: Lane) {
    // All rows are in the tile before it leaves.
    workgroupBarrier();
    let start = group_number(group) * TILE_SPAN;
    let end = words_in_all();
    // each BLOCK
    put_out(start, end, lane.index + (4u * BLOCKu + vec4<u32>(0u, 1u, 2u, 3u)) * WORKGROUP_SIZE);
    // end
}

fn put_out(start: u32, end: u32, at: vec4<u32>) {
    if (at.x < TILE_SPAN && start + at.x < end) { write_out(out_base() + start + at.x, tile[tile_place(at.x)]); }
    if (at.y < TILE_SPAN && start + at.y < end) { write_out(out_base() + start + at.y, tile[tile_place(at.y)]); }
    if (at.z < TILE_SPAN && start + at.z < end) { write_out(out_base() + start + at.z, tile[tile_place(at.z)]); }
    if (at.w < TILE_SPAN && start + at.w < end) { write_out(out_base() + start + at.w, tile[tile_place(at.w)]); }
}
