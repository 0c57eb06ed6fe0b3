// Two rows an invocation, one after the other: neighbouring positions, whose 16-bit logits lie in the same words.

fn take_rows(index: u32, lane: Lane) {
    // As often everywhere, so that barriers in `take_row` are met by all.
    for (var turn = 0u; turn < 2u; turn++) { take_row(2u * index + turn, lane); }
}
