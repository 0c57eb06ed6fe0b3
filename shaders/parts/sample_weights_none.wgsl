// No sample weights: all 1.

fn sample_weight(row: u32) -> f32 {
    return 1.0;
}
