// `add_norms` over a subgroup. Called in uniform control flow only.

fn add_norms_subgroup(mine: Norm) -> Norm {
    return Norm(subgroupAdd(mine.others));
}
