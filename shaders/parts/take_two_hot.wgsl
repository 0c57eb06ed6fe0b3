// Two labels: their shares are known beforehand.

fn open_target() {
}

fn close_target(before: Part) -> Part {
    return before;
}

fn pick_term(e: vec4<f32>, offsets: vec4<u32>) {
}

fn take_target(before: Part, goal: Target, row_at: u32, z: vec4<f32>, first: u32, offsets: vec4<u32>) -> Part {
    return before;
}

fn row_class(goal: Target, whole: Part) -> u32 {
    return goal.class_index;
}

fn targets_are_bad(whole: Part) -> bool {
    return false;
}

fn targets_four(goal: Target, row_at: u32, classes: vec4<u32>) -> vec4<f32> {
    let first = select(vec4<f32>(0.0), vec4<f32>(goal.share), classes == vec4<u32>(goal.first));
    let second = select(vec4<f32>(0.0), vec4<f32>(1.0 - goal.share), classes == vec4<u32>(goal.second));
    return first + second;
}
