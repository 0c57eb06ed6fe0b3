// Counting rows in subgroups first: one atomic on the table for all rows of a subgroup, and no barrier. Called in uniform
// control flow only.

fn tally(counts: bool, correct: bool, bad: bool, row: u32, lane: Lane) {
    let correct_rows = subgroupAdd(select(0u, 1u, counts && correct));
    if (lane.in_subgroup == 0u && correct_rows > 0u) { atomicAdd(&table.correct_rows, correct_rows); }
    if (counts && bad) {
        // Rare: no need to gather these.
        atomicAdd(&table.nonfinite_rows, 1u);
        atomicMin(&table.first_bad_row, first_row_of_tile + row);
    }
}
