// No cost matrix: every outcome counts 1.

fn cost(class_index: u32, predicted: u32) -> f32 {
    return 1.0;
}
