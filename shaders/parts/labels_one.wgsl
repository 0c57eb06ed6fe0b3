// A label at a time. Packed labels share a word, the first in its lowest bits; the base counts labels, not words.

override LABEL_BITS: u32 = 32u;

@group(0) @binding(LABELS) var<storage, read> labels: array<u32>;

fn label_at(row: u32) -> u32 {
    let at = params.labels_base + row;
    if (LABEL_BITS == 8u) { return (labels[at / 4u] >> (at % 4u * 8u)) & 0xffu; }
    if (LABEL_BITS == 16u) { return (labels[at / 2u] >> (at % 2u * 16u)) & 0xffffu; }
    return labels[at];
}

fn hold_labels(row: u32) {
}

fn pick_label(quarter: u32) {
}
