// The last pass over rows that several workgroups shared: by shares, not by logits. A workgroup a row.

override SPLITS: u32 = 2u;

fn row_offset(row: u32) -> u32 {
    return row * params.row_stride;
}

fn stage_in(group: vec3<u32>, lane: Lane) {
    open_rows();
}

fn visit_row(row: u32, row_at: u32, in_row: u32, goal: Target) -> Part {
    if (!row_counts(goal)) { return empty_part(); }
    return visit_shares(row, in_row);
}
