// What labels and weights alone say of some rows.

struct Sums {
    weights: f32,
    sample_weights: f32,
    valid: u32,
    ignored: u32,
    out_of_range: u32,
    nonzero: u32,
    first_bad: u32,
    bad_weights: u32,
}

fn no_sums() -> Sums {
    return Sums(0.0, 0.0, 0u, 0u, 0u, 0u, 0xffffffffu, 0u);
}

fn add(a: Sums, b: Sums) -> Sums {
    return Sums(
        a.weights + b.weights,
        a.sample_weights + b.sample_weights,
        a.valid + b.valid,
        a.ignored + b.ignored,
        a.out_of_range + b.out_of_range,
        a.nonzero + b.nonzero,
        min(a.first_bad, b.first_bad),
        a.bad_weights + b.bad_weights,
    );
}
