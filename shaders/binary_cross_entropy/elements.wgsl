// Sigmoid cross-entropy with weights, forward and backward in one kernel: each element is visited once.
//
//     A = positive factor * t,  B = negative factor * (1 - t)        (RATIO: t and 1 - t, and both factors in `factor`)
//     ce   = A softplus(-x) + B softplus(x)                          softplus(x) = max(x, 0) + log(1 + exp(-|x|))
//     loss = factor * m^gamma * ce                                   m = t (1 - p) + (1 - t) p,  p = 1 / (1 + exp(-x))
//     grad = grad_scale * grad_out * factor / denominator * m^gamma * (B p - A (1 - p) + gamma ce m' / m)
//
// Reads logits, targets, weights, the table; writes every gradient (zeros for ignored elements) and a partial sum for
// each ELEMENTS_PER_GROUP elements. Where a partial sum begins does not depend on the tiling, so neither do its bits.

override WORKGROUP_SIZE: u32 = 64u;
override ELEMENTS_PER_GROUP: u32 = 4096u;
override FOCAL: bool = false;
override ALPHA: bool = false;
override SMOOTHING: bool = false;
override RATIO: bool = false;

// log(1 + e) for e from 0 to 1, to f32's relative precision.
fn log_1p_four(e: vec4<f32>) -> vec4<f32> {
    let s = e / (2.0 + e);
    let t = s * s;
    let series = 2.0 * s * (1.0 + t * (1.0 / 3.0 + t * (0.2 + t * (1.0 / 7.0 + t * (1.0 / 9.0)))));
    return select(log(1.0 + e), series, e <= vec4<f32>(0.5));
}

// m^gamma for m >= 0 and gamma > 0. Never a logarithm of 0.
fn power(m: vec4<f32>) -> vec4<f32> {
    let logarithm = log(max(m, vec4<f32>(0x1p-126f)));
    let value = exp(max(params.focal_gamma * logarithm, vec4<f32>(-104.0)));
    return select(value, vec4<f32>(0.0), m <= vec4<f32>(0.0));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let first = group_number(group) * ELEMENTS_PER_GROUP;
    let end = min(first + ELEMENTS_PER_GROUP, params.elements);
    let zero = vec4<f32>(0.0);
    var sums = no_sums();
    for (var element = first + index; element < end; element += 4u * WORKGROUP_SIZE) {
        let elements = element + vec4<u32>(0u, 1u, 2u, 3u) * WORKGROUP_SIZE;
        let inside = elements < vec4<u32>(end);
        // Past the end an invocation reads its first element again, and drops it: no branch between the loads, and no
        // element that another one writes.
        let places = places_of(select(vec4<u32>(element), elements, inside));
        let words = read_logits(places.at);
        let given = read_targets(places.at);
        let s = sample_weights_of(places.row);
        let weight = s * element_weights_of(places.at);
        let factors = factors_of(places.column);

        let ignored = inside & given.ignored;
        let counts = inside & !given.ignored;
        let nan = (words & vec4<u32>(0x7fffffffu)) > vec4<u32>(INFINITY_BITS);
        let bad = counts & (nan | !given.finite);
        let good = counts & !bad;
        let x = select(zero, tame(words), good);
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

        let above = x > zero;
        let e = exp(max(-abs(x), vec4<f32>(-104.0)));
        let one_plus = 1.0 + e;
        let larger = 1.0 / one_plus;
        let smaller = e / one_plus;
        let p = select(smaller, larger, above);
        let p_not = select(larger, smaller, above);
        let log_part = log_1p_four(e);
        let ce = a * (max(-x, zero) + log_part) + b * (max(x, zero) + log_part);
        var slope = b * p - a * p_not;
        var focus = vec4<f32>(1.0);
        if (FOCAL) {
            // m = (near + far e) / (1 + e): nothing cancels, and m' / m has a limit where m goes to 0.
            let near = select(t, t_not, above);
            let far = select(t_not, t, above);
            let sum = far * e + near;
            focus = power(max(sum / one_plus, zero));
            var ratio = select(e / select(vec4<f32>(1.0), sum, sum > zero), vec4<f32>(1.0), near == zero);
            ratio = select(ratio, zero, (sum <= zero) & (near != zero));
            let turn = params.focal_gamma * (t_not - t) * (ratio * larger);
            // The loss may be huge where its slope no longer turns.
            slope += select(turn * ce, zero, turn == zero);
        }

        let nothing = factor == zero;
        var loss = bitcast<vec4<u32>>(factor * (focus * ce));
        // At an infinite logit the loss is infinite with its factor's sign, or 0 where that side has no weight.
        let infinite = (words & vec4<u32>(0x7fffffffu)) == vec4<u32>(INFINITY_BITS);
        let pull = select(a, b, above) * factor * focus;
        var limit = select(vec4<u32>(INFINITY_BITS), vec4<u32>(NEGATIVE_INFINITY_BITS), pull < zero);
        limit = select(limit, vec4<u32>(0u), pull == zero);
        loss = select(loss, limit, infinite);
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
        let bad_at = select(vec4<u32>(0xffffffffu), elements + vec4<u32>(params.first_element), bad);
        sums.first_bad = min(sums.first_bad, min(min(bad_at.x, bad_at.y), min(bad_at.z, bad_at.w)));
        // By the bits: a logit that is too small for a float's exponent is above 0 all the same.
        let predicted = bitcast<vec4<i32>>(words) > vec4<i32>(0);
        sums.correct += count_four(good & (predicted == (t_given >= vec4<f32>(0.5))));

        var scale = zero;
        if (table.denominator != 0.0) { scale = grad_out_of(places.at) * factor / table.denominator * table.grad_scale; }
        var grads = bitcast<vec4<u32>>(scale * (focus * slope));
        grads = select(grads, vec4<u32>(0u), nothing | !counts);
        grads = select(grads, vec4<u32>(NAN_BITS), bad);
        store_grads(places.at, inside, grads);
    }
    let all = add_up(sums, index);
    // The grid may be larger than the work by some workgroups.
    if (index == 0u && first < params.elements) { store_sums(params.partials + group_number(group), all); }
}
