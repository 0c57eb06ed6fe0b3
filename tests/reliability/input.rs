//! Hostile input: bad rows are counted, or named by the checked calls; good rows stay exact to the bit.

use crate::support::{Batch, full_spec, gpus};
use wgpu_cross_entropy::error::HostError;
use wgpu_cross_entropy::{
    BinaryCrossEntropy, BinaryInputs, BinaryOptions, BinaryReduction, BinarySpec, CostMatrix, CrossEntropy,
    Gpu, Inputs, Options, Output, Reduction, SampleWeights, Shape, Spec,
};

const CLASSES: usize = 6;

fn spec() -> Spec {
    Spec {
        ignore_index: Some(-100),
        sample_weights: SampleWeights::PerRow,
        reduction: Reduction::Sum,
        ..Spec::default()
    }
}

fn plan(gpu: &Gpu, spec: &Spec, rows: u32) -> CrossEntropy {
    CrossEntropy::new(&gpu.device, spec, Shape::new(rows, CLASSES as u32), &Options::default()).unwrap()
}

/// A batch of good rows, as slices that a test spoils.
struct Rows {
    logits: Vec<f32>,
    labels: Vec<i32>,
    sample_weights: Vec<f32>,
}

impl Rows {
    fn good() -> Self {
        let rows = 40;
        Self {
            logits: (0..rows * CLASSES).map(|i| (i * 7 % 23) as f32 / 4.0 - 3.0).collect(),
            labels: (0..rows).map(|row| (row * 5 % CLASSES) as i32).collect(),
            sample_weights: (0..rows).map(|row| 0.5 + (row % 4) as f32).collect(),
        }
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            logits: &self.logits,
            labels: &self.labels,
            sample_weights: Some(&self.sample_weights),
            ..Inputs::default()
        }
    }
}

/// Losses and gradients of every row but one, in bits.
fn others(output: &Output<f32>, row: usize) -> Vec<u32> {
    let rows = (0..output.row_losses.len()).filter(|other| *other != row);
    rows.flat_map(|row| {
        let grads = &output.logit_grads[row * CLASSES..(row + 1) * CLASSES];
        grads.iter().chain([&output.row_losses[row]]).map(|x| x.to_bits()).collect::<Vec<u32>>()
    })
    .collect()
}

/// One row is spoiled, in each way there is; the others keep their bits, and the checked call names the row.
#[test]
fn one_bad_row_among_good_ones() {
    const INF: f32 = f32::INFINITY;
    const ROW: usize = 17;
    type Spoil = fn(&mut Rows);
    let cases: [(&str, Spoil, Option<&str>); 14] = [
        (
            "a negative label",
            |r| r.labels[ROW] = -1,
            Some("the label of row 17 is -1, which is no class of 6; 1 such row(s)"),
        ),
        (
            "the least label",
            |r| r.labels[ROW] = i32::MIN,
            Some("the label of row 17 is -2147483648, which is no class of 6; 1 such row(s)"),
        ),
        (
            "as many as classes",
            |r| r.labels[ROW] = 6,
            Some("the label of row 17 is 6, which is no class of 6; 1 such row(s)"),
        ),
        (
            "the largest label",
            |r| r.labels[ROW] = i32::MAX,
            Some("the label of row 17 is 2147483647, which is no class of 6; 1 such row(s)"),
        ),
        ("ignored", |r| r.labels[ROW] = -100, None),
        ("NaN", |r| r.logits[ROW * CLASSES + 2] = f32::NAN, Some("row 17 is not finite; 1 such row(s)")),
        ("+inf", |r| r.logits[ROW * CLASSES + 5] = INF, Some("row 17 is not finite; 1 such row(s)")),
        (
            "all -inf",
            |r| r.logits[ROW * CLASSES..(ROW + 1) * CLASSES].fill(-INF),
            Some("row 17 is not finite; 1 such row(s)"),
        ),
        ("one -inf", |r| r.logits[ROW * CLASSES + 2] = -INF, None),
        ("huge", |r| r.logits[ROW * CLASSES + 2] = 3e38, None),
        ("denormal", |r| r.logits[ROW * CLASSES..(ROW + 1) * CLASSES].fill(1e-42), None),
        (
            "a weight of NaN",
            |r| r.sample_weights[ROW] = f32::NAN,
            Some("sample_weights[17] is NaN; it must be finite"),
        ),
        (
            "an infinite weight",
            |r| r.sample_weights[ROW] = -INF,
            Some("sample_weights[17] is -inf; it must be finite"),
        ),
        ("a negative weight", |r| r.sample_weights[ROW] = -2.0, None),
    ];
    for gpu in gpus() {
        let plan = plan(gpu, &spec(), 40);
        let (device, queue) = (&gpu.device, &gpu.queue);
        let good = plan.compute_checked_blocking(device, queue, &Rows::good().inputs()).unwrap();
        for (name, spoil, message) in cases {
            let mut rows = Rows::good();
            spoil(&mut rows);
            let got = plan.compute_blocking(device, queue, &rows.inputs()).unwrap();
            let name = format!("{}: {name}", gpu.describe());
            assert!(others(&got, ROW) == others(&good, ROW), "{name}: the other rows have changed");
            // Also without the checked call the device has counted it.
            let totals = &got.totals;
            let counted = totals.out_of_range_rows + totals.nonfinite_rows + totals.nonfinite_weights;
            let (bad, first) = if message.is_some() { (1, Some(ROW as u32)) } else { (0, None) };
            assert_eq!((counted, totals.first_bad_row), (bad, first), "{name}");
            let checked = plan.compute_checked_blocking(device, queue, &rows.inputs());
            match message {
                Some(message) => {
                    let error = checked.expect_err(&name);
                    assert!(matches!(error, HostError::Row(_)), "{name}: {error:?}");
                    assert_eq!(error.to_string(), message, "{name}");
                }
                None => assert!(checked.is_ok(), "{name}: {checked:?}"),
            }
        }
        println!("{}: {} ways to spoil a row; the other 39 kept their bits", gpu.describe(), cases.len());
    }
}

/// Batches that have nothing to train on, or odd specs: as the oracle has them, and never NaN.
#[test]
fn nothing_to_train_on() {
    for gpu in gpus() {
        let (device, queue) = (&gpu.device, &gpu.queue);
        let ignored_class = Spec { ignore_index: Some(2), ..full_spec(6) };
        let costs = (0..36).map(|i| if i % 7 == 0 { 0.0 } else { 1.0 + (i % 5) as f32 }).collect();
        let zero_diagonal =
            Spec { cost_matrix: Some(CostMatrix::from_true_predicted(6, costs).unwrap()), ..full_spec(6) };
        let labels = |batch: Batch, label: i32| Batch { labels: vec![label; batch.labels.len()], ..batch };
        let batches = [
            ("an ignore index that is a class", Batch::random(1, &ignored_class, Shape::new(90, 6))),
            ("costs of 0 on the diagonal", Batch::random(2, &zero_diagonal, Shape::new(90, 6))),
            ("no rows", Batch::random(3, &full_spec(6), Shape::new(0, 6))),
            ("all ignored", labels(Batch::random(4, &full_spec(6), Shape::new(90, 6)), -100)),
            ("all out of range", labels(Batch::random(4, &full_spec(6), Shape::new(90, 6)), 77)),
            (
                "no weight",
                Batch {
                    sample_weights: Some(vec![0.0; 90]),
                    ..Batch::random(5, &full_spec(6), Shape::new(90, 6))
                },
            ),
        ];
        println!("{}: {} batches", gpu.describe(), batches.len());
        for (name, batch) in batches {
            let batch = batch.without_grad_out();
            let plan = CrossEntropy::new(device, &batch.spec, batch.shape, &Options::default()).unwrap();
            let validation = plan.validate_blocking(device, queue, &batch.inputs()).unwrap();
            assert!(validation.passed(), "{}: {name}\n{validation}", gpu.describe());
            let got = plan.compute_blocking(device, queue, &batch.inputs()).unwrap();
            assert!(
                got.totals.loss.is_finite() && got.logit_grads.iter().all(|grad| grad.is_finite()),
                "{name}"
            );
        }
    }
}

#[test]
fn one_bad_element_among_good_ones() {
    type Spoil = fn(&mut [Vec<f32>; 4]);
    // Logits, targets, element weights; weights of the rows.
    let cases: [(&str, Spoil, &str); 5] = [
        ("a logit", |x| x[0][23] = f32::NAN, "element 23 is not finite; 1 such element(s)"),
        ("a target", |x| x[1][23] = f32::INFINITY, "element 23 is not finite; 1 such element(s)"),
        ("a weight of NaN", |x| x[2][23] = f32::NAN, "element_weights[23] is NaN; it must be finite"),
        (
            "an infinite weight",
            |x| x[2][23] = -f32::INFINITY,
            "element_weights[23] is -inf; it must be finite",
        ),
        ("a row's weight", |x| x[3][4] = f32::NAN, "sample_weights[4] is NaN; it must be finite"),
    ];
    let spec = BinarySpec {
        element_weights: true,
        sample_weights: true,
        reduction: BinaryReduction::Sum,
        ..BinarySpec::default()
    };
    for gpu in gpus() {
        let plan =
            BinaryCrossEntropy::new(&gpu.device, &spec, Shape::new(9, 5), &BinaryOptions::default()).unwrap();
        let (device, queue) = (&gpu.device, &gpu.queue);
        let good: [Vec<f32>; 4] = [
            (0..45).map(|i| i as f32 / 9.0 - 2.0).collect(),
            (0..45).map(|i| (i % 2) as f32).collect(),
            (0..45).map(|i| 0.5 + (i % 3) as f32).collect(),
            (0..9).map(|i| 1.0 + (i % 4) as f32).collect(),
        ];
        fn inputs(of: &[Vec<f32>; 4]) -> BinaryInputs<'_> {
            BinaryInputs {
                logits: &of[0],
                targets: &of[1],
                element_weights: Some(&of[2]),
                sample_weights: Some(&of[3]),
                ..BinaryInputs::default()
            }
        }
        let unspoilt = plan.compute_checked_blocking(device, queue, &inputs(&good)).unwrap();
        for (name, spoil, message) in cases {
            let mut spoilt = good.clone();
            spoil(&mut spoilt);
            // A row's weight is that of five elements.
            let bad = if spoilt[3][4].is_nan() { 20..25 } else { 23..24 };
            let got = plan.compute_blocking(device, queue, &inputs(&spoilt)).unwrap();
            let name = format!("{}: {name}", gpu.describe());
            assert_eq!(
                (got.totals.nonfinite as usize, got.totals.first_bad),
                (bad.len(), Some(bad.start as u32)),
                "{name}"
            );
            for (at, (got, good)) in got.logit_grads.iter().zip(&unspoilt.logit_grads).enumerate() {
                assert!(
                    if bad.contains(&at) { got.is_nan() } else { got.to_bits() == good.to_bits() },
                    "{name}: {at}"
                );
            }
            let checked = plan.compute_checked_blocking(device, queue, &inputs(&spoilt));
            assert_eq!(checked.expect_err(&name).to_string(), message, "{name}");
            let validation = plan.validate_blocking(device, queue, &inputs(&spoilt)).unwrap();
            assert!(validation.passed(), "{name}\n{validation}");
        }
    }
}
