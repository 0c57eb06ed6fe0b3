// What every kernel is told about its dispatch. One struct for all: `src/pipeline.rs` holds its twin.
//
// All indices are relative to the bindings of this dispatch: large batches are cut into tiles of whole rows, so
// that a binding never passes the device's limit and `u32` never overflows. A `_base` is the element at which the
// data starts in its binding, because a binding may only start at an aligned offset.

struct Params {
    rows: u32,                  // rows of this tile
    classes: u32,
    row_stride: u32,
    inner: u32,                 // 1: class-last
    first_row: u32,             // the tile's first row, in the batch
    groups_x: u32,              // width of the grid; rows go along x, then y
    ignore_index: u32,          // the bits of an i32
    sample_weight_divisor: u32, // row / divisor % modulus is the index of its sample weight
    sample_weight_modulus: u32,
    sample_weights_first_row: u32, // the tile's first row, where weights are broadcast over the batch; else 0
    denominator_rows: u32,      // all rows of the batch
    partials: u32,              // partial sums to add up, or the tile's first one to write
    logits_base: u32,
    labels_base: u32,
    sample_weights_base: u32,
    grad_out_base: u32,
    logit_grads_base: u32,
    row_losses_base: u32,
    row_stats_base: u32,
    gathered_base: u32,
    target_probs_base: u32,
    external_base: u32,
}

@group(0) @binding(PARAMS) var<storage, read> params: Params;

// The workgroup's number in the grid. A dimension holds at most 65535 workgroups, so the grid is two-dimensional.
fn group_number(group: vec3<u32>) -> u32 {
    return group.y * params.groups_x + group.x;
}
