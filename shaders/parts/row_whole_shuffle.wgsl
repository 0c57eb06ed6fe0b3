// A row within a subgroup, all of it in registers: its largest class is known to all before the first exponential, so that
// nothing is made relative to anything else later. Shares are exchanged in pairs, then in fours, and so on: no workgroup
// memory, no barrier. The exchange is symmetrical, so all invocations of a row end with the same bits. Called in uniform
// control flow only.
//
// Loops count up by one: those that double their step a driver may not unroll.

fn reduce(mine: Part, lane: Lane) -> Part {
    var all = mine;
    let steps = firstTrailingBit(LANES);
    for (var i = 0u; i < steps; i++) {
        all.top = max(all.top, subgroupShuffleXor(all.top, 1u << i));
        // One share at most has the label; the others have a stand-in.
        all.label = max(all.label, subgroupShuffleXor(all.label, 1u << i));
    }
    // A share without any class has NO_CLASS, the highest index: it never wins a tie.
    all.top_at = select(NO_CLASS, mine.top_at, mine.top == all.top);
    for (var i = 0u; i < steps; i++) {
        all.top_at = min(all.top_at, subgroupShuffleXor(all.top_at, 1u << i));
    }
    if (ADJUSTS) {
        for (var i = 0u; i < steps; i++) {
            all.raw_top = max(all.raw_top, subgroupShuffleXor(all.raw_top, 1u << i));
        }
        all.raw_top_at = select(NO_CLASS, mine.raw_top_at, mine.raw_top == all.raw_top);
        for (var i = 0u; i < steps; i++) {
            all.raw_top_at = min(all.raw_top_at, subgroupShuffleXor(all.raw_top_at, 1u << i));
        }
    }
    all.reference = reference_of(all);
    all.sum = sum_held(first_class(lane_of(lane)), all.reference, all.top_at);
    for (var i = 0u; i < steps; i++) {
        all.sum += subgroupShuffleXor(all.sum, 1u << i);
    }
    return all;
}
