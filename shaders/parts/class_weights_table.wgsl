// Class weights, given or live: the first `classes` values of the table.

fn open_weights() {
}

fn class_weight(class_index: u32) -> f32 {
    return table.values[class_index];
}

fn class_weight_four(classes: vec4<u32>) -> vec4<f32> {
    let at = min(classes, vec4<u32>(params.classes - 1u));
    return vec4<f32>(table.values[at.x], table.values[at.y], table.values[at.z], table.values[at.w]);
}
