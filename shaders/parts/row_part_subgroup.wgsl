// `combine` over a subgroup. Called in uniform control flow only.

fn combine_subgroup(mine: Part) -> Part {
    var part: Part;
    part.top = subgroupMax(mine.top);
    part.top_at = subgroupMin(select(NO_CLASS, mine.top_at, mine.top == part.top));
    if (ADJUSTS) {
        part.raw_top = subgroupMax(mine.raw_top);
        part.raw_top_at = subgroupMin(select(NO_CLASS, mine.raw_top_at, mine.raw_top == part.raw_top));
    }
    part.label = subgroupMax(mine.label);
    part.label_at = subgroupMin(select(NO_CLASS, mine.label_at, mine.label == part.label));
    part.reference = subgroupMax(mine.reference);
    // Every top but one is a top no more.
    let passed = select(mine.top, -STAND_IN, mine.top_at == part.top_at);
    part.sum = subgroupAdd(relative_to(mine.sum, mine.reference, part.reference) + term(passed, part.reference));
    return part;
}
