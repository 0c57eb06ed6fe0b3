// Where soft targets lie: class-last or class-first, f32, in the layout of the logits.

override CLASS_FIRST: bool = false;
// `row_part` asks; a denominator knows no bias.
const ADJUSTS: bool = false;

fn class_stride() -> u32 {
    return select(1u, params.inner, CLASS_FIRST);
}

fn row_offset(row: u32) -> u32 {
    if (CLASS_FIRST) {
        return row / params.inner * params.row_stride + row % params.inner;
    }
    return row * params.row_stride;
}
