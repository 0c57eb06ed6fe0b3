// What the mean divides by, into the table; the totals are cleared. One workgroup.
//
//     DENOMINATOR 0: 1; 1: all elements; 2: elements that count; 3: sum of weights; 4: sum of sample weights;
//                 5: the caller's own number; 6: columns

override WORKGROUP_SIZE: u32 = 64u;
override DENOMINATOR: u32 = 1u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(local_invocation_index) index: u32) {
    var sums = no_sums();
    // No partial sums where the denominator does not need them.
    for (var i = index; i < params.partials; i += WORKGROUP_SIZE) {
        sums = add(sums, load_sums(i));
    }
    let all = add_up(sums, index);
    if (index != 0u) { return; }
    var denominator = 1.0;
    switch (DENOMINATOR) {
        case 1u: { denominator = f32(params.batch_elements); }
        case 2u: { denominator = f32(all.valid); }
        case 3u: { denominator = all.weights; }
        case 4u: { denominator = all.sample_weights; }
        case 5u: { denominator = external_denominator(); }
        case 6u: { denominator = f32(params.columns); }
        default: {}
    }
    table.loss = 0u;
    table.loss_sum = 0u;
    table.denominator = denominator;
    table.weight_sum = 0.0;
    table.sample_weight_sum = 0.0;
    table.valid_rows = 0u;
    table.ignored_rows = 0u;
    table.out_of_range_rows = 0u;
    table.nonfinite_rows = 0u;
    table.first_bad_row = 0xffffffffu;
    table.correct_rows = 0u;
    table.nonzero_rows = 0u;
    table.correct_weight = 0.0;
}
