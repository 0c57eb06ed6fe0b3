// Two rows an invocation, one after the other: neighbouring positions, whose 16-bit logits lie in the same words.

fn take_rows(index: u32, lane: Lane) {
    // Written out: in a loop, drivers that run on CPUs keep what is in registers in memory.
    take_row(2u * index, lane);
    take_row(2u * index + 1u, lane);
}
