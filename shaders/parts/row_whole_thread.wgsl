// An invocation a row, all of it in registers: every term is relative to the largest class from the start.

fn reduce(mine: Part, lane: Lane) -> Part {
    var all = mine;
    all.reference = reference_of(all);
    all.sum = sum_held(first_class(0u), all.reference, all.top_at);
    return all;
}
