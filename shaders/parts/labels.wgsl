// Labels of 32, 16 or 8 bits: a class is what is below `classes` when read as u32, so negative labels are out of range.

const NO_CLASS: u32 = 0xffffffffu;

// Whether any label means "ignore this row".
override HAS_IGNORE_INDEX: bool = false;
override LABEL_BITS: u32 = 32u;

@group(0) @binding(LABELS) var<storage, read> labels: array<u32>;

// Packed labels share a word, the first in its lowest bits; the base counts labels, not words.
fn label_at(row: u32) -> u32 {
    let at = params.labels_base + row;
    if (LABEL_BITS == 8u) { return (labels[at / 4u] >> (at % 4u * 8u)) & 0xffu; }
    if (LABEL_BITS == 16u) { return (labels[at / 2u] >> (at % 2u * 16u)) & 0xffffu; }
    return labels[at];
}

fn is_ignored(label: u32) -> bool {
    // The ignore index is looked at before the range: it may be a class.
    return HAS_IGNORE_INDEX && label == params.ignore_index;
}
