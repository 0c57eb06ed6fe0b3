// Counting rows in workgroup memory first: one atomic on the table for a whole workgroup, not one a row.

var<workgroup> correct_in_group: atomic<u32>;

fn tally(counts: bool, correct: bool, bad: bool, row: u32, lane: Lane) {
    if (lane.index == 0u) { atomicStore(&correct_in_group, 0u); }
    // Cleared before anyone adds: workgroup memory does not start as zero.
    workgroupBarrier();
    if (counts && correct) { atomicAdd(&correct_in_group, 1u); }
    if (counts && bad) {
        // Rare: no need to gather these.
        atomicAdd(&table.nonfinite_rows, 1u);
        atomicMin(&table.first_bad_row, first_row_of_tile + row);
    }
    // Everyone has added before the first invocation reads.
    workgroupBarrier();
    if (lane.index == 0u) {
        let correct_rows = atomicLoad(&correct_in_group);
        if (correct_rows > 0u) { atomicAdd(&table.correct_rows, correct_rows); }
    }
}
