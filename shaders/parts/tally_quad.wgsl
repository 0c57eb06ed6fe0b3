// Counting the four rows that an invocation takes, before any are counted in the table.

var<private> quad_correct: u32;
var<private> quad_bad: u32;
var<private> quad_first_bad: u32 = 0xffffffffu;

fn tally(counts: bool, correct: bool, bad: bool, row: u32, lane: Lane) {
    quad_correct += select(0u, 1u, counts && correct);
    quad_bad += select(0u, 1u, counts && bad);
    quad_first_bad = min(quad_first_bad, select(0xffffffffu, first_row_of_tile + row, counts && bad));
}

fn count_bad() {
    if (quad_bad > 0u) {
        atomicAdd(&table.nonfinite_rows, quad_bad);
        atomicMin(&table.first_bad_row, quad_first_bad);
    }
}
