// A bias for each class's logit, given or the live log-prior: the second `classes` values of the table.

fn logit_bias_four(classes: vec4<u32>) -> vec4<f32> {
    let at = params.classes + min(classes, vec4<u32>(params.classes - 1u));
    return vec4<f32>(table.values[at.x], table.values[at.y], table.values[at.z], table.values[at.w]);
}
