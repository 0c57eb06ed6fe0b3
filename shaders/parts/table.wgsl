// The table: what one step of training learns about its batch, and the values it uses. The totals first (64
// bytes, `src/kernels/table.rs` holds their twin), then the class weights, the biases and the cost matrix.

struct Table {
    loss: u32,                  // bits of an f32: it may be NaN
    loss_sum: u32,              // the same
    denominator: f32,
    weight_sum: f32,
    sample_weight_sum: f32,
    valid_rows: u32,
    ignored_rows: u32,
    out_of_range_rows: u32,
    nonfinite_rows: atomic<u32>,
    first_bad_row: atomic<u32>, // 0xffffffff: none
    correct_rows: atomic<u32>,
    nonzero_rows: u32,
    grad_scale: f32,            // the caller's: every gradient is multiplied by it
    reserved_1: u32,
    nonfinite_weights: u32,
    reserved_3: u32,
    values: array<f32>,         // [classes] weights, [classes] bias, [classes, classes] costs
}

@group(0) @binding(TABLE) var<storage, read_write> table: Table;
