// Second stage of the denominator: adds up the partials, and opens the table for this batch.
//
//     DENOMINATOR 0: 1; 1: sum of weights; 2: rows that count; 3: sum of sample weights; 4: rows of weight != 0;
//                 5: all rows; 6: the caller's own number
//
// Runs for an empty batch as well: every counter is set here.

override WORKGROUP_SIZE: u32 = 64u;
override DENOMINATOR: u32 = 1u;

@group(0) @binding(PARTIALS) var<storage, read> partials: array<Sums>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(local_invocation_index) index: u32) {
    var sums = no_sums();
    for (var i = index; i < params.partials; i += WORKGROUP_SIZE) {
        sums = add(sums, partials[i]);
    }
    let all = add_up(sums, index);
    if (index != 0u) { return; }
    var denominator = 1.0;
    switch (DENOMINATOR) {
        case 1u: { denominator = all.weights; }
        case 2u: { denominator = f32(all.valid); }
        case 3u: { denominator = all.sample_weights; }
        case 4u: { denominator = f32(all.nonzero); }
        case 5u: { denominator = f32(params.denominator_rows); }
        case 6u: { denominator = external_denominator(); }
        default: {}
    }
    table.loss = 0u;
    table.loss_sum = 0u;
    table.denominator = denominator;
    table.weight_sum = all.weights;
    table.sample_weight_sum = all.sample_weights;
    table.valid_rows = all.valid;
    table.ignored_rows = all.ignored;
    table.out_of_range_rows = all.out_of_range;
    table.nonzero_rows = all.nonzero;
    table.nonfinite_weights = all.bad_weights;
    // The kernels that read logits add to these.
    atomicStore(&table.nonfinite_rows, 0u);
    atomicStore(&table.first_bad_row, all.first_bad);
    atomicStore(&table.correct_rows, 0u);
}
