// The labels of the four rows that an invocation takes, 32 bits each: one load.

@group(0) @binding(LABELS) var<storage, read> labels: array<FourWords>;

var<private> four_labels: vec4<u32>;
// That of the row in hand.
var<private> own_label: u32;

fn label_at(row: u32) -> u32 {
    return own_label;
}

fn hold_labels(row: u32) {
    four_labels = four_of(labels[(params.labels_base + row) / 4u]);
}

fn pick_label(quarter: u32) {
    own_label = four_labels[quarter];
}
