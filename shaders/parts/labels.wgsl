// Labels of 32, 16 or 8 bits: a class is what is below `classes` when read as u32, so negative labels are out of range.

const NO_CLASS: u32 = 0xffffffffu;

// Whether any label means "ignore this row".
override HAS_IGNORE_INDEX: bool = false;

fn is_ignored(label: u32) -> bool {
    // The ignore index is looked at before the range: it may be a class.
    return HAS_IGNORE_INDEX && label == params.ignore_index;
}
