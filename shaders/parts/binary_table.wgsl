// The table of a sigmoid loss: the totals first (64 bytes, laid out as those of the softmax), then two factors a
// column (or two in all), then partial sums.

struct Table {
    loss: u32,              // bits of an f32: it may be NaN
    loss_sum: u32,          // the same
    denominator: f32,
    weight_sum: f32,
    sample_weight_sum: f32,
    valid_rows: u32,        // elements, as in the other counts
    ignored_rows: u32,
    out_of_range_rows: u32, // always 0
    nonfinite_rows: u32,
    first_bad_row: u32,     // 0xffffffff: none
    correct_rows: u32,
    nonzero_rows: u32,
    grad_scale: f32,        // the caller's: every gradient is multiplied by it
    correct_weight: f32,    // sum of the sample weights of correct elements
    reserved_2: u32,
    reserved_3: u32,
    values: array<u32>,     // bits: [columns, 2] factors (positive, negative), then partial sums
}

@group(0) @binding(TABLE) var<storage, read_write> table: Table;
