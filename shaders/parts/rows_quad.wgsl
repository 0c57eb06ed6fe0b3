// Four rows an invocation, one after the other: their logits are loaded together, and their gradients stored.

fn take_rows(index: u32, lane: Lane) {
    let row = 4u * index;
    // The number of rows is a multiple of four: all of them are there, or none.
    let live = row < params.rows;
    if (READS_ALL || live) {
        let there = select(0u, row, live);
        load_quad(there);
        hold_labels(there);
    }
    // Written out, so that compilers know which words are whose.
    take_quarter(row, 0u, lane);
    take_quarter(row, 1u, lane);
    take_quarter(row, 2u, lane);
    take_quarter(row, 3u, lane);
    if (live) {
        store_quad(row);
        store_losses(row);
    }
    close_tally(lane);
}

fn take_quarter(row: u32, quarter: u32, lane: Lane) {
    pick_row(quarter);
    pick_label(quarter);
    take_row(row + quarter, lane);
    keep_grads(quarter);
    keep_loss(quarter);
}
