// What the invocations of a subgroup have counted: one atomic on the table for all of them. Called in uniform control flow
// only.

fn close_tally(lane: Lane) {
    let correct_rows = subgroupAdd(quad_correct);
    if (lane.in_subgroup == 0u && correct_rows > 0u) { atomicAdd(&table.correct_rows, correct_rows); }
    count_bad();
}
