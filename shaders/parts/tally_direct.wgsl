// Counting rows straight into the table: where a workgroup has one row, or where there is nothing cheaper.

fn tally(counts: bool, correct: bool, bad: bool, row: u32, lane: Lane) {
    if (!counts) { return; }
    if (correct) { atomicAdd(&table.correct_rows, 1u); }
    if (bad) {
        atomicAdd(&table.nonfinite_rows, 1u);
        atomicMin(&table.first_bad_row, first_row_of_tile + row);
    }
}
