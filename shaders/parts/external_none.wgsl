// No denominator of the caller's.

fn external_denominator() -> f32 {
    return 1.0;
}
