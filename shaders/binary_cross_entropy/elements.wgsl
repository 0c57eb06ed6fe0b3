// Sigmoid cross-entropy with weights, forward and backward in one kernel: each element is visited once.
//
//     A = positive factor * t,  B = negative factor * (1 - t)        (RATIO: t and 1 - t, and both factors in `factor`)
//     ce   = A (-log p) + B (-log(1 - p))                            the costs, and their slopes, are those of `sides_of`
//     loss = factor * m^gamma * ce                                   m = t (1 - p) + (1 - t) p
//     grad = grad_scale * grad_out * factor / denominator * (m^gamma ce' + ce (m^gamma)')
//
// Reads scores, targets, weights, the table; writes every gradient (zeros for ignored elements) and a partial sum for
// each ELEMENTS_PER_GROUP elements. Where a partial sum begins does not depend on the tiling, so neither do its bits.

override WORKGROUP_SIZE: u32 = 64u;
override ELEMENTS_PER_GROUP: u32 = 4096u;
override FOCAL: bool = false;
override ALPHA: bool = false;
override SMOOTHING: bool = false;
override RATIO: bool = false;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let first = group_number(group) * ELEMENTS_PER_GROUP;
    let end = min(first + ELEMENTS_PER_GROUP, params.elements);
    let zero = vec4<f32>(0.0);
    var sums = no_sums();
    for (var element = first + first_of(index); element < end; element += 4u * WORKGROUP_SIZE) {
        let elements = four_of(element);
        let inside = elements < vec4<u32>(end);
        // Past the end an invocation reads its first element again, and drops it: no branch between the loads, and no
        // element that another one writes.
        let places = places_of(select(vec4<u32>(element), elements, inside));
        let words = read_scores(places.at);
        let given = read_targets(places.at);
        let s = sample_weights_of(places.row);
        let e = element_weights_of(places.at);
        let weight = s * e;
        let factors = factors_of(places.column);

        let ignored = inside & given.ignored;
        let counts = inside & !given.ignored;
        let nan = (words & vec4<u32>(0x7fffffffu)) > vec4<u32>(INFINITY_BITS);
        let bad = counts & (nan | !given.finite | !finite_four(s) | !finite_four(e));
        let good = counts & !bad;
        let t_given = given.values;
        let side = factors.positive * t_given + factors.negative * (1.0 - t_given);
        // A target that is not finite weighs nothing in the sums.
        sums = take_weights(sums, counts, ignored, s, select(zero, weight * side, given.finite));

        var t = t_given;
        var t_not = 1.0 - t_given;
        if (SMOOTHING) {
            t = t * params.smoothing_scale + params.smoothing_half;
            t_not = t_not * params.smoothing_scale + params.smoothing_half;
        }
        var factor = weight;
        var a = t;
        var b = t_not;
        if (RATIO) {
            factor = factor * side;
        } else {
            a = a * factors.positive;
            b = b * factors.negative;
        }
        if (ALPHA) { factor = factor * (params.alpha_positive * t + params.alpha_negative * t_not); }

        let sides = sides_of(select(vec4<u32>(0u), words, good));
        let ce = a * sides.positive + b * sides.negative;
        let slope = b * sides.push - a * sides.pull;
        var focus = Focus(vec4<f32>(1.0), zero);
        if (FOCAL) {
            let near = select(t, t_not, sides.above);
            let far = select(t_not, t, sides.above);
            focus = focus_of(near, far, sides);
        }

        let nothing = factor == zero;
        var loss = bitcast<vec4<u32>>(factor * (focus.power * ce));
        if (INFINITE_COSTS) {
            // At an infinite logit the loss is infinite with its factor's sign, or 0 where that side has no weight.
            let infinite = (words & vec4<u32>(0x7fffffffu)) == vec4<u32>(INFINITY_BITS);
            let weight_there = select(a, b, sides.above) * factor * focus.power;
            var limit = select(vec4<u32>(INFINITY_BITS), vec4<u32>(NEGATIVE_INFINITY_BITS), weight_there < zero);
            limit = select(limit, vec4<u32>(0u), weight_there == zero);
            loss = select(loss, limit, infinite);
        }
        loss = select(loss, vec4<u32>(0u), nothing | !counts);
        loss = select(loss, vec4<u32>(NAN_BITS), bad);
        store_losses(places.at, inside, loss);

        let magnitude = loss & vec4<u32>(0x7fffffffu);
        let plain = magnitude < vec4<u32>(INFINITY_BITS);
        sums.loss += sum_four(bitcast<vec4<f32>>(select(vec4<u32>(0u), loss, plain)));
        sums.kinds |= select(0u, 1u, any(magnitude > vec4<u32>(INFINITY_BITS)));
        sums.kinds |= select(0u, 2u, any(loss == vec4<u32>(INFINITY_BITS)));
        sums.kinds |= select(0u, 4u, any(loss == vec4<u32>(NEGATIVE_INFINITY_BITS)));
        sums.nonfinite += count_four(bad);
        let rows = places.row + vec4<u32>(params.first_row);
        let bad_at = select(vec4<u32>(0xffffffffu), rows * params.columns + places.column, bad);
        sums.first_bad = min(sums.first_bad, min(min(bad_at.x, bad_at.y), min(bad_at.z, bad_at.w)));
        let predicted = ordered(words) > vec4<i32>(params.threshold);
        let correct = good & (predicted == (t_given >= vec4<f32>(0.5)));
        sums.correct += count_four(correct);
        sums.correct_weights += sum_four(select(zero, s, correct));

        var scale = zero;
        // By its bits: NaN is not 0.
        if ((bitcast<u32>(table.denominator) & 0x7fffffffu) != 0u) { scale = grad_out_of(places.at) * factor / table.denominator * table.grad_scale; }
        var change = focus.power * slope;
        if (FOCAL) {
            // The loss may be huge where its power no longer turns.
            let turn = (t_not - t) * focus.turn;
            change += select(turn * ce, zero, turn == zero);
        }
        var grads = bitcast<vec4<u32>>(scale * change);
        grads = select(grads, vec4<u32>(0u), nothing | !counts);
        grads = select(grads, vec4<u32>(NAN_BITS), bad);
        store_grads(places.at, inside, grads);
    }
    let all = add_up(sums, index);
    // The grid may be larger than the work by some workgroups.
    if (index == 0u && first < params.elements) { store_sums(params.partials + group_number(group), all); }
}
