// The last visit to a row that does not fit registers. Against the direction of the visit before it, which left the
// row's other end in the caches, but on CPUs. An invocation reads and writes its own share only.

fn visit_grads(row_at: u32, in_row: u32, live: bool, goal: Target, result: RowResult, s: Slopes) {
    let step = 4u * BLOCKS * lanes();
    let mine = first_class(in_row);
    let classes_to_write = select(0u, class_count(), live);
    let chunks = (max(classes_to_write, mine) - mine + step - 1u) / step;
    for (var done = 0u; done < chunks; done++) {
        let first = mine + select(done, chunks - 1u - done, GRADS_BACKWARDS && !ON_CPU) * step;
        // What is held only sometimes is kept from turn to turn.
        if (NO_BRANCH || row_counts(goal)) { hold(row_at, first); }
        write_held(row_at, first, goal, result, s);
    }
}
