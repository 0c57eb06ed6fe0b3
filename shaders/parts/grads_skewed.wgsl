// The last visit to a row that does not fit registers and starts and ends anywhere within words. Words that are the row's
// own are written whole; of its first and its last, the first invocation writes what is the row's own, by quarters of 64 bits.
//
// Where the number of classes is odd, two rows are taken one after the other, and a quarter may have a class of each: the
// first row's gradient waits for the second's.

var<private> waiting: u32;

fn visit_grads(row_at: u32, in_row: u32, live: bool, goal: Target, result: RowResult, s: Slopes) {
    let end = select(-8, bitcast<i32>(class_count()), live);
    for (
        var first = first_place(row_at, in_row);
        bitcast<i32>(first) < end;
        first += 4u * BLOCKS * lanes()
    ) {
        // What is held only sometimes is kept from turn to turn.
        if (NO_BRANCH || row_counts(goal)) { hold(row_at, first); }
        write_held(row_at, first, goal, result, s);
    }
    if (live && in_row == 0u) {
        // The first word, and the last.
        let skew = row_at % 8u;
        for (var edge = 0u; edge < 2u; edge++) {
            let first = select(0u, (skew + class_count()) / 8u * 8u, edge == 1u) - skew;
            if (!is_own(first) && bitcast<i32>(first) < end) { write_edge(row_at, first, goal, result, s); }
        }
    }
}

fn write_edge(row_at: u32, first: u32, goal: Target, result: RowResult, s: Slopes) {
    let word = read_logit((logits_base() + row_at + first) / 8u);
    let low = words_of_grads(tame(word.low), four_classes(first), row_at, goal, result, s);
    let high = words_of_grads(tame(word.high), four_classes(first + 4u), row_at, goal, result, s);
    // The two of each quarter.
    var evens = vec4<u32>(low.xz, high.xz);
    let odds = vec4<u32>(low.yw, high.yw);
    let places = first + vec4<u32>(0u, 2u, 4u, 6u);
    let has_even = places < vec4<u32>(class_count());
    let has_odd = places + 1u < vec4<u32>(class_count());
    evens = select(evens, vec4<u32>(waiting), has_odd & !has_even);
    let ends = select(vec4<u32>(0u), evens, has_even & !has_odd);
    waiting = (ends.x | ends.y) | (ends.z | ends.w);
    put_quarters((grads_base() + row_at + first) / 8u, has_odd, evens, odds);
}

// Those quarters of a word that are said. The others may be another invocation's at this moment.
fn put_quarters(index: u32, which: vec4<bool>, evens: vec4<u32>, odds: vec4<u32>) {
    let word = to_stored(Eight(
        vec4<u32>(evens.x, odds.x, evens.y, odds.y),
        vec4<u32>(evens.z, odds.z, evens.w, odds.w),
    ));
    if (which.x) { logit_grads[index].x = word.x; }
    if (which.y) { logit_grads[index].y = word.y; }
    if (which.z) { logit_grads[index].z = word.z; }
    if (which.w) { logit_grads[index].w = word.w; }
}
