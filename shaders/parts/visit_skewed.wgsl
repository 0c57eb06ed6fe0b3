// The first visit to a row that does not fit registers, where rows start and end anywhere within words: what belongs to its
// neighbours stands for -inf. Rows that do not count are not read, whatever they hold.

fn hold_own(row_at: u32, first: u32) {
    hold(row_at, first);
    // each BLOCK
    held_BLOCK = select(
        vec4<f32>(-STAND_IN),
        held_BLOCK,
        block_classes(first, BLOCKu) < vec4<u32>(class_count()),
    );
    // end
}

fn visit_row(row: u32, row_at: u32, in_row: u32, goal: Target) -> Part {
    // Before every class, where nothing is to be read.
    let end = select(-8, bitcast<i32>(class_count()), row_counts(goal));
    var part = empty_part();
    for (
        var first = first_place(row_at, in_row);
        bitcast<i32>(first) < end;
        first += 4u * BLOCKS * lanes()
    ) {
        hold_own(row_at, first);
        part = take_held(part, goal, row_at, first);
    }
    return part;
}
