// `combine` over a subgroup. Called in uniform control flow only.

fn combine_subgroup(mine: Part) -> Part {
    var part: Part;
    part.top = subgroupMax(mine.top);
    part.top_at = subgroupMin(select(NO_CLASS, mine.top_at, mine.top == part.top));
    part.label = subgroupMax(mine.label);
    part.reference = subgroupMax(mine.reference);
    part.sum = subgroupAdd(relative_to(mine.sum, mine.reference, part.reference));
    return part;
}
