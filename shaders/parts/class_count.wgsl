// How many classes a row has: a constant where it is known when the pipeline is made, so that tails fold away.

// 0: what `params` says.
override CLASSES: u32 = 0u;

fn class_count() -> u32 {
    if (CLASSES != 0u) { return CLASSES; }
    return params.classes;
}
