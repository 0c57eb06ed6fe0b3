// The moments of a row's shares, put together.

@group(0) @binding(ROW_MOMENTS) var<storage, read> row_moments: array<Moments>;

fn visit_moments(row: u32, row_at: u32, in_row: u32, goal: Target, result: RowResult, visit: bool) -> Moments {
    var moments = empty_moments();
    if (!visit) { return moments; }
    for (var share = in_row; share < SPLITS; share += WORKGROUP_SIZE) {
        moments = add_moments(moments, row_moments[row * SPLITS + share]);
    }
    return moments;
}
