// The sum of some rows' losses, and what is not a number among them, apart: WGSL need not carry NaN or infinity
// through a sum.

struct Sums {
    loss: f32,
    kinds: u32, // bit 0: a NaN, bit 1: +inf, bit 2: -inf
}

fn no_sums() -> Sums {
    return Sums(0.0, 0u);
}

fn add(a: Sums, b: Sums) -> Sums {
    return Sums(a.loss + b.loss, a.kinds | b.kinds);
}
