// Rows class-last.

fn class_stride() -> u32 {
    return 1u;
}

fn row_offset(row: u32) -> u32 {
    return row * params.row_stride;
}
