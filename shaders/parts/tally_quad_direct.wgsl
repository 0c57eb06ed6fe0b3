// What an invocation has counted, straight into the table.

fn close_tally(lane: Lane) {
    if (quad_correct > 0u) { atomicAdd(&table.correct_rows, quad_correct); }
    count_bad();
}
