// What the workgroups of a row knew of their shares, put together by one workgroup.

@group(0) @binding(ROW_SHARES) var<storage, read> row_shares: array<Part>;

fn visit_shares(row: u32, in_group: u32) -> Part {
    var part = empty_part();
    for (var share = in_group; share < SPLITS; share += WORKGROUP_SIZE) {
        part = combine(part, row_shares[row * SPLITS + share]);
    }
    return part;
}
