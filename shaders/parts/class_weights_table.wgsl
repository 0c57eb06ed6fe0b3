// Class weights, given or live: the first `classes` values of the table.

fn class_weight(class_index: u32) -> f32 {
    return table.values[class_index];
}
