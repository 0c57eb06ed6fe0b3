// Rows through workgroup memory, an invocation a row: a workgroup's rows are one contiguous range, which neighbours read
// word by word. For rows without padding.

// Words of a workgroup's rows. `held.wgsl` holds as many blocks as a row has, so BLOCKS times four are enough of each.
override TILE_SPAN: u32 = 64u;
// A word of air after every 32: rows whose length is a power of two do not all start in the same bank.
override TILE_WORDS: u32 = TILE_SPAN + TILE_SPAN / 32u + 1u;

var<workgroup> tile: array<u32, TILE_WORDS>;

fn tile_place(index: u32) -> u32 {
    let at = index % TILE_SPAN;
    return at + at / 32u;
}

fn logits_base() -> u32 {
    return 0u;
}

fn read_logit(index: u32) -> u32 {
    return tile[tile_place(index)];
}

// Words of all rows of this dispatch.
fn words_in_all() -> u32 {
    return params.rows * (TILE_SPAN / WORKGROUP_SIZE);
}

fn stage_in(group: vec3<u32>, lane: Lane) {
    open_rows();
    let first = group_number(group) * TILE_SPAN + lane.index;
    let last = words_in_all() - 1u;
    // each BLOCK
    let at_BLOCK = first + (4u * BLOCKu + vec4<u32>(0u, 1u, 2u, 3u)) * WORKGROUP_SIZE;
    let from_BLOCK = params.logits_base + min(at_BLOCK, vec4<u32>(last));
    let words_BLOCK = vec4<u32>(logits[from_BLOCK.x], logits[from_BLOCK.y], logits[from_BLOCK.z], logits[from_BLOCK.w]);
    // end
    // each BLOCK
    put_in_tile(lane.index + (4u * BLOCKu + vec4<u32>(0u, 1u, 2u, 3u)) * WORKGROUP_SIZE, words_BLOCK);
    // end
    // All words are there before anyone looks at a row.
    workgroupBarrier();
}

fn put_in_tile(at: vec4<u32>, words: vec4<u32>) {
    if (at.x < TILE_SPAN) { tile[tile_place(at.x)] = words.x; }
    if (at.y < TILE_SPAN) { tile[tile_place(at.y)] = words.y; }
    if (at.z < TILE_SPAN) { tile[tile_place(at.z)] = words.z; }
    if (at.w < TILE_SPAN) { tile[tile_place(at.w)] = words.w; }
}
