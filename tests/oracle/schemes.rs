//! Class weights and log-priors from counts: values worked out by hand, and what defines each scheme.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use wgpu_cross_entropy::cpu::{CountState, class_mass, class_weights, compute, compute_next, log_prior};
use wgpu_cross_entropy::{
    ClassWeights, ClassesOver, CountsOver, Inputs, LiveCounts, LiveWeights, LogitBias, Reduction,
    SampleWeights, Shape, Spec, Targets, WeightScheme,
};

use WeightScheme::{
    Balanced, EffectiveNumber, Inverse, InverseFrequency, InversePower, LogFrequency, MedianFrequency,
};

/// A few dozen roundings.
const CLOSE: f64 = 64.0 * f64::EPSILON;

fn is_close(got: f64, want: f64, relative: f64) -> bool {
    (got - want).abs() <= relative * want.abs()
}

#[track_caller]
fn assert_close(got: &[f64], want: &[f64], relative: f64) {
    let close = got.len() == want.len() && got.iter().zip(want).all(|(a, b)| is_close(*a, *b, relative));
    assert!(close, "{got:?} is not {want:?} within {relative:e}");
}

fn over(scheme: WeightScheme, over: ClassesOver) -> LiveWeights {
    LiveWeights { scheme, over, ..LiveWeights::default() }
}

fn weights(scheme: WeightScheme, counts: &[u32]) -> Vec<f64> {
    class_weights(&over(scheme, ClassesOver::Present), counts)
}

fn weights_over_all(scheme: WeightScheme, counts: &[u32]) -> Vec<f64> {
    class_weights(&over(scheme, ClassesOver::All), counts)
}

/// Count and weight of the classes that have rows.
fn present<'a>(counts: &'a [u32], weights: &'a [f64]) -> impl Iterator<Item = (f64, f64)> + Clone + 'a {
    counts.iter().zip(weights).filter(|(count, _)| **count > 0).map(|(count, w)| (f64::from(*count), *w))
}

fn sum_of_counts(counts: &[u32]) -> f64 {
    counts.iter().map(|&count| f64::from(count)).sum()
}

fn present_classes(counts: &[u32]) -> f64 {
    counts.iter().filter(|count| **count > 0).count() as f64
}

#[test]
fn balanced_by_hand() {
    // 8 rows; 3 classes have some, of 4.
    let counts = [1, 3, 0, 4];
    assert_close(&weights(Balanced, &counts), &[8.0 / 3.0, 8.0 / 9.0, 0.0, 2.0 / 3.0], CLOSE);
    assert_close(&weights_over_all(Balanced, &counts), &[2.0, 2.0 / 3.0, 0.0, 0.5], CLOSE);
}

#[test]
fn inverses_by_hand() {
    let counts = [1, 3, 0, 4];
    assert_close(&weights(Inverse, &counts), &[1.0, 1.0 / 3.0, 0.0, 0.25], CLOSE);
    assert_close(&weights(InversePower(0.0), &counts), &[1.0, 1.0, 0.0, 1.0], CLOSE);
    assert_close(&weights(InversePower(1.0), &counts), &weights(Balanced, &counts), CLOSE);
    // n w is 1/n before the scale: 1 + 1/3 + 1/4 = 19/12, and 8 / (19/12) = 96/19.
    let scale = 96.0 / 19.0;
    assert_close(&weights(InversePower(2.0), &counts), &[scale, scale / 9.0, 0.0, scale / 16.0], CLOSE);
    // n w is the root of n before the scale: 1 + 3 + 2 = 6, and 14 / 6.
    let scale = 14.0 / 6.0;
    assert_close(&weights(InversePower(0.5), &[1, 9, 0, 4]), &[scale, scale / 3.0, 0.0, scale / 2.0], CLOSE);
}

#[test]
fn inverse_frequency_by_hand() {
    let counts = [1, 3, 0, 4];
    assert_close(&weights(InverseFrequency(1.0), &counts), &[8.0, 8.0 / 3.0, 0.0, 2.0], CLOSE);
    assert_close(&weights(InverseFrequency(0.5), &[1, 9, 6]), &[4.0, 4.0 / 3.0, (16f64 / 6.0).sqrt()], CLOSE);
    assert_close(&weights(InverseFrequency(0.0), &counts), &[1.0, 1.0, 0.0, 1.0], CLOSE);
}

/// Powers of counts that are far beyond `f64` leave weights that are not.
#[test]
fn powers_stay_finite() {
    let live = LiveWeights { scheme: InversePower(4.0), smoothing: 1e30, ..LiveWeights::default() };
    assert_close(&class_weights(&live, &[1e30, 3e30, 0.0]), &[8.0 / 3.0, 1.0 / 6.0, 0.0], 1e-6);
    let live = LiveWeights { scheme: InversePower(4.0), ..LiveWeights::default() };
    // 2^-240 of the weight of the rarest is what is left.
    let got = class_weights(&live, &[2f64.powi(-60), 1.0]);
    assert_close(&got, &[2f64.powi(60), 2f64.powi(-180)], 1e-12);
}

/// Weights of mass are those of counts, wherever mass is whole; what is not above 0 is absent.
#[test]
fn mass_weighs_like_counts() {
    for scheme in [Balanced, Inverse, InversePower(0.5), EffectiveNumber(0.9), MedianFrequency] {
        let live = LiveWeights { absent_weight: 7.0, ..over(scheme, ClassesOver::Present) };
        assert_eq!(class_weights(&live, &[3.0, 0.0, 5.0]), class_weights(&live, &[3, 0, 5]));
        assert_eq!(class_weights(&live, &[3.0, -1.0, 5.0]), class_weights(&live, &[3, 0, 5]));
    }
    assert_eq!(log_prior(1.0, 1.0, &[3.0, -2.0]), log_prior(1.0, 1.0, &[3, 0]));
}

#[test]
fn mass_by_hand() {
    let shape = Shape::new(4, 3);
    let live_counts = LiveCounts { sample_weighted: true, ..LiveCounts::default() };
    let spec = Spec { sample_weights: SampleWeights::PerRow, live_counts, ..Spec::default() };
    let sample_weights = Some(&[0.5, 2.0, f32::NAN, 4.0][..]);
    let inputs = Inputs { labels: &[0, 2, 1, 2], sample_weights, ..Inputs::default() };
    assert_eq!(class_mass(&spec, &shape, &inputs), [0.5, 0.0, 6.0]);
    // Two labels, one of the rows ignored; the weights only where they are asked for.
    let two_hot = Inputs {
        labels: &[0, 1, 2, 0],
        second_labels: Some(&[1, 9, 2, 1]),
        mix: Some(&[0.25, 0.5, 0.75, 1.0]),
        ..inputs
    };
    let spec = Spec { targets: Targets::TwoHot, ignore_index: Some(9), ..spec };
    assert_eq!(class_mass(&spec, &shape, &two_hot), [0.125 + 4.0, 0.375, 0.0]);
    let spec = Spec { live_counts: LiveCounts::default(), ..spec };
    assert_eq!(class_mass(&spec, &shape, &two_hot), [1.25, 0.75, 1.0]);
    let soft = Inputs {
        target_probs: Some(&[0.5, 0.5, 0.0, 1.0, 0.0, 0.0, f32::INFINITY, 0.0, 2.0, 0.0, 0.25, 0.75]),
        labels: &[],
        ..inputs
    };
    let spec = Spec { targets: Targets::Soft, ignore_index: None, ..spec };
    assert_eq!(class_mass(&spec, &shape, &soft), [1.5, 0.75, 2.75]);
}

/// A moving average whose bias is corrected starts at the first batch, stays with batches that are alike, and forgets; a
/// sum is a sum; the batch alone is the batch.
#[test]
fn histories_by_hand() {
    let mut state = CountState::new(CountsOver::Ema { momentum: 0.5 }, 2);
    assert_close(&state.update(&[8, 4]), &[8.0, 4.0], CLOSE);
    assert_close(&state.update(&[8, 1]), &[8.0, 2.0], CLOSE);
    // (4 + 2 8 + 4 0) / (1 + 2 + 4), and (1 4 + 2 1 + 4 0) / 7.
    assert_close(&state.update(&[0, 0]), &[24.0 / 7.0, 6.0 / 7.0], CLOSE);
    assert_eq!(state.steps, 3);
    let mut state = CountState::new(CountsOver::Ema { momentum: 0.0 }, 2);
    assert_eq!((state.update(&[5, 0]), state.update(&[0, 3])), (vec![5.0, 0.0], vec![0.0, 3.0]));
    let mut state = CountState::new(CountsOver::Cumulative, 2);
    assert_eq!((state.update(&[5, 0]), state.update(&[2, 3])), (vec![5.0, 0.0], vec![7.0, 3.0]));
    let mut state = CountState::new(CountsOver::Batch, 2);
    assert_eq!((state.update(&[5, 0]), state.update(&[2, 3])), (vec![5.0, 0.0], vec![2.0, 3.0]));
}

/// A step uses the counts of the steps before it.
#[test]
fn a_step_goes_on_from_the_last() {
    let spec = Spec {
        class_weights: Inverse.into(),
        live_counts: LiveCounts { over: CountsOver::Cumulative, ..LiveCounts::default() },
        ..Spec::default()
    };
    let shape = Shape::new(2, 2);
    let mut state = CountState::new(CountsOver::Cumulative, 2);
    let step = |labels: &[i32], state: &mut CountState| {
        let inputs = Inputs { logits: &[0.0; 4], labels, ..Inputs::default() };
        compute_next(&spec, &shape, &inputs, state).unwrap()
    };
    assert_eq!(step(&[0, 1], &mut state).class_weights.unwrap(), [1.0, 1.0]);
    let output = step(&[0, 0], &mut state);
    assert_eq!(output.class_weights.unwrap(), [1.0 / 3.0, 1.0]);
    assert_eq!(output.class_counts.unwrap(), [2, 0], "the batch's own");
    // The first batch of none is the batch alone.
    let inputs = Inputs { logits: &[0.0; 4], labels: &[0, 0], ..Inputs::default() };
    assert_eq!(compute(&spec, &shape, &inputs).unwrap().class_weights.unwrap(), [0.5, 0.0]);
}

#[test]
fn effective_number_by_hand() {
    // With 1/2 the classes count as 1, 7/4 and 3/2 rows: 1 + 4/7 + 2/3 = 47/21.
    let counts = [1, 3, 0, 2];
    let (a, b, c) = (21.0 / 47.0, 12.0 / 47.0, 14.0 / 47.0);
    assert_close(&weights(EffectiveNumber(0.5), &counts), &[3.0 * a, 3.0 * b, 0.0, 3.0 * c], CLOSE);
    assert_close(&weights_over_all(EffectiveNumber(0.5), &counts), &[4.0 * a, 4.0 * b, 0.0, 4.0 * c], CLOSE);
    // With 0 every class counts as one row.
    assert_close(&weights(EffectiveNumber(0.0), &counts), &[1.0, 1.0, 0.0, 1.0], CLOSE);
    let third = 4.0 / 3.0;
    assert_close(&weights_over_all(EffectiveNumber(0.0), &counts), &[third, third, 0.0, third], CLOSE);
}

#[test]
fn median_frequency_by_hand() {
    // The median is 3; classes without rows are not in it.
    assert_close(&weights(MedianFrequency, &[1, 3, 0, 4]), &[3.0, 1.0, 0.0, 0.75], CLOSE);
    // An even number of classes: the mean of 2 and 3.
    let want = [2.5, 2.5 / 3.0, 0.0, 2.5 / 8.0, 1.25];
    assert_close(&weights(MedianFrequency, &[1, 3, 0, 8, 2]), &want, CLOSE);
    assert_close(&weights(MedianFrequency, &[0, 7]), &[0.0, 1.0], CLOSE);
}

#[test]
fn log_frequency_by_hand() {
    // 1 / ln(2 + 1/8) and 1 / ln(2 + 7/8).
    let want = [1.326_661_460_202_342_5, 0.0, 0.946_922_463_608_021_9];
    assert_close(&weights(LogFrequency(2.0), &[1, 0, 7]), &want, CLOSE);
    assert_close(&weights(LogFrequency(1.5), &[4, 4]), &[std::f64::consts::LOG2_E; 2], CLOSE);
}

#[test]
fn options_by_hand() {
    let counts = [1, 3, 0, 4];
    // Counts of 2, 4, 5 and a class that still has none: 11 rows.
    let live = LiveWeights { smoothing: 1.0, ..LiveWeights::default() };
    assert_close(&class_weights(&live, &counts), &[11.0 / 6.0, 11.0 / 12.0, 0.0, 11.0 / 15.0], CLOSE);
    // 3/2, 7/2, 9/2.
    let live = LiveWeights { scheme: Inverse, smoothing: 0.5, ..live };
    assert_close(&class_weights(&live, &counts), &[2.0 / 3.0, 2.0 / 7.0, 0.0, 2.0 / 9.0], CLOSE);
    let live = LiveWeights { scheme: MedianFrequency, ..live };
    assert_close(&class_weights(&live, &counts), &[7.0 / 3.0, 1.0, 0.0, 7.0 / 9.0], CLOSE);
    // 8/3, 8/9, 2/3 between 0.75 and 2; the absent class's weight stays outside.
    let live = LiveWeights { min: 0.75, max: 2.0, absent_weight: 5.0, ..LiveWeights::default() };
    assert_close(&class_weights(&live, &counts), &[2.0, 8.0 / 9.0, 5.0, 0.75], CLOSE);
}

#[test]
fn log_prior_by_hand() {
    // Counts of 4, 1 and 2 with the smoothing: logarithms of 4/7, 1/7, 2/7.
    let want = [-0.559_615_787_935_422_7, -1.945_910_149_055_313_3, -1.252_762_968_495_368];
    assert_close(&log_prior(1.0, 1.0, &[3, 0, 1]), &want, CLOSE);
    assert_close(&log_prior(-0.5, 1.0, &[3, 0, 1]), &want.map(|x| -0.5 * x), CLOSE);
    // No rows: uniform.
    assert_close(&log_prior(1.0, 0.25, &[0, 0]), &[-std::f64::consts::LN_2; 2], CLOSE);
}

/// No rows of `expm1` and none of `powf`: the effective number is the geometric series `1 + b + ... + b^(n-1)`.
#[test]
fn effective_number_is_a_geometric_series() {
    let counts = [1, 2, 3, 10, 100, 5000];
    for beta in [0.0, 1e-9, 0.1, 0.5, 0.9, 0.99, 0.9999, 0.999_999_99, 1.0 - f64::EPSILON / 2.0] {
        let raw = counts.map(|n| 1.0 / (0..n).fold(0.0, |sum, _| 1.0 + beta * sum));
        let sum: f64 = raw.iter().sum();
        // As many roundings as terms.
        let relative = 2.0 * 5000.0 * f64::EPSILON;
        assert_close(&weights(EffectiveNumber(beta), &counts), &raw.map(|w| 6.0 * w / sum), relative);
    }
}

/// Every class is one row at 0 and counts all its rows at 1.
#[test]
fn effective_number_goes_from_equal_weights_to_inverse_counts() {
    let counts = [3, 0, 1, 1000, 40];
    let least = f64::from_bits(1);
    assert_close(&weights(EffectiveNumber(least), &counts), &[1.0, 0.0, 1.0, 1.0, 1.0], CLOSE);
    // 1 - b^n is n (1 - b) but for (n - 1) (1 - b) / 2 of itself.
    let inverse = weights(Inverse, &counts);
    let sum: f64 = inverse.iter().sum();
    let want: Vec<f64> = inverse.iter().map(|w| 4.0 * w / sum).collect();
    for away in [1e-6, 1e-9, 1e-12, f64::EPSILON / 2.0] {
        assert_close(&weights(EffectiveNumber(1.0 - away), &counts), &want, 1000.0 * away + CLOSE);
    }
    // In between the rare classes lead by less and less.
    let leads = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999].map(|beta| {
        let weights = weights(EffectiveNumber(beta), &counts);
        weights[2] / weights[3]
    });
    assert!(leads.is_sorted() && leads[0] < leads[5], "{leads:?}");
}

fn schemes() -> impl Strategy<Value = WeightScheme> {
    prop_oneof![
        Just(Balanced),
        Just(Inverse),
        (0.0f32..=4.0).prop_map(InversePower),
        (0.0f32..=4.0).prop_map(InverseFrequency),
        (0.0f64..1.0).prop_map(EffectiveNumber),
        (1.0f64..12.0).prop_map(|nines| EffectiveNumber(1.0 - 10f64.powf(-nines))),
        Just(MedianFrequency),
        (1.01f32..10.0).prop_map(LogFrequency),
    ]
}

fn classes_over() -> impl Strategy<Value = ClassesOver> {
    select(vec![ClassesOver::Present, ClassesOver::All])
}

/// Counts of every size; a class in five has no rows, but one has.
fn counts() -> impl Strategy<Value = Vec<u32>> {
    let count = prop_oneof![1 => Just(0), 2 => 1u32..10, 1 => 1u32..10_000, 1 => 1u32..100_000_000];
    (vec(count, 0..20), 1u32..1000, any::<prop::sample::Index>()).prop_map(|(mut counts, one, at)| {
        counts.insert(at.index(counts.len() + 1), one);
        counts
    })
}

proptest! {
    /// `Balanced`: the sum of `n_c w_c` is `n` over the classes present, and each has the same share of it.
    #[test]
    fn balanced_shares_the_rows(counts in counts()) {
        let (rows, k) = (sum_of_counts(&counts), present_classes(&counts));
        let of_present = weights(Balanced, &counts);
        for (n, w) in present(&counts, &of_present) {
            prop_assert!(is_close(n * w, rows / k, CLOSE), "{n} {w}");
        }
        // Over all classes the shares are of as many.
        for (n, w) in present(&counts, &weights_over_all(Balanced, &counts)) {
            prop_assert!(is_close(n * w, rows / counts.len() as f64, CLOSE), "{n} {w}");
        }
        if counts.iter().all(|count| *count > 0) {
            prop_assert_eq!(of_present, weights_over_all(Balanced, &counts));
        }
    }

    /// `Inverse`: `n_c w_c` is 1.
    #[test]
    fn inverse_gives_each_class_one(counts in counts()) {
        for (n, w) in present(&counts, &weights(Inverse, &counts)) {
            prop_assert!(is_close(n * w, 1.0, CLOSE), "{n} {w}");
        }
    }

    /// `InversePower`: the sum of `n_c w_c` is `n`, and weights are to each other as the powers.
    #[test]
    fn inverse_power_keeps_the_sum(counts in counts(), p in 0.0f32..=4.0) {
        let weights = weights(InversePower(p), &counts);
        let sum: f64 = present(&counts, &weights).map(|(n, w)| n * w).sum();
        prop_assert!(is_close(sum, sum_of_counts(&counts), CLOSE), "{sum}");
        let first = present(&counts, &weights).next().unwrap();
        for (n, w) in present(&counts, &weights) {
            let want = (f64::from(p) * (first.0 / n).ln()).exp();
            prop_assert!(is_close(w / first.1, want, 8.0 * CLOSE), "{n} {w} {first:?}");
        }
    }

    /// `EffectiveNumber`: the weights sum to the number of classes, and the rarer class weighs more.
    #[test]
    fn effective_number_sums_to_the_classes(counts in counts(), nines in 0.0f64..12.0, over_all: bool) {
        let scheme = EffectiveNumber(1.0 - 10f64.powf(-nines));
        let (weights, classes) = match over_all {
            true => (weights_over_all(scheme, &counts), counts.len() as f64),
            false => (weights(scheme, &counts), present_classes(&counts)),
        };
        prop_assert!(is_close(weights.iter().sum(), classes, CLOSE));
        let mut by_count: Vec<(f64, f64)> = present(&counts, &weights).collect();
        by_count.sort_by(|a, b| a.0.total_cmp(&b.0));
        prop_assert!(by_count.windows(2).all(|pair| pair[1].1 <= pair[0].1 * (1.0 + CLOSE)), "{by_count:?}");
    }

    /// `MedianFrequency`: the class in the middle has weight 1; with two of them, the mean of their `1 / w` is 1. As
    /// many classes lie above as below.
    #[test]
    fn median_frequency_has_one_in_the_middle(counts in counts()) {
        let mut inverse: Vec<f64> =
            present(&counts, &weights(MedianFrequency, &counts)).map(|(_, w)| 1.0 / w).collect();
        inverse.sort_by(f64::total_cmp);
        let (low, high) = (inverse[(inverse.len() - 1) / 2], inverse[inverse.len() / 2]);
        prop_assert!(is_close((low + high) / 2.0, 1.0, CLOSE), "{low} {high}");
        let shares = weights(MedianFrequency, &counts);
        let first = present(&counts, &shares).next().unwrap();
        for (n, w) in present(&counts, &shares) {
            prop_assert!(is_close(n * w, first.0 * first.1, CLOSE), "{n} {w} {first:?}");
        }
    }

    /// `LogFrequency`: `exp(1 / w_c) - a` is the class's share of the rows.
    #[test]
    fn log_frequency_is_of_the_shares(counts in counts(), a in 1.01f32..10.0) {
        let rows = sum_of_counts(&counts);
        for (n, w) in present(&counts, &weights(LogFrequency(a), &counts)) {
            let share = (1.0 / w).exp() - f64::from(a);
            // What is left of `a` and more.
            prop_assert!((share - n / rows).abs() <= CLOSE * f64::from(a + 1.0), "{n} {w} {share}");
        }
    }

    /// Weights are limited one by one, after everything else; absent classes are not.
    #[test]
    fn limits_cut_off(
        counts in counts(),
        scheme in schemes(),
        over in classes_over(),
        smoothing in 0.0f32..4.0,
        limits in (0.0f32..4.0, 0.0f32..4.0),
    ) {
        let (min, max) = (limits.0.min(limits.1), limits.0.max(limits.1));
        let free = LiveWeights { scheme, over, smoothing, absent_weight: 7.0, ..LiveWeights::default() };
        let limited = LiveWeights { min, max, ..free.clone() };
        for ((n, free), got) in
            counts.iter().zip(class_weights(&free, &counts)).zip(class_weights(&limited, &counts))
        {
            let want = if *n == 0 { 7.0 } else { free.max(min.into()).min(max.into()) };
            prop_assert_eq!(got, want);
        }
    }

    /// Smoothing is rows more of each class that has some.
    #[test]
    fn smoothing_adds_rows(
        counts in counts(), scheme in schemes(), over in classes_over(), more in 0u32..1000,
    ) {
        let with = |smoothing| LiveWeights { scheme, over, smoothing, ..LiveWeights::default() };
        let added: Vec<u32> = counts.iter().map(|&n| if n == 0 { 0 } else { n + more }).collect();
        prop_assert_eq!(class_weights(&with(more as f32), &counts), class_weights(&with(0.0), &added));
        // So much that the counts are alike.
        let alike = class_weights(&with(1e30), &counts);
        let first = present(&counts, &alike).next().unwrap().1;
        prop_assert!(first > 0.0);
        for (_, w) in present(&counts, &alike) {
            prop_assert!(is_close(w, first, 1e-15), "{w} {first}");
        }
    }

    /// Absent classes have the absent weight, whatever else is asked for; no other weight depends on it.
    #[test]
    fn absent_classes_have_the_absent_weight(
        counts in counts(), scheme in schemes(), over in classes_over(), absent_weight in 0.0f32..10.0,
    ) {
        let plain = class_weights(&LiveWeights { scheme, over, ..LiveWeights::default() }, &counts);
        let live = LiveWeights { scheme, over, absent_weight, ..LiveWeights::default() };
        for ((n, got), plain) in counts.iter().zip(class_weights(&live, &counts)).zip(plain) {
            prop_assert!(got.is_finite() && (*n == 0 || got > 0.0));
            prop_assert_eq!(got, if *n == 0 { f64::from(absent_weight) } else { plain });
        }
        // None has rows.
        prop_assert_eq!(class_weights(&live, &[0, 0, 0]), vec![f64::from(absent_weight); 3]);
    }

    /// All but two schemes only see the shares of the rows.
    #[test]
    fn a_batch_twice_weighs_the_same(counts in counts(), scheme in schemes(), over in classes_over()) {
        let by = match scheme {
            EffectiveNumber(_) => return Ok(()),
            Inverse => 0.5,
            _ => 1.0,
        };
        let live = LiveWeights { scheme, over, ..LiveWeights::default() };
        let twice: Vec<u32> = counts.iter().map(|n| 2 * n).collect();
        for (once, twice) in class_weights(&live, &counts).into_iter().zip(class_weights(&live, &twice)) {
            prop_assert!(is_close(twice, by * once, CLOSE), "{once} {twice}");
        }
    }

    /// A log-prior of `tau` 1 is the logarithm of a distribution; `tau` scales it; absent classes stay finite.
    #[test]
    fn log_prior_is_a_distribution(counts in counts(), tau in -4.0f64..4.0, smoothing in 1e-3f64..100.0) {
        let prior = log_prior(1.0, smoothing, &counts);
        let sum: f64 = prior.iter().map(|bias| bias.exp()).sum();
        prop_assert!(is_close(sum, 1.0, 4.0 * CLOSE), "{sum}");
        let sums = sum_of_counts(&counts) + smoothing * counts.len() as f64;
        for ((n, bias), scaled) in counts.iter().zip(&prior).zip(log_prior(tau, smoothing, &counts)) {
            prop_assert!(bias.is_finite());
            prop_assert!(is_close(bias.exp() * sums, f64::from(*n) + smoothing, 4.0 * CLOSE), "{n} {bias}");
            prop_assert!(is_close(scaled, tau * bias, CLOSE), "{scaled} {bias}");
        }
    }

    /// A whole step on logits that are all alike, with a prior of its own: the loss of a row is the weight of its class
    /// times `-log` of the class's share, and the weights that come back are those of the counts.
    #[test]
    fn a_step_uses_what_its_labels_say(
        labels in vec(0i32..5, 1..40), scheme in schemes(), over in classes_over(),
    ) {
        let live = LiveWeights { scheme, over, absent_weight: 3.0, ..LiveWeights::default() };
        let spec = Spec {
            class_weights: ClassWeights::Live(live.clone()),
            logit_bias: LogitBias::LogPrior { tau: 1.0, smoothing: 0.5 },
            reduction: Reduction::None,
            // No row of class 4 counts.
            ignore_index: Some(4),
            ..Spec::default()
        };
        let logits = vec![0.25; labels.len() * 5];
        let inputs = Inputs { logits: &logits, labels: &labels, ..Inputs::default() };
        let output = compute(&spec, &Shape::new(labels.len() as u32, 5), &inputs).unwrap();
        let count = |class| labels.iter().filter(|label| **label == class).count() as u32;
        let counts = [count(0), count(1), count(2), count(3), 0];
        prop_assert_eq!(output.class_counts.as_deref(), Some(&counts[..]));
        let weights = class_weights(&live, &counts);
        prop_assert_eq!(output.class_weights.as_ref(), Some(&weights));
        let rows = sum_of_counts(&counts);
        for (label, loss) in labels.iter().zip(&output.row_losses) {
            let want = match label {
                4 => 0.0,
                _ => {
                    let y = *label as usize;
                    -weights[y] * ((f64::from(counts[y]) + 0.5) / (rows + 2.5)).ln()
                }
            };
            prop_assert!(is_close(*loss, want, 4.0 * CLOSE), "{label}: {loss}, not {want}");
        }
    }
}
