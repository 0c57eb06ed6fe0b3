// `add_moments` over a subgroup. Called in uniform control flow only.

fn add_moments_subgroup(mine: Moments) -> Moments {
    return Moments(
        subgroupAdd(mine.loss),
        subgroupAdd(mine.others),
        subgroupAdd(mine.top),
        subgroupAdd(mine.expected),
        subgroupAdd(mine.held),
        subgroupAdd(mine.infinite),
    );
}
