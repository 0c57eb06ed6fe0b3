// Two rows, one after the other, a workgroup or an invocation: of an odd number of classes, so that the first of them may end
// within a word of 64 bits.

fn take_rows(index: u32, lane: Lane) {
    for (var i = 0u; i < 2u; i++) {
        take_row(2u * index + i, lane);
    }
}
