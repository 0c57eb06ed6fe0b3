// Adds to numbers of several words, each by an atomic of its own; who sees a word pass 2^32 hands one on to the next.
// Between two additions a number may be seen half done; once all are done it is right, whatever their order.

fn add_count(at: u32, rows: u32) {
    if (rows == 0u) { return; }
    let before = atomicAdd(&counters[at], rows);
    if (before + rows < before) { atomicAdd(&counters[at + 1u], 1u); }
}

fn add_sum(at: u32, sum: vec3<u32>) {
    var carry = 0u;
    if (sum.x != 0u) {
        let before = atomicAdd(&counters[at], sum.x);
        carry = select(0u, 1u, before + sum.x < before);
    }
    let middle = sum.y + carry;
    // All bits and a carry make nothing, and a carry.
    carry = select(0u, 1u, middle < carry);
    if (middle != 0u) {
        let before = atomicAdd(&counters[at + 1u], middle);
        carry = select(0u, 1u, before + middle < before);
    }
    let high = sum.z + carry;
    if (high != 0u) { atomicAdd(&counters[at + 2u], high); }
}

fn add_run(run: Run) {
    let at = run.class_index * CLASS_WORDS;
    add_count(at + ROWS_AT, run.rows);
    add_count(at + CORRECT_AT, run.correct);
    add_count(at + UNSUMMED_AT, run.unsummed);
    add_sum(at + LOSS_AT, run.loss);
    add_sum(at + WEIGHT_AT, run.weight);
    add_sum(at + CORRECT_WEIGHT_AT, run.correct_weight);
}
