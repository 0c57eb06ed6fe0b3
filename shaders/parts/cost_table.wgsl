// The cost matrix, behind weights and bias in the table. Rows: true class. Columns: predicted class.

override COST_GATHER: bool = true;
override COST_LAMBDA: f32 = 0.0;

fn cost_at(class_index: u32, predicted: u32) -> f32 {
    return table.values[2u * params.classes + class_index * params.classes + predicted];
}

fn gathered_cost(class_index: u32, predicted: u32) -> f32 {
    if (!COST_GATHER) { return 1.0; }
    return cost_at(class_index, predicted);
}

fn expected_cost_four(class_index: u32, classes: vec4<u32>) -> vec4<f32> {
    if (COST_LAMBDA == 0.0) { return vec4<f32>(0.0); }
    let at = min(classes, vec4<u32>(params.classes - 1u));
    return COST_LAMBDA * vec4<f32>(
        cost_at(class_index, at.x),
        cost_at(class_index, at.y),
        cost_at(class_index, at.z),
        cost_at(class_index, at.w),
    );
}
