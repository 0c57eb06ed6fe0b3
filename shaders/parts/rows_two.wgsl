// Two rows a workgroup, one after the other: of an odd number of classes, of which the first row ends within a word of 64 bits.

fn take_rows(index: u32, lane: Lane) {
    for (var i = 0u; i < 2u; i++) {
        take_row(2u * index + i, lane);
    }
}
