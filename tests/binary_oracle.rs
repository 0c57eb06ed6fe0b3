//! The oracle of the sigmoid losses: central differences, and cases computed with PyTorch, torchvision and Keras.

#[path = "support/golden.rs"]
mod golden;

use golden::{Case, Goldens, Part};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wgpu_cross_entropy::{
    BinaryDenominator, BinaryInputs, BinaryOutput, BinaryReduction, BinarySpec, CountsOver, PosWeight, Shape,
    cpu,
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
        },
    ]
}

/// The derivative of `loss` with respect to every logit, by central differences of two step lengths (Richardson).
#[test]
fn gradients_are_derivatives() {
    let shape = Shape::new(8, 3).with_row_stride(4);
    let mut rng = StdRng::seed_from_u64(5);
    let len = shape.logits_len() as usize;
    // Multiples of the steps, so that x + h is exact in f32.
    let logits: Vec<f32> = (0..len).map(|_| rng.random_range(-1500..1500) as f32 / 256.0).collect();
    let kinds = [0.0, 1.0, 1.0, 0.0, 0.3, -1.0, 0.9];
    let targets: Vec<f32> = (0..len).map(|i| kinds[i % kinds.len()]).collect();
    let element_weights: Vec<f32> = (0..len).map(|_| rng.random_range(0..8) as f32 / 4.0).collect();
    let sample_weights: Vec<f32> = (0..shape.rows).map(|row| 0.5 + row as f32).collect();
    let mut checked = 0;
    for spec in specs() {
        let with = |logits: &[f32]| {
            let external = spec.reduction == BinaryReduction::Mean(BinaryDenominator::External);
            let inputs = BinaryInputs {
                logits,
                targets: &targets,
                element_weights: spec.element_weights.then_some(&element_weights[..]),
                sample_weights: spec.sample_weights.then_some(&sample_weights[..]),
                grad_out: None,
                external_denominator: external.then_some(7.5),
            };
            cpu::compute_binary(&spec, &shape, &inputs).unwrap()
        };
        let grads = with(&logits).logit_grads;
        for row in 0..shape.rows {
            for column in 0..shape.classes {
                let at = shape.index(row, column) as usize;
                let slope = |h: f32| {
                    let moved = |by: f32| {
                        let mut logits = logits.clone();
                        logits[at] += by;
                        with(&logits).totals.loss
                    };
                    (moved(h) - moved(-h)) / (2.0 * f64::from(h))
                };
                let (wide, narrow) = (slope(1.0 / 128.0), slope(1.0 / 256.0));
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
    }
    println!("{checked} derivatives of {} specs", specs().len());
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

/// A case as the crate takes it.
struct Batch {
    spec: BinarySpec,
    shape: Shape,
    logits: Vec<f32>,
    targets: Vec<f32>,
    element_weights: Option<Vec<f32>>,
    sample_weights: Option<Vec<f32>>,
    grad_out: Option<Vec<f32>>,
    external: Option<f32>,
    /// Losses are means over the last axis.
    mean_last_axis: bool,
}

/// Repeats a tensor by NumPy's rules.
fn broadcast(tensor: &golden::Tensor<f32>, shape: &[usize]) -> Vec<f32> {
    let lead = shape.len() - tensor.shape.len();
    let count: usize = shape.iter().product();
    (0..count)
        .map(|flat| {
            let (mut rest, mut at, mut stride) = (flat, 0, 1);
            for axis in (0..shape.len()).rev() {
                let index = rest % shape[axis];
                rest /= shape[axis];
                if axis >= lead {
                    let length = tensor.shape[axis - lead];
                    at += if length == 1 { 0 } else { index * stride };
                    stride *= length;
                }
            }
            tensor.values[at]
        })
        .collect()
}

/// Cases of logits; `None` where the input is probabilities, or the formula another.
fn read(goldens: &Goldens, case: &Case) -> Result<Option<Batch>, golden::Error> {
    if case.text("input_kind")?.is_some_and(|kind| kind != "logits") {
        return Ok(None);
    }
    let logits = goldens.f32s(case, Part::Inputs, "logits")?;
    let targets = goldens.f32s(case, Part::Inputs, "targets")?.values;
    let columns = logits.shape.last().copied().unwrap_or(1);
    let rows = logits.values.len() / columns.max(1);
    let optional = |name: &str| match case.has(Part::Inputs, name) {
        true => goldens.f32s(case, Part::Inputs, name).map(Some),
        false => Ok(None),
    };
    let dynamic = case.op.starts_with("dynamic_bce");
    let mean_last_axis = case.params.get("mean_last_axis").and_then(|v| v.as_bool()).unwrap_or(false)
        || case.op == "sigmoid_focal" && case.text("variant")? == Some("keras");
    let pos_weight = match optional("pos_weight")? {
        _ if dynamic => PosWeight::Ratio { per_column: false },
        Some(weights) => PosWeight::Given(weights.values),
        None => PosWeight::None,
    };
    let element_weights = optional("weight")?.map(|weight| broadcast(&weight, &logits.shape));
    let sample_weights = optional("sample_weight")?.map(|weights| weights.values);
    let upstream = optional("upstream")?.map(|upstream| upstream.values);
    let mut external = None;
    let reduction = match (case.text("reduction")?, case.text("denominator")?) {
        (Some("mean"), Some("count")) => BinaryReduction::Mean(BinaryDenominator::Elements),
        (Some("mean"), Some("sum_sample_weight")) => {
            BinaryReduction::Mean(BinaryDenominator::SampleWeightSum)
        }
        (Some("sum" | "none"), None) if mean_last_axis => {
            external = Some(columns as f32);
            BinaryReduction::Mean(BinaryDenominator::External)
        }
        (Some("sum"), None) => BinaryReduction::Sum,
        (Some("none"), None) => BinaryReduction::None,
        other => return Err(case.error(format!("reduction {other:?}"))),
    };
    let focal = case.op == "sigmoid_focal";
    let alpha = case.number("alpha")?.filter(|alpha| *alpha >= 0.0).map(|alpha| alpha as f32);
    let spec = BinarySpec {
        pos_weight,
        focal_gamma: if focal { case.number("gamma")?.unwrap_or(0.0) as f32 } else { 0.0 },
        focal_alpha: if focal { alpha } else { None },
        label_smoothing: case.number("label_smoothing")?.unwrap_or(0.0) as f32,
        element_weights: element_weights.is_some(),
        sample_weights: sample_weights.is_some(),
        reduction,
        ..BinarySpec::default()
    };
    let by_row = mean_last_axis;
    Ok(Some(Batch {
        spec,
        shape: Shape::new(rows as u32, columns as u32),
        grad_out: upstream.map(|upstream| match by_row {
            true => upstream.iter().flat_map(|u| std::iter::repeat_n(*u, columns)).collect(),
            false => upstream,
        }),
        logits: logits.values,
        targets,
        element_weights,
        sample_weights,
        external,
        mean_last_axis,
    }))
}

/// Every case of logits whose op is `op`: (compared, left out).
fn compare(op: &str, leave_out: &[&str]) -> (usize, usize) {
    let goldens = Goldens::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")).unwrap();
    let (mut compared, mut left_out) = (0, 0);
    for case in goldens.cases.iter().filter(|case| case.op == op) {
        let batch = read(&goldens, case).unwrap();
        let Some(batch) = batch.filter(|_| !leave_out.contains(&case.name.as_str())) else {
            left_out += 1;
            continue;
        };
        let inputs = BinaryInputs {
            logits: &batch.logits,
            targets: &batch.targets,
            element_weights: batch.element_weights.as_deref(),
            sample_weights: batch.sample_weights.as_deref(),
            grad_out: batch.grad_out.as_deref(),
            external_denominator: batch.external,
        };
        let got = cpu::compute_binary(&batch.spec, &batch.shape, &inputs)
            .unwrap_or_else(|error| panic!("{}: {error}", case.id()));
        let columns = batch.shape.classes as usize;
        let losses = got.element_losses.unwrap();
        let losses = match batch.mean_last_axis {
            true => losses.chunks(columns).map(|row| row.iter().sum::<f64>() / columns as f64).collect(),
            false => losses,
        };
        let unreduced = case.text("reduction").unwrap() == Some("none");
        let loss = if unreduced { losses } else { vec![got.totals.loss] };
        for (name, got) in [("loss", &loss), ("grad_logits", &got.logit_grads)] {
            let want = goldens.f64s(case, Part::Expected, name).unwrap().values;
            assert_eq!(got.len(), want.len(), "{} {name}", case.id());
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                // PyTorch has NaN where 0 meets infinity, and for the mean of nothing. Here the first is the limit, and
                // the second 0.
                if want.is_nan() {
                    assert!(!got.is_nan(), "{} {name}[{i}] is NaN here too: compare it", case.id());
                    continue;
                }
                // Sums of up to 387 terms in f64, and one f32 constant (0.1, 0.2) that is not the f64 one.
                let constant = if batch.spec.label_smoothing != 0.0 || batch.spec.focal_alpha.is_some() {
                    2f64.powi(-23)
                } else {
                    0.0
                };
                let allowed = (1e-12 + constant) * (1.0 + want.abs());
                let same = got == want || (got - want).abs() <= allowed;
                assert!(same, "{} {name}[{i}] is {got}, not {want}", case.id());
            }
        }
        compared += 1;
    }
    println!("{op}: {compared} cases compared, {left_out} left out");
    (compared, left_out)
}

#[test]
fn goldens_bce() {
    // What is left out is of probabilities.
    assert_eq!(compare("bce", &[]), (41, 24));
}

#[test]
fn goldens_sigmoid_focal() {
    assert_eq!(compare("sigmoid_focal", &[]), (13, 5));
}

#[test]
fn goldens_dynamic_bce() {
    assert_eq!(compare("dynamic_bce", &[]), (17, 23));
    // The losses API broadcasts [rows] against [rows, 1] into a square: a pitfall of that API, not a formula.
    let square = ["bin_losses_api_2D_broadcast_bug", "bin_losses_api_2D_broadcast_bug_mean"];
    assert_eq!(compare("dynamic_bce_losses_api", &square), (1, 2));
}
