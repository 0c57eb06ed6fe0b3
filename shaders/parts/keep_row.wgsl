// What is kept of a row: its weighted loss. With by-products a record: (bits of the loss, prediction, class, bits of the
// weight), where the weight is what a weighted metric weighs the row with, sample weight times the class's.

// 1 or 4. A constant, for it is in every text that has losses.
override ROW_WORDS: u32 = 1u;

@group(0) @binding(ROW_LOSSES) var<storage, read_write> row_losses: array<u32>;

fn keep_row(row: u32, goal: Target, whole: Part, result: RowResult) {
    let at = base_of_losses + row * ROW_WORDS;
    row_losses[at] = result.loss;
    if (ROW_WORDS == 1u) { return; }
    // No prediction of a row that does not count or is not finite; no class where it does not count or its targets are
    // no numbers.
    var prediction = NO_CLASS;
    var class_index = NO_CLASS;
    var weight = 0.0;
    if (row_counts(goal)) {
        if (!result.bad) { prediction = predicted_class(whole); }
        if (!targets_are_bad(whole)) {
            class_index = result.class_index;
            weight = sample_weight(row) * class_weight(class_index);
        }
    }
    row_losses[at + 1u] = prediction;
    row_losses[at + 2u] = class_index;
    row_losses[at + 3u] = bitcast<u32>(weight);
}
