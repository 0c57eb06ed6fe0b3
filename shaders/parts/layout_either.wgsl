// Rows class-last or class-first.

// Whether classes lie `inner` apart (class-first).
override CLASS_FIRST: bool = false;

fn class_stride() -> u32 {
    return select(1u, inner_size, CLASS_FIRST);
}

// The element of a row's class 0, relative to the base.
fn row_offset(row: u32) -> u32 {
    if (CLASS_FIRST) {
        return row / inner_size * params.row_stride + row % inner_size;
    }
    return row * params.row_stride;
}
