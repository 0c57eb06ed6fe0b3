// First stage of the loss: the sum of ROWS_PER_GROUP row losses. One partial a workgroup, in a fixed order.

override WORKGROUP_SIZE: u32 = 64u;
override ROWS_PER_GROUP: u32 = 4096u;
// Words of what is kept of a row, the loss first: see `parts/keep_row.wgsl`.
override ROW_WORDS: u32 = 1u;

@group(0) @binding(ROW_LOSSES) var<storage, read> row_losses: array<u32>;
@group(0) @binding(PARTIALS) var<storage, read_write> partials: array<Sums>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let first_row = group_number(group) * ROWS_PER_GROUP;
    let end_row = min(first_row + ROWS_PER_GROUP, params.rows);
    var sums = no_sums();
    for (var row = first_row + index; row < end_row; row += WORKGROUP_SIZE) {
        let word = row_losses[params.row_losses_base + row * ROW_WORDS];
        if (is_nan(word)) {
            sums.kinds |= 1u;
        } else if (is_infinite(word)) {
            sums.kinds |= select(4u, 2u, word == INFINITY_BITS);
        } else {
            sums.loss += bitcast<f32>(word);
        }
    }
    let all = add_up(sums, index);
    if (index == 0u && first_row < params.rows) { partials[params.partials + group_number(group)] = all; }
}
