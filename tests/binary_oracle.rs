//! The oracle of the sigmoid losses: central differences and properties. `tests/oracle/goldens.rs` runs the cases of
//! PyTorch, torchvision and Keras.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wgpu_cross_entropy::{
    BinaryClip, BinaryDenominator, BinaryInputs, BinaryOutput, BinaryReduction, BinaryScores, BinarySpec,
    CountsOver, PosWeight, Shape, cpu,
};

/// Every option by itself and in company: hard and soft targets, every source of factors, every denominator.
fn specs() -> Vec<BinarySpec> {
    let plain = BinarySpec::default();
    let live = |per_column| PosWeight::Live { per_column, min: 0.1, max: 20.0 };
    let mean = BinaryReduction::Mean;
    vec![
        plain.clone(),
        BinarySpec { pos_weight: PosWeight::Given(vec![2.5]), ..plain.clone() },
        BinarySpec { pos_weight: PosWeight::Given(vec![2.5, 0.0, 1.0]), ..plain.clone() },
        BinarySpec { pos_weight: live(false), ..plain.clone() },
        BinarySpec { pos_weight: live(true), ..plain.clone() },
        BinarySpec { pos_weight: PosWeight::Ratio { per_column: false }, ..plain.clone() },
        BinarySpec { pos_weight: PosWeight::Ratio { per_column: true }, ..plain.clone() },
        BinarySpec { focal_gamma: 2.0, focal_alpha: Some(0.25), ..plain.clone() },
        BinarySpec { focal_gamma: 0.5, ..plain.clone() },
        BinarySpec { focal_gamma: 1.0, label_smoothing: 0.1, ..plain.clone() },
        BinarySpec { label_smoothing: 0.2, ..plain.clone() },
        BinarySpec { ignore_value: Some(-1.0), ..plain.clone() },
        BinarySpec { reduction: BinaryReduction::Sum, element_weights: true, ..plain.clone() },
        BinarySpec { reduction: BinaryReduction::None, sample_weights: true, ..plain.clone() },
        BinarySpec {
            reduction: mean(BinaryDenominator::ValidElements),
            ignore_value: Some(0.0),
            ..plain.clone()
        },
        BinarySpec {
            reduction: mean(BinaryDenominator::WeightSum),
            pos_weight: live(true),
            element_weights: true,
            sample_weights: true,
            ..plain.clone()
        },
        BinarySpec {
            reduction: mean(BinaryDenominator::SampleWeightSum),
            sample_weights: true,
            focal_gamma: 3.0,
            ..plain.clone()
        },
        BinarySpec {
            pos_weight: PosWeight::Ratio { per_column: true },
            counts_over: CountsOver::Batch,
            focal_gamma: 1.5,
            focal_alpha: Some(0.75),
            label_smoothing: 0.1,
            ignore_value: Some(-1.0),
            element_weights: true,
            sample_weights: true,
            reduction: mean(BinaryDenominator::External),
            ..plain.clone()
        },
        BinarySpec { reduction: mean(BinaryDenominator::Columns), sample_weights: true, ..plain.clone() },
    ]
}

/// Keras 3's clip, Keras 2's, and one that one sees.
fn clips() -> [BinaryClip; 3] {
    [
        BinaryClip::default(),
        BinaryClip { log_eps: 1e-7, ..BinaryClip::default() },
        BinaryClip { eps: 0.1, log_eps: 0.02 },
    ]
}

/// The derivative of `loss` with respect to every score, by central differences of two step lengths (Richardson).
fn derivatives(spec: &BinarySpec, shape: &Shape, scores: &[f32], step: f32) -> usize {
    let mut rng = StdRng::seed_from_u64(5);
    let len = shape.logits_len() as usize;
    let kinds = [0.0, 1.0, 1.0, 0.0, 0.3, -1.0, 0.9];
    let targets: Vec<f32> = (0..len).map(|i| kinds[i % kinds.len()]).collect();
    let element_weights: Vec<f32> = (0..len).map(|_| rng.random_range(0..8) as f32 / 4.0).collect();
    let sample_weights: Vec<f32> = (0..shape.rows).map(|row| 0.5 + row as f32).collect();
    let with = |scores: &[f32]| {
        let external = spec.reduction == BinaryReduction::Mean(BinaryDenominator::External);
        let inputs = BinaryInputs {
            logits: scores,
            targets: &targets,
            element_weights: spec.element_weights.then_some(&element_weights[..]),
            sample_weights: spec.sample_weights.then_some(&sample_weights[..]),
            grad_out: None,
            external_denominator: external.then_some(7.5),
        };
        cpu::compute_binary(spec, shape, &inputs).unwrap()
    };
    let grads = with(scores).logit_grads;
    let mut checked = 0;
    for row in 0..shape.rows {
        for column in 0..shape.classes {
            let at = shape.index(row, column) as usize;
            let slope = |h: f32| {
                let moved = |by: f32| {
                    let mut scores = scores.to_vec();
                    scores[at] += by;
                    with(&scores).totals.loss
                };
                (moved(h) - moved(-h)) / (2.0 * f64::from(h))
            };
            let (wide, narrow) = (slope(step), slope(step / 2.0));
            let difference = (4.0 * narrow - wide) / 3.0;
            // The rest is of the order h^4, and the rounding of the loss over h.
            let allowed = 1e-8 * (1.0 + difference.abs());
            assert!(
                (difference - grads[at]).abs() <= allowed,
                "{spec:?}\nrow {row}, column {column}: {} by formula, {difference} by differences",
                grads[at]
            );
            checked += 1;
        }
    }
    checked
}

#[test]
fn gradients_are_derivatives() {
    let shapes = [Shape::new(8, 3).with_row_stride(4), Shape::class_first(2, 3, 4).with_row_stride(13)];
    let mut checked = 0;
    for (shape, spec) in shapes.iter().flat_map(|shape| specs().into_iter().map(move |spec| (shape, spec))) {
        let mut rng = StdRng::seed_from_u64(6);
        let len = shape.logits_len() as usize;
        // Multiples of the steps, so that x + h is exact in f32.
        let logits: Vec<f32> = (0..len).map(|_| rng.random_range(-1500..1500) as f32 / 256.0).collect();
        checked += derivatives(&spec, shape, &logits, 1.0 / 128.0);
        for clip in clips() {
            // Away from where the clip begins.
            let limit = clip.largest_logit() as f32;
            let near = |x: &f32| (x.abs() - limit).abs() < 1.0 / 32.0;
            let logits: Vec<f32> = logits.iter().map(|x| if near(x) { x + 0.125 } else { *x }).collect();
            let clipped = BinarySpec { scores: BinaryScores::SigmoidProbs(clip), ..spec.clone() };
            checked += derivatives(&clipped, shape, &logits, 1.0 / 128.0);
            let probs: Vec<f32> = (0..len).map(|_| rng.random_range(12..245) as f32 / 256.0).collect();
            let near = |p: &f32| (p.min(1.0 - p) - clip.eps as f32).abs() < 1.0 / 512.0;
            let probs: Vec<f32> = probs.iter().map(|p| if near(p) { 0.5 } else { *p }).collect();
            let of_probs = BinarySpec { scores: BinaryScores::Probs(clip), ..spec.clone() };
            checked += derivatives(&of_probs, shape, &probs, 1.0 / 4096.0);
        }
    }
    println!("{checked} derivatives of {} specs", specs().len());
}

/// Probabilities at and beyond the ends: the loss stays at the clip's, and nothing pulls there.
#[test]
fn probabilities_are_clipped() {
    let keras3 = BinaryClip::default();
    let keras2 = BinaryClip { log_eps: 1e-7, ..keras3 };
    let with = |clip, gamma, p: f32, t: f32| {
        let spec =
            BinarySpec { scores: BinaryScores::Probs(clip), focal_gamma: gamma, ..BinarySpec::default() };
        let output = one(&spec, p, t);
        (output.totals.loss, output.logit_grads[0])
    };
    let (most, least) = (-1e-7f64.ln(), -(-1e-7f64).ln_1p());
    const INF: f32 = f32::INFINITY;
    for (p, t, loss) in [
        (0.0, 1.0, most),
        (1.0, 0.0, most),
        (-0.5, 1.0, most),
        (1.5, 0.0, most),
        (INF, 0.0, most),
        (-INF, 1.0, most),
        (1e-8, 1.0, most),
        (0.0, 0.0, least),
        (1.0, 1.0, least),
        (1.5, 1.0, least),
    ] {
        assert_eq!(with(keras3, 0.0, p, t), (loss, 0.0), "{p} {t}");
        // The focal power is of the probability as it came, but for what lies outside.
        let p_inside = f64::from(p.clamp(0.0, 1.0));
        let m = if t == 1.0 { 1.0 - p_inside } else { p_inside };
        let focal = with(keras3, 2.0, p, t).0;
        assert!((focal - m * m * loss).abs() <= 1e-15 * loss, "{p} {t}: {focal}");
    }
    // The ends of the clip pass the gradient: in f32 the nearest to 1 that does is 0.99999988.
    assert!(with(keras3, 0.0, 1e-7, 1.0).1 < -0.99e7 && with(keras3, 0.0, 0.999_999_9, 0.0).1 > 8e6);
    // Keras 2: below 0 where the answer is sure and right, and at most -log(2e-7).
    assert!((with(keras2, 0.0, 1.0, 1.0).0 + 0.0).abs() < 1e-13);
    assert!((with(keras2, 0.0, 0.0, 1.0).0 + 2e-7f64.ln()).abs() < 1e-12);
    // The focal power of what is clipped still turns; of 0 only the first power does.
    let turn = with(keras3, 1.0, 0.0, 0.0).1;
    assert!((turn / least - 1.0).abs() < 1e-12, "{turn}");
    assert_eq!((with(keras3, 0.5, 0.0, 0.0).1, with(keras3, 2.0, 0.0, 0.0).1), (0.0, 0.0));
    assert!(with(keras3, 0.0, f32::NAN, 1.0).0.is_nan());
    // Logits: an infinite one is clipped like any other.
    let spec = BinarySpec { scores: BinaryScores::SigmoidProbs(keras3), ..BinarySpec::default() };
    for (x, t) in [(INF, 0.0), (-INF, 1.0), (3e38, 0.0), (-17.0, 1.0)] {
        let output = one(&spec, x, t);
        assert!((output.totals.loss - most).abs() < 1e-12 && output.logit_grads == [0.0], "{x} {t}");
    }
}

/// Predicted positive is what is above the threshold, in each kind of scores; sample weights weigh it.
#[test]
fn accuracy_has_a_threshold() {
    let shape = Shape::new(3, 2);
    let probs = [0.2, 0.3, 0.6, 0.31, 0.9, 0.5];
    let logits = probs.map(|p: f32| (p / (1.0 - p)).ln());
    let targets = [0.0, 1.0, 1.0, 1.0, 0.0, 0.0];
    let clip = BinaryClip::default();
    for (scores, values) in [
        (BinaryScores::Probs(clip), &probs),
        (BinaryScores::Logits, &logits),
        (BinaryScores::SigmoidProbs(clip), &logits),
    ] {
        for (threshold, correct, weight) in
            [(0.5, 3, 1.0 + 2.0 + 4.0), (0.305, 3, 1.0 + 2.0 + 2.0), (0.0, 3, 5.0)]
        {
            let spec = BinarySpec { scores, threshold, sample_weights: true, ..BinarySpec::default() };
            let inputs = BinaryInputs {
                logits: values,
                targets: &targets,
                sample_weights: Some(&[1.0, 2.0, 4.0]),
                ..BinaryInputs::default()
            };
            let totals = cpu::compute_binary(&spec, &shape, &inputs).unwrap().totals;
            assert_eq!((totals.correct, totals.correct_weight), (correct, weight), "{scores:?} {threshold}");
            assert_eq!(totals.sample_weight_sum, 14.0);
        }
    }
}

fn one(spec: &BinarySpec, x: f32, t: f32) -> BinaryOutput<f64> {
    let inputs = BinaryInputs { logits: &[x], targets: &[t], ..BinaryInputs::default() };
    cpu::compute_binary(spec, &Shape::new(1, 1), &inputs).unwrap()
}

/// Saturated elements keep their slopes; infinite logits have the limits; exponents below 1 stay finite.
#[test]
fn saturated_elements() {
    let plain = BinarySpec::default();
    let confident = one(&plain, 40.0, 1.0);
    assert!((confident.logit_grads[0] / -f64::exp(-40.0) - 1.0).abs() < 1e-15);
    assert!((confident.totals.loss / f64::exp(-40.0) - 1.0).abs() < 1e-15);
    for gamma in [0.0, 0.25, 1.0, 2.0] {
        let spec = BinarySpec { focal_gamma: gamma, ..plain.clone() };
        for x in [-1e38, -1e4, -100.0, 0.0, 100.0, 1e4, 1e38f32] {
            for t in [0.0, 0.5, 1.0] {
                let got = one(&spec, x, t);
                assert!(got.totals.loss.is_finite() && got.logit_grads[0].is_finite(), "{gamma} {x} {t}");
            }
        }
        const INF: f32 = f32::INFINITY;
        for (x, t, loss, grad) in [
            (INF, 1.0, 0.0, 0.0),
            (INF, 0.0, f64::INFINITY, 1.0),
            (-INF, 0.0, 0.0, 0.0),
            (-INF, 1.0, f64::INFINITY, -1.0),
        ] {
            let got = one(&spec, x, t);
            assert_eq!((got.totals.loss, got.logit_grads[0]), (loss, grad), "{gamma} {x} {t}");
            assert_eq!(got.totals.nonfinite, 0);
        }
    }
    let bad = one(&plain, f32::NAN, 1.0);
    assert!(bad.totals.loss.is_nan() && bad.logit_grads[0].is_nan());
    assert_eq!((bad.totals.nonfinite, bad.totals.first_bad), (1, Some(0)));
    assert_eq!(one(&plain, 0.0, f32::INFINITY).totals.nonfinite, 1);
}

/// One side empty: every factor stays finite.
#[test]
fn one_sided_batches() {
    let shape = Shape::new(3, 1);
    let logits = [0.5, -1.0, 2.0];
    for (targets, live, ratio) in [
        ([1.0; 3], [0.25, 1.0], [1.0, 0.0]),
        ([0.0; 3], [9.0, 1.0], [0.0, 1.0]),
        ([-1.0; 3], [1.0, 1.0], [0.0, 0.0]),
    ] {
        let pos_weight = PosWeight::Live { per_column: false, min: 0.25, max: 9.0 };
        for (pos_weight, want) in [(pos_weight, live), (PosWeight::Ratio { per_column: true }, ratio)] {
            let spec = BinarySpec { pos_weight, ignore_value: Some(-1.0), ..BinarySpec::default() };
            let inputs = BinaryInputs { logits: &logits, targets: &targets, ..BinaryInputs::default() };
            let got = cpu::compute_binary(&spec, &shape, &inputs).unwrap();
            assert_eq!(got.factors.as_deref(), Some(&want[..]), "{spec:?} {targets:?}");
            assert!(got.totals.loss.is_finite());
        }
    }
}

/// NaN as the ignore value takes every NaN; any ignored element may hold any logit.
#[test]
fn ignored_elements() {
    for value in [-1.0, f32::NAN] {
        let spec = BinarySpec {
            ignore_value: Some(value),
            reduction: BinaryReduction::Mean(BinaryDenominator::ValidElements),
            ..BinarySpec::default()
        };
        let (logits, targets) = ([f32::NAN, 0.0, f32::INFINITY], [value, 1.0, value]);
        let inputs = BinaryInputs { logits: &logits, targets: &targets, ..BinaryInputs::default() };
        let got = cpu::compute_binary(&spec, &Shape::new(1, 3), &inputs).unwrap();
        assert_eq!((got.totals.ignored, got.totals.valid, got.totals.nonfinite), (2, 1, 0));
        assert_eq!(got.logit_grads, [0.0, -0.5, 0.0]);
        assert_eq!(got.totals.loss, std::f64::consts::LN_2);
    }
}

/// A batch of some rows and columns, with logits of any size, hard and soft targets.
#[derive(Clone, Debug)]
struct Drawn {
    shape: Shape,
    logits: Vec<f32>,
    targets: Vec<f32>,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let target = prop_oneof![3 => Just(0.0f32), 2 => Just(1.0f32), 1 => 0.0f32..=1.0];
    let logit = prop_oneof![4 => -6.0f32..6.0, 1 => -120.0f32..120.0];
    (1u32..7, 1u32..6).prop_flat_map(move |(rows, columns)| {
        let n = (rows * columns) as usize;
        (prop::collection::vec(logit.clone(), n), prop::collection::vec(target.clone(), n))
            .prop_map(move |(logits, targets)| Drawn { shape: Shape::new(rows, columns), logits, targets })
    })
}

impl Drawn {
    fn inputs(&self) -> BinaryInputs<'_> {
        BinaryInputs { logits: &self.logits, targets: &self.targets, ..BinaryInputs::default() }
    }

    fn with(&self, spec: &BinarySpec) -> BinaryOutput<f64> {
        cpu::compute_binary(spec, &self.shape, &self.inputs()).unwrap()
    }
}

fn close(a: &[f64], b: &[f64], what: &str) -> Result<(), TestCaseError> {
    prop_assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        prop_assert!((a - b).abs() <= 1e-12 * (1.0 + a.abs()), "{}: {} and {}", what, a, b);
    }
    Ok(())
}

proptest! {
    /// A target of 0 or 1 is one side alone: `softplus(x)` or `softplus(-x)`; a soft one mixes them.
    #[test]
    fn soft_targets_mix_hard_ones(batch in drawn()) {
        let spec = BinarySpec { reduction: BinaryReduction::None, ..BinarySpec::default() };
        let of = |t: f32| Drawn { targets: vec![t; batch.targets.len()], ..batch.clone() }.with(&spec);
        let (hard_0, hard_1, got) = (of(0.0), of(1.0), batch.with(&spec));
        let mixed = |zero: &[f64], one: &[f64]| -> Vec<f64> {
            let pairs = zero.iter().zip(one).zip(&batch.targets);
            pairs.map(|((zero, one), t)| f64::from(*t) * one + (1.0 - f64::from(*t)) * zero).collect()
        };
        let losses = |output: &BinaryOutput<f64>| output.element_losses.clone().unwrap();
        close(&losses(&got), &mixed(&losses(&hard_0), &losses(&hard_1)), "losses")?;
        close(&got.logit_grads, &mixed(&hard_0.logit_grads, &hard_1.logit_grads), "gradients")?;
        for (x, (zero, one)) in batch.logits.iter().zip(losses(&hard_0).iter().zip(losses(&hard_1))) {
            // The two costs differ by the logit.
            prop_assert!((zero - one - f64::from(*x)).abs() <= 1e-12 * (1.0 + zero.abs()));
        }
    }

    /// Weights of 1 are none, to the bit; so are an alpha of 1/2 on half the loss and a focal power that is nearly 0.
    #[test]
    fn neutral_settings_change_nothing(batch in drawn()) {
        let plain = batch.with(&BinarySpec::default());
        let ones = vec![1.0; batch.logits.len()];
        let rows = vec![1.0; batch.shape.rows as usize];
        let given = |values| BinarySpec { pos_weight: PosWeight::Given(values), ..BinarySpec::default() };
        let weighted = BinarySpec {
            element_weights: true,
            sample_weights: true,
            ..given(vec![1.0; batch.shape.classes as usize])
        };
        let inputs = BinaryInputs {
            element_weights: Some(&ones),
            sample_weights: Some(&rows),
            grad_out: Some(&ones),
            ..batch.inputs()
        };
        let got = cpu::compute_binary(&weighted, &batch.shape, &inputs).unwrap();
        prop_assert_eq!(&got.logit_grads, &plain.logit_grads);
        prop_assert_eq!(&got.element_losses, &plain.element_losses);
        let half = BinarySpec { focal_alpha: Some(0.5), ..BinarySpec::default() };
        let doubled = |values: Vec<f64>| values.into_iter().map(|x| 2.0 * x).collect::<Vec<_>>();
        close(&doubled(batch.with(&half).logit_grads), &plain.logit_grads, "alpha 1/2")?;
        let focal = BinarySpec { focal_gamma: 1e-16, ..BinarySpec::default() };
        close(&batch.with(&focal).logit_grads, &plain.logit_grads, "focal of almost 0")?;
    }

    /// Rows one by one with the whole's denominator are the whole.
    #[test]
    fn chunks_with_an_external_denominator_are_the_whole(batch in drawn(), cut in 0.0f64..1.0) {
        let spec = BinarySpec { focal_gamma: 2.0, ..BinarySpec::default() };
        let whole = batch.with(&spec);
        let external = BinarySpec {
            reduction: BinaryReduction::Mean(BinaryDenominator::External),
            ..spec
        };
        let rows = (f64::from(batch.shape.rows) * cut) as u32;
        let at = (rows * batch.shape.classes) as usize;
        let (mut loss, mut grads) = (0.0, Vec::new());
        for (rows, range) in [(rows, 0..at), (batch.shape.rows - rows, at..batch.logits.len())] {
            let inputs = BinaryInputs {
                logits: &batch.logits[range.clone()],
                targets: &batch.targets[range],
                external_denominator: Some(batch.logits.len() as f32),
                ..BinaryInputs::default()
            };
            let part = cpu::compute_binary(&external, &Shape::new(rows, batch.shape.classes), &inputs).unwrap();
            loss += part.totals.loss;
            grads.extend(part.logit_grads);
        }
        close(&[loss], &[whole.totals.loss], "loss")?;
        close(&grads, &whole.logit_grads, "gradients")?;
    }

    /// Columns in another order, with their own live factors: the same elements in that order. Class-first is the same
    /// batch transposed.
    #[test]
    fn columns_may_change_places(batch in drawn(), by in 0u32..6) {
        let spec = BinarySpec {
            pos_weight: PosWeight::Live { per_column: true, min: 0.1, max: 50.0 },
            label_smoothing: 0.1,
            ..BinarySpec::default()
        };
        let shape = batch.shape;
        let want = batch.with(&spec);
        let moved = |values: &[f32], place: &dyn Fn(u32, u32) -> usize| {
            let mut moved = vec![0.0; values.len()];
            for row in 0..shape.rows {
                for column in 0..shape.classes {
                    moved[place(row, column)] = values[shape.index(row, column) as usize];
                }
            }
            moved
        };
        let first = Shape::class_first(1, shape.classes, shape.rows);
        let rolled = |row, column| shape.index(row, (column + by) % shape.classes) as usize;
        let transposed = |row, column| first.index(row, column) as usize;
        type Place<'a> = &'a dyn Fn(u32, u32) -> usize;
        for (layout, place) in [(shape, &rolled as Place<'_>), (first, &transposed)] {
            let other = Drawn {
                shape: layout,
                logits: moved(&batch.logits, place),
                targets: moved(&batch.targets, place),
            };
            let got = other.with(&spec);
            for row in 0..shape.rows {
                for column in 0..shape.classes {
                    let at = shape.index(row, column) as usize;
                    prop_assert_eq!(got.logit_grads[place(row, column)], want.logit_grads[at]);
                }
            }
            close(&[got.totals.loss], &[want.totals.loss], "loss")?;
        }
    }

    /// A sigmoid that is clipped is the sigmoid's probabilities clipped, and the plain loss where the clip is idle.
    #[test]
    fn clipped_sigmoids_are_clipped_probabilities(batch in drawn(), gamma in prop_oneof![Just(0.0f32), 1.0f32..4.0]) {
        let clip = BinaryClip::default();
        let with = |scores| BinarySpec {
            scores,
            focal_gamma: gamma,
            reduction: BinaryReduction::Sum,
            ..BinarySpec::default()
        };
        let sigmoid = |x: &f32| 1.0 / (1.0 + (-f64::from(*x)).exp());
        // Rounded to f32, so that both have the same probability.
        let probs: Vec<f32> = batch.logits.iter().map(|x| sigmoid(x) as f32).collect();
        let logit = |p: &f32| (f64::from(*p) / (1.0 - f64::from(*p))).ln();
        let exact = |x: &f32| (x.abs() < 6.0).then_some(*x);
        let got = batch.with(&with(BinaryScores::SigmoidProbs(clip)));
        let of_probs = Drawn { logits: probs.clone(), ..batch.clone() }.with(&with(BinaryScores::Probs(clip)));
        let plain = batch.with(&with(BinaryScores::Logits));
        for (at, prob) in probs.iter().enumerate() {
            let Some(x) = exact(&batch.logits[at]) else { continue };
            let p = sigmoid(&x);
            close(&[got.logit_grads[at]], &[plain.logit_grads[at]], "the idle clip")?;
            // The probability was rounded: by up to 2^-24, and so its logit by that over p (1 - p).
            let off = (logit(prob) - f64::from(x)).abs();
            let chained = of_probs.logit_grads[at] * p * (1.0 - p);
            let allowed = 1e-12 + 40.0 * off * (1.0 + plain.logit_grads[at].abs());
            prop_assert!((chained - plain.logit_grads[at]).abs() <= allowed, "{} {}", chained, plain.logit_grads[at]);
        }
    }

    /// Keras: a row's loss is its mean, and the sum over rows divides by the columns.
    #[test]
    fn rows_are_means(batch in drawn()) {
        let spec = BinarySpec {
            reduction: BinaryReduction::Mean(BinaryDenominator::Columns),
            ..BinarySpec::default()
        };
        let got = batch.with(&spec);
        let rows = got.row_losses(&batch.shape).unwrap();
        close(&[rows.iter().sum()], &[got.totals.loss], "loss")?;
        let first = got.element_losses.as_ref().unwrap()[..batch.shape.classes as usize].iter().sum::<f64>();
        close(&[rows[0]], &[first / f64::from(batch.shape.classes)], "the first row")?;
    }
}
