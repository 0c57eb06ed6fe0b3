//! What must hold for any batch. Most of it holds bit for bit; where an order of summation differs, the
//! tolerance counts the roundings.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use wgpu_cross_entropy::{
    ClassWeights, CostMatrix, Denominator, Inputs, Output, Reduction, SampleWeights, Shape, Spec,
    WeightScheme, cpu,
};

/// The relative error of one rounding.
const ROUNDING: f64 = f64::EPSILON / 2.0;

/// One batch, owned. Logits are within plus and minus 16, all of a row different.
#[derive(Clone, Debug)]
struct Batch {
    spec: Spec,
    shape: Shape,
    logits: Vec<f32>,
    labels: Vec<i32>,
    sample_weights: Option<Vec<f32>>,
    grad_out: Option<Vec<f32>>,
    external: Option<f32>,
}

impl Batch {
    fn compute(&self) -> Output<f64> {
        let inputs = Inputs {
            logits: &self.logits,
            labels: &self.labels,
            sample_weights: self.sample_weights.as_deref(),
            grad_out: self.grad_out.as_deref(),
            external_denominator: self.external,
            ..Inputs::default()
        };
        cpu::compute(&self.spec, &self.shape, &inputs).unwrap()
    }

    fn row(&self, row: u32) -> impl Iterator<Item = usize> + use<> {
        let shape = self.shape;
        (0..shape.classes).map(move |class| shape.index(row, class) as usize)
    }

    fn is_ignored(&self, row: u32) -> bool {
        self.spec.ignore_index == Some(self.labels[row as usize])
    }

    /// The same weights, one a row.
    fn expanded(&self) -> Self {
        let weight = |weights: &Vec<f32>, row: u32| match self.spec.sample_weights {
            SampleWeights::PerSample => weights[(row / self.shape.steps) as usize],
            SampleWeights::PerStep => weights[(row % self.shape.steps) as usize],
            SampleWeights::PerRow | SampleWeights::None => weights[row as usize],
        };
        let each = |weights| (0..self.shape.rows).map(|row| weight(weights, row)).collect();
        let sample_weights: Option<Vec<f32>> = self.sample_weights.as_ref().map(each);
        let mode = if sample_weights.is_some() { SampleWeights::PerRow } else { SampleWeights::None };
        Self { spec: Spec { sample_weights: mode, ..self.spec.clone() }, sample_weights, ..self.clone() }
    }
}

/// Weights that sum exactly: small multiples of a quarter.
fn weights(n: u32) -> impl Strategy<Value = Vec<f32>> {
    vec((0u8..16).prop_map(|quarters| f32::from(quarters) / 4.0), n as usize)
}

fn reductions() -> impl Strategy<Value = Reduction> {
    select(vec![
        Reduction::None,
        Reduction::Sum,
        Reduction::Mean(Denominator::WeightSum),
        Reduction::Mean(Denominator::ValidRows),
        Reduction::Mean(Denominator::SampleWeightSum),
        Reduction::Mean(Denominator::NonZeroWeights),
        Reduction::Mean(Denominator::Rows),
        Reduction::Mean(Denominator::External),
    ])
}

fn class_weights(classes: u32) -> impl Strategy<Value = ClassWeights> {
    prop_oneof![
        Just(ClassWeights::None),
        weights(classes).prop_map(ClassWeights::Given),
        Just(WeightScheme::Balanced.into()),
        Just(WeightScheme::Inverse.into()),
    ]
}

fn specs(classes: u32) -> impl Strategy<Value = Spec> {
    let ignore = option::of(select(vec![-100, -1, 0, 255]));
    let sample_weights = select(vec![
        SampleWeights::None,
        SampleWeights::PerRow,
        SampleWeights::PerSample,
        SampleWeights::PerStep,
    ]);
    let costs = option::of(weights(classes * classes));
    (ignore, class_weights(classes), sample_weights, costs, reductions()).prop_map(
        move |(ignore_index, class_weights, sample_weights, costs, reduction)| {
            let matrix = |costs| CostMatrix::from_true_predicted(classes, costs).unwrap();
            let cost_matrix = costs.map(matrix);
            Spec { ignore_index, class_weights, sample_weights, cost_matrix, reduction, ..Spec::default() }
        },
    )
}

/// Class-last with padding or class-first, read as samples of some steps.
fn shapes() -> impl Strategy<Value = Shape> {
    let class_last = (0u32..5, 1u32..4, 1u32..8, 0u32..3).prop_map(|(samples, steps, classes, padding)| {
        Shape::temporal(samples, steps, classes).with_row_stride(classes + padding)
    });
    let class_first = (1u32..4, 1u32..4, 1u32..8)
        .prop_map(|(outer, steps, classes)| Shape::class_first(outer, classes, steps).with_steps(steps));
    prop_oneof![class_last, class_first]
}

fn batch_of(shape: Shape, spec: Spec) -> impl Strategy<Value = Batch> {
    let elements = shape.logits_len() as usize;
    // One label in eight is out of range, one in eight is the ignore index where there is one.
    let ignore = spec.ignore_index.unwrap_or(0);
    let label = prop_oneof![
        6 => 0..shape.classes as i32,
        1 => Just(ignore),
        1 => select(vec![-7, shape.classes as i32, i32::MAX]),
    ];
    let sample_weights = wgpu_cross_entropy::sample_weights_len(&spec, &shape);
    let external = spec.reduction == Reduction::Mean(Denominator::External);
    (
        vec(-4096i16..=4096, elements),
        vec(label, shape.rows as usize),
        weights(sample_weights.unwrap_or(0)),
        option::of(vec((-16i8..=16).prop_map(|x| f32::from(x) / 8.0), shape.rows as usize)),
        (0u8..16).prop_map(|x| f32::from(x) / 2.0),
    )
        .prop_map(move |(grid, labels, weights, grad_out, denominator)| {
            // Multiples of 2^-8 and, below them, a multiple of 2^-12 for each class: no ties for the
            // prediction.
            let mut logits: Vec<f32> = grid.into_iter().map(|x| f32::from(x) / 256.0).collect();
            for row in 0..shape.rows {
                for class in 0..shape.classes {
                    logits[shape.index(row, class) as usize] += class as f32 / 4096.0;
                }
            }
            Batch {
                spec: spec.clone(),
                shape,
                logits,
                labels,
                sample_weights: sample_weights.map(|_| weights),
                grad_out,
                external: external.then_some(denominator),
            }
        })
}

fn batches() -> impl Strategy<Value = Batch> {
    shapes().prop_flat_map(|shape| specs(shape.classes).prop_flat_map(move |spec| batch_of(shape, spec)))
}

fn bits(values: &[f64]) -> Vec<u64> {
    // Both zeros are the same value.
    values.iter().map(|x| (x + 0.0).to_bits()).collect()
}

fn same(a: &Output<f64>, b: &Output<f64>) -> Result<(), TestCaseError> {
    prop_assert_eq!(bits(&a.row_losses), bits(&b.row_losses));
    prop_assert_eq!(bits(&a.logit_grads), bits(&b.logit_grads));
    prop_assert_eq!(a.totals, b.totals);
    prop_assert_eq!(&a.class_counts, &b.class_counts);
    prop_assert_eq!(&a.class_weights, &b.class_weights);
    Ok(())
}

/// Equal up to a number of roundings of the values themselves.
fn close(a: &[f64], b: &[f64], roundings: f64) -> Result<(), TestCaseError> {
    prop_assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        prop_assert!((a - b).abs() <= roundings * ROUNDING * a.abs().max(b.abs()), "{a:e} and {b:e}");
    }
    Ok(())
}

/// Roundings of a loss or of a gradient in another order of the classes: two sums, each under a logarithm
/// that shrinks no relative error or over one another, and the factors.
fn roundings(shape: &Shape) -> f64 {
    4.0 * (f64::from(shape.classes) + 10.0)
}

/// A permutation of `0..n`.
fn permutation(n: u32) -> impl Strategy<Value = Vec<u32>> {
    Just((0..n).collect::<Vec<u32>>()).prop_shuffle()
}

fn with_permutations() -> impl Strategy<Value = (Batch, Vec<u32>, Vec<u32>)> {
    batches().prop_flat_map(|batch| {
        let (rows, classes) = (permutation(batch.shape.rows), permutation(batch.shape.classes));
        (Just(batch), rows, classes)
    })
}

/// Two micro-batches of a class-last batch with weights that do not depend on the batch.
fn two_micro_batches() -> impl Strategy<Value = (Batch, u32)> {
    (1u32..8, 1u32..6).prop_flat_map(|(rows, classes)| {
        let spec = specs(classes).prop_map(|spec| {
            let class_weights = match spec.class_weights {
                ClassWeights::Live(_) => ClassWeights::None,
                fixed => fixed,
            };
            let sample_weights = match spec.sample_weights {
                SampleWeights::None => SampleWeights::None,
                _ => SampleWeights::PerRow,
            };
            let reduction = Reduction::Mean(Denominator::WeightSum);
            Spec { class_weights, sample_weights, reduction, ..spec }
        });
        let batch = spec.prop_flat_map(move |spec| batch_of(Shape::new(rows, classes), spec));
        (batch, 0..=rows)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// The shift is exact in `f32`, and losses and probabilities depend on differences alone.
    #[test]
    fn a_constant_on_all_logits_changes_nothing(batch in batches(), shift in -64i8..=64) {
        let mut shifted = batch.clone();
        shifted.logits.iter_mut().for_each(|x| *x += f32::from(shift));
        same(&batch.compute(), &shifted.compute())?;
    }

    #[test]
    fn gradients_of_a_row_sum_to_zero(batch in batches()) {
        let output = batch.compute();
        for row in 0..batch.shape.rows {
            let grads = || batch.row(row).map(|index| output.logit_grads[index]);
            let bound = roundings(&batch.shape) * ROUNDING * grads().map(f64::abs).sum::<f64>();
            prop_assert!(grads().sum::<f64>().abs() <= bound, "row {row}: {:?}", grads().collect::<Vec<_>>());
        }
    }

    #[test]
    fn losses_are_never_negative(batch in batches()) {
        let output = batch.compute();
        prop_assert!(output.row_losses.iter().all(|loss| *loss >= 0.0), "{:?}", output.row_losses);
        prop_assert!(output.totals.loss >= 0.0);
    }

    #[test]
    fn the_order_of_the_classes_does_not_matter((batch, _, order) in with_permutations()) {
        // The ignore index may be a class; here it is a number that no order touches.
        let mut batch = batch;
        batch.spec.ignore_index = batch.spec.ignore_index.filter(|index| *index < 0);
        let classes = batch.shape.classes;
        let mut other = batch.clone();
        for row in 0..batch.shape.rows {
            for class in 0..classes {
                let (from, to) =
                    (batch.shape.index(row, class), batch.shape.index(row, order[class as usize]));
                other.logits[to as usize] = batch.logits[from as usize];
            }
        }
        for label in &mut other.labels {
            if let Some(class) = usize::try_from(*label).ok().and_then(|label| order.get(label)) {
                *label = *class as i32;
            }
        }
        if let ClassWeights::Given(weights) = &batch.spec.class_weights {
            let mut moved = weights.clone();
            (0..classes as usize).for_each(|class| moved[order[class] as usize] = weights[class]);
            other.spec.class_weights = ClassWeights::Given(moved);
        }
        if let Some(matrix) = &batch.spec.cost_matrix {
            let mut moved = matrix.values().to_vec();
            for true_class in 0..classes {
                for predicted in 0..classes {
                    let to = order[true_class as usize] * classes + order[predicted as usize];
                    moved[to as usize] = matrix.cost(true_class, predicted);
                }
            }
            other.spec.cost_matrix = Some(CostMatrix::from_true_predicted(classes, moved).unwrap());
        }
        let (a, b) = (batch.compute(), other.compute());
        let mut moved_back = vec![0.0; b.logit_grads.len()];
        for row in 0..batch.shape.rows {
            for class in 0..classes {
                let (from, to) =
                    (batch.shape.index(row, order[class as usize]), batch.shape.index(row, class));
                moved_back[to as usize] = b.logit_grads[from as usize];
            }
        }
        let roundings = roundings(&batch.shape);
        close(&a.row_losses, &b.row_losses, roundings)?;
        close(&a.logit_grads, &moved_back, roundings)?;
        prop_assert_eq!(a.totals.denominator, b.totals.denominator);
        prop_assert_eq!(a.totals.correct_rows, b.totals.correct_rows);
        prop_assert_eq!(a.totals.first_bad_row, b.totals.first_bad_row);
    }

    #[test]
    fn the_order_of_the_rows_does_not_matter((batch, order, _) in with_permutations()) {
        let batch = batch.expanded();
        let mut other = batch.clone();
        for row in 0..batch.shape.rows {
            let from = order[row as usize];
            other.labels[row as usize] = batch.labels[from as usize];
            for (to, from) in batch.row(row).zip(batch.row(from)) {
                other.logits[to] = batch.logits[from];
            }
            let swap = |to: &mut Option<Vec<f32>>, source: &Option<Vec<f32>>| {
                if let (Some(to), Some(source)) = (to, source) {
                    to[row as usize] = source[from as usize];
                }
            };
            swap(&mut other.sample_weights, &batch.sample_weights);
            swap(&mut other.grad_out, &batch.grad_out);
        }
        let (a, b) = (batch.compute(), other.compute());
        // Sums over the rows run in another order; the live weights do not see it.
        let roundings = 2.0 * (f64::from(batch.shape.rows) + 2.0);
        for row in 0..batch.shape.rows {
            let from = order[row as usize];
            prop_assert_eq!(b.row_losses[row as usize], a.row_losses[from as usize]);
            let grads = |output: &Output<f64>, row| -> Vec<f64> {
                batch.row(row).map(|index| output.logit_grads[index]).collect()
            };
            close(&grads(&b, row), &grads(&a, from), roundings)?;
        }
        let sums = |output: &Output<f64>| [output.totals.loss, output.totals.denominator];
        close(&sums(&a), &sums(&b), 2.0 * roundings)?;
        prop_assert_eq!(a.class_counts, b.class_counts);
        prop_assert_eq!(a.class_weights, b.class_weights);
        prop_assert_eq!(a.totals.nonzero_rows, b.totals.nonzero_rows);
    }

    #[test]
    fn a_cost_matrix_of_ones_is_none(batch in batches()) {
        let classes = batch.shape.classes;
        let ones = CostMatrix::from_true_predicted(classes, vec![1.0; (classes * classes) as usize]).unwrap();
        let with = |cost_matrix| Batch { spec: Spec { cost_matrix, ..batch.spec.clone() }, ..batch.clone() };
        same(&with(Some(ones)).compute(), &with(None).compute())?;
    }

    #[test]
    fn class_weights_of_ones_are_none(batch in batches()) {
        let ones = ClassWeights::Given(vec![1.0; batch.shape.classes as usize]);
        let with = |class_weights| {
            Batch { spec: Spec { class_weights, ..batch.spec.clone() }, ..batch.clone() }
        };
        let given = Output { class_weights: None, ..with(ones).compute() };
        same(&given, &with(ClassWeights::None).compute())?;
    }

    /// So that the weighted mean and the plain mean have the same denominator.
    #[test]
    fn balanced_weights_sum_to_the_valid_rows(mut batch in batches()) {
        batch.spec.class_weights = WeightScheme::Balanced.into();
        batch.spec.sample_weights = SampleWeights::None;
        batch.sample_weights = None;
        let totals = batch.compute().totals;
        // Each weight is rounded twice, and there are as many additions as rows.
        close(&[totals.weight_sum], &[f64::from(totals.valid_rows)], f64::from(batch.shape.rows) + 2.0)?;
    }

    /// Weights by inverse counts sum to the number of classes that the batch has.
    #[test]
    fn inverse_weights_sum_to_the_classes_present(mut batch in batches()) {
        batch.spec.class_weights = WeightScheme::Inverse.into();
        batch.spec.sample_weights = SampleWeights::None;
        batch.sample_weights = None;
        let output = batch.compute();
        let present = output.class_counts.unwrap().iter().filter(|count| **count > 0).count() as f64;
        close(&[output.totals.weight_sum], &[present], f64::from(batch.shape.rows) + 2.0)?;
    }

    /// Gradient accumulation: the whole batch's denominator, handed to each part.
    #[test]
    fn two_micro_batches_with_an_external_denominator_are_one_batch((batch, cut) in two_micro_batches()) {
        let whole = batch.compute();
        // Exact in `f32`: a sum of products of quarters.
        let denominator = whole.totals.denominator as f32;
        prop_assert_eq!(f64::from(denominator), whole.totals.denominator);
        let (rows, classes) = (batch.shape.rows as usize, batch.shape.classes as usize);
        let part = |start: usize, end: usize| {
            let of_rows =
                |values: &Option<Vec<f32>>| values.as_ref().map(|values| values[start..end].to_vec());
            Batch {
                spec: Spec { reduction: Reduction::Mean(Denominator::External), ..batch.spec.clone() },
                shape: Shape::new((end - start) as u32, batch.shape.classes),
                logits: batch.logits[start * classes..end * classes].to_vec(),
                labels: batch.labels[start..end].to_vec(),
                sample_weights: of_rows(&batch.sample_weights),
                grad_out: of_rows(&batch.grad_out),
                external: Some(denominator),
            }
            .compute()
        };
        let (first, second) = (part(0, cut as usize), part(cut as usize, rows));
        prop_assert_eq!(bits(&whole.row_losses), bits(&[first.row_losses, second.row_losses].concat()));
        prop_assert_eq!(bits(&whole.logit_grads), bits(&[first.logit_grads, second.logit_grads].concat()));
        let roundings = 2.0 * (rows as f64 + 2.0);
        close(&[whole.totals.loss], &[first.totals.loss + second.totals.loss], roundings)?;
        prop_assert_eq!(whole.totals.weight_sum, first.totals.weight_sum + second.totals.weight_sum);
        prop_assert_eq!(whole.totals.correct_rows, first.totals.correct_rows + second.totals.correct_rows);
    }

    /// Rows that do not count, and padding, may hold anything.
    #[test]
    fn logits_of_rows_that_do_not_count_are_never_read(
        batch in batches(),
        junk in select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1.0]),
    ) {
        let mut other = batch.clone();
        let mut read = vec![false; batch.logits.len()];
        for row in 0..batch.shape.rows {
            let out_of_range = !(0..batch.shape.classes as i32).contains(&batch.labels[row as usize]);
            if !batch.is_ignored(row) && !out_of_range {
                batch.row(row).for_each(|index| read[index] = true);
            }
        }
        for (logit, read) in other.logits.iter_mut().zip(&read) {
            if !read {
                *logit = junk;
            }
        }
        let (a, b) = (batch.compute(), other.compute());
        same(&a, &b)?;
        prop_assert!(b.logit_grads.iter().zip(read).all(|(grad, read)| read || *grad == 0.0));
    }

    /// NaN and +inf reach their own row and the loss, and no other row.
    #[test]
    fn a_row_that_is_not_finite_stays_alone(
        batch in batches(),
        bad in select(vec![f32::NAN, f32::INFINITY]),
        at in any::<proptest::sample::Index>(),
    ) {
        let counts = |row: &u32| {
            !batch.is_ignored(*row) && (0..batch.shape.classes as i32).contains(&batch.labels[*row as usize])
        };
        let valid: Vec<u32> = (0..batch.shape.rows).filter(counts).collect();
        if valid.is_empty() {
            return Ok(());
        }
        let row = *at.get(&valid);
        let indices: Vec<usize> = batch.row(row).collect();
        let mut other = batch.clone();
        other.logits[*at.get(&indices)] = bad;
        let (mut a, b) = (batch.compute(), other.compute());
        prop_assert!(b.totals.loss.is_nan() && b.totals.loss_sum.is_nan());
        prop_assert_eq!(b.totals.nonfinite_rows, 1);
        prop_assert!(b.totals.first_bad_row.is_some_and(|first| first <= row));
        prop_assert_eq!(a.totals.denominator, b.totals.denominator);
        indices.iter().for_each(|index| a.logit_grads[*index] = f64::NAN);
        a.row_losses[row as usize] = f64::NAN;
        let same_or_nan =
            |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| a == b || a.is_nan() && b.is_nan());
        prop_assert!(same_or_nan(&a.row_losses, &b.row_losses));
        prop_assert!(same_or_nan(&a.logit_grads, &b.logit_grads));
    }

    #[test]
    fn broadcast_sample_weights_equal_the_weights_row_by_row(batch in batches()) {
        same(&batch.compute(), &batch.expanded().compute())?;
    }

    /// The layout is a matter of addresses alone.
    #[test]
    fn every_layout_gives_the_same(batch in batches()) {
        let dense = Shape::new(batch.shape.rows, batch.shape.classes).with_steps(batch.shape.steps);
        let indices: Vec<usize> = (0..dense.rows).flat_map(|row| batch.row(row)).collect();
        let logits = indices.iter().map(|&index| batch.logits[index]).collect();
        let (a, b) = (batch.compute(), Batch { shape: dense, logits, ..batch.clone() }.compute());
        let grads: Vec<f64> = indices.iter().map(|&index| a.logit_grads[index]).collect();
        prop_assert_eq!(bits(&grads), bits(&b.logit_grads));
        prop_assert_eq!(bits(&a.row_losses), bits(&b.row_losses));
        prop_assert_eq!(a.totals, b.totals);
    }

    /// `grad_out` scales gradients and nothing else.
    #[test]
    fn grad_out_scales_the_gradients(batch in batches()) {
        let plain = Batch { grad_out: None, ..batch.clone() }.compute();
        let twice = Batch { grad_out: Some(vec![2.0; batch.shape.rows as usize]), ..batch.clone() }.compute();
        let doubled: Vec<f64> = plain.logit_grads.iter().map(|grad| 2.0 * grad).collect();
        prop_assert_eq!(bits(&doubled), bits(&twice.logit_grads));
        prop_assert_eq!(plain.totals, twice.totals);
    }
}
