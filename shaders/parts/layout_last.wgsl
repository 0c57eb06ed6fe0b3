// Where the logits of a row lie that is stored class-last: beside each other.

fn class_stride() -> u32 {
    return 1u;
}

fn row_offset(row: u32) -> u32 {
    return row * params.row_stride;
}
