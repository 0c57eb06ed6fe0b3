// Partial sums of the weights, from targets and weights alone: for a mean whose denominator depends on them.

override WORKGROUP_SIZE: u32 = 64u;
override ELEMENTS_PER_GROUP: u32 = 4096u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let first = group_number(group) * ELEMENTS_PER_GROUP;
    let end = min(first + ELEMENTS_PER_GROUP, params.elements);
    var sums = no_sums();
    for (var element = first + index; element < end; element += 4u * WORKGROUP_SIZE) {
        let elements = element + vec4<u32>(0u, 1u, 2u, 3u) * WORKGROUP_SIZE;
        let inside = elements < vec4<u32>(end);
        let places = places_of(select(vec4<u32>(element), elements, inside));
        let given = read_targets(places.at);
        let s = sample_weights_of(places.row);
        let factors = factors_of(places.column);
        let side = factors.positive * given.values + factors.negative * (1.0 - given.values);
        let weight = select(vec4<f32>(0.0), s * element_weights_of(places.at) * side, given.finite);
        sums = take_weights(sums, inside & !given.ignored, inside & given.ignored, s, weight);
    }
    let all = add_up(sums, index);
    if (index == 0u && first < params.elements) { store_sums(params.partials + group_number(group), all); }
}
