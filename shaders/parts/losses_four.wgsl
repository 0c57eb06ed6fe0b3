// The losses of the four rows that an invocation takes: one store.

@group(0) @binding(ROW_LOSSES) var<storage, read_write> row_losses: array<FourWords>;

var<private> four_losses: vec4<u32>;
// That of the row in hand.
var<private> own_loss: u32;

fn keep_row(row: u32, goal: Target, whole: Part, result: RowResult) {
    own_loss = result.loss;
}

fn keep_loss(quarter: u32) {
    four_losses[quarter] = own_loss;
}

fn store_losses(row: u32) {
    row_losses[(base_of_losses + row) / 4u] = to_four(four_losses);
}
