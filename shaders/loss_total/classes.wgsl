// What the rows of a batch say of their classes, added to the telemetry: for each class
//
//     rows, rows predicted right, rows that could not be summed;  sums of losses, of weights, of weights of rows predicted right
//
// and with CONFUSION the rows of each pair of true and predicted class. Reads the records that the forward pass kept.
//
// All that is added are whole numbers, losses and weights too (multiples of 2^-48): the same bits in any order and for any
// tiling, and a sum over an epoch does not stall as an f32 would. An invocation keeps rows of one class that follow one
// another in registers, so that skewed labels do not queue for one class's words.

override WORKGROUP_SIZE: u32 = 64u;
override ROWS_PER_GROUP: u32 = 4096u;
override CONFUSION: bool = false;

const NONE: u32 = 0xffffffffu;

// Loss, prediction, class, weight: see `parts/keep_row.wgsl`.
@group(0) @binding(ROW_LOSSES) var<storage, read> row_records: array<vec4<u32>>;

fn with_row(before: Run, record: vec4<u32>) -> Run {
    var run = before;
    let correct = record.y == record.z;
    let loss_is_summed = can_be_summed(record.x);
    let weight_is_summed = can_be_summed(record.w);
    run.rows++;
    run.correct += select(0u, 1u, correct);
    run.unsummed += select(1u, 0u, loss_is_summed && weight_is_summed);
    if (loss_is_summed) { run.loss = plus(run.loss, fixed_point(record.x)); }
    if (weight_is_summed) {
        let weight = fixed_point(record.w);
        run.weight = plus(run.weight, weight);
        if (correct) { run.correct_weight = plus(run.correct_weight, weight); }
    }
    return run;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    open_stats(index);
    let first_row = group_number(group) * ROWS_PER_GROUP;
    let end_row = min(first_row + ROWS_PER_GROUP, params.rows);
    var run = run_of(NONE);
    var cell = Cell(NONE, 0u);
    for (var row = first_row + index; row < end_row; row += WORKGROUP_SIZE) {
        let record = row_records[params.row_losses_base / 4u + row];
        // Rows that do not count have no class. Nothing is indexed by a class or a prediction that is none.
        if (record.z < params.classes) {
            if (record.z != run.class_index) {
                if (run.rows > 0u) { hand_on(run); }
                run = run_of(record.z);
            }
            run = with_row(run, record);
            if (CONFUSION && record.y < params.classes) {
                let at = record.z * params.classes + record.y;
                if (at != cell.at) {
                    if (cell.rows > 0u) { hand_on_cell(cell); }
                    cell = Cell(at, 0u);
                }
                cell.rows++;
            }
        }
    }
    if (run.rows > 0u) { hand_on(run); }
    if (cell.rows > 0u) { hand_on_cell(cell); }
    close_stats(index);
}
