// What every kernel of the sigmoid losses is told about its dispatch. `src/binary_config.rs` holds its twin.
//
// A block is what lies without a gap: a row, or class-first the columns of `inner` rows. A tile is a range of elements in
// the order of memory; it may start within a block. Its bindings start at its first element, but for the sample weights,
// which start at the first row of its first block. A `_base` is the word at which the data starts in its binding.

struct Params {
    elements: u32,       // of this tile, padding not counted
    columns: u32,        // labels of a row
    row_stride: u32,
    inner: u32,          // rows side by side between two columns; 1 for class-last
    block: u32,          // elements of a block: columns * inner
    first_within: u32,   // where in its block the tile's first element lies
    first_row: u32,      // the first row of the tile's first block, in the batch
    batch_elements: u32, // all elements of the batch
    groups_x: u32,       // width of the grid
    partials: u32,       // partial sums to add up, or the tile's first one to write
    partials_at: u32,    // where partial sums start in the table's values
    positions: u32,      // counts: rows of this tile, or elements where the counts are of the whole batch
    column_groups: u32,  // counts: workgroups side by side in a row
    focal_gamma: f32,
    alpha_positive: f32,
    alpha_negative: f32,
    smoothing_scale: f32, // 1 - label_smoothing
    smoothing_half: f32,  // label_smoothing / 2
    clip_eps: f32,        // probabilities are clipped to [eps, 1 - eps]
    clip_least: f32,      // the least f32 that is not clipped
    clip_logit: f32,      // the largest logit whose sigmoid is not clipped
    clip_odds: f32,       // eps / (1 - eps)
    log_eps: f32,         // added within logarithms
    threshold: i32,       // bits of a score as `ordered` has them: larger ones are predicted positive
    ignore_value: f32,
    pos_weight_min: f32,
    pos_weight_max: f32,
    logits_base: u32,
    targets_base: u32,
    element_weights_base: u32,
    sample_weights_base: u32,
    grad_out_base: u32,
    logit_grads_base: u32,
    element_losses_base: u32,
    binary_counts_base: u32,
    external_base: u32,
}

@group(0) @binding(PARAMS) var<storage, read> params: Params;

// The workgroup's number in the grid. A dimension holds at most 65535 workgroups, so the grid is two-dimensional.
fn group_number(group: vec3<u32>) -> u32 {
    return group.y * params.groups_x + group.x;
}
