// The label's own z, met on the way.

// Four candidates, of which one at most is the label.
var<private> own_z: vec4<f32>;

// Where the label is, relative to the first class.
var<private> own_place: u32;
// Its term of the sum, where it is picked and not computed again.
var<private> own_e: vec4<f32>;

fn open_target() {
    own_z = vec4<f32>(-STAND_IN);
    own_e = vec4<f32>(0.0);
}

fn take_target(before: Part, goal: Target, row_at: u32, z: vec4<f32>, first: u32, offsets: vec4<u32>) -> Part {
    own_place = goal.class_index - first;
    own_z = select(own_z, z, offsets == vec4<u32>(own_place));
    return before;
}

fn close_target(before: Part) -> Part {
    var part = before;
    part.label = max(part.label, highest_of(own_z));
    return part;
}

fn pick_term(e: vec4<f32>, offsets: vec4<u32>) {
    own_e = select(own_e, e, offsets == vec4<u32>(own_place));
}

fn row_class(goal: Target, whole: Part) -> u32 {
    return goal.class_index;
}

fn targets_are_bad(whole: Part) -> bool {
    return false;
}

fn targets_four(goal: Target, row_at: u32, classes: vec4<u32>) -> vec4<f32> {
    return select(vec4<f32>(0.0), vec4<f32>(1.0), classes == vec4<u32>(goal.class_index));
}
