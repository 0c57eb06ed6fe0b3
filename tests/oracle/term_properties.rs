//! What must hold for any targets and any terms of the loss: soft and two-hot targets, smoothing, focal, z-loss, scale,
//! bias, expected cost, all at once. `properties` has the same for plain losses.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use wgpu_cross_entropy::{
    ClassWeights, CostMatrix, Denominator, Inputs, LogitBias, Output, Reduction, SampleWeights, Shape, Spec,
    Targets, WeightScope, cpu,
};

/// The relative error of one rounding.
const ROUNDING: f64 = f64::EPSILON / 2.0;

/// One batch, owned. Logits and biases are small multiples of 2^-12, which no shift by a whole number rounds.
#[derive(Clone, Debug)]
struct Batch {
    spec: Spec,
    shape: Shape,
    logits: Vec<f32>,
    labels: Vec<i32>,
    second_labels: Option<Vec<i32>>,
    mix: Option<Vec<f32>>,
    target_probs: Option<Vec<f32>>,
    sample_weights: Option<Vec<f32>>,
    grad_out: Vec<f32>,
}

impl Batch {
    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            logits: &self.logits,
            labels: &self.labels,
            second_labels: self.second_labels.as_deref(),
            mix: self.mix.as_deref(),
            target_probs: self.target_probs.as_deref(),
            sample_weights: self.sample_weights.as_deref(),
            grad_out: Some(&self.grad_out),
            external_denominator: None,
        }
    }

    fn compute(&self) -> Output<f64> {
        cpu::compute(&self.spec, &self.shape, &self.inputs()).unwrap()
    }

    fn row(&self, row: u32) -> std::ops::Range<usize> {
        let classes = self.shape.classes as usize;
        row as usize * classes..(row as usize + 1) * classes
    }

    fn values(&self) -> cpu::ClassValues {
        cpu::ClassValues::new(&self.spec, &[])
    }

    /// `u` of a row by the formula of [`Spec`], and its class; none where the row does not count.
    fn weighted_targets(&self, row: u32) -> Option<(u32, Vec<f64>)> {
        let cpu::Target::Counts { class, terms } =
            cpu::Target::read(&self.spec, &self.shape, &self.inputs(), row)
        else {
            return None;
        };
        let (e, values) = (f64::from(self.spec.label_smoothing), self.values());
        let mut u = vec![e / f64::from(self.shape.classes); self.shape.classes as usize];
        terms.iter().for_each(|(class, t)| u[*class as usize] += (1.0 - e) * t);
        if self.spec.weight_scope == WeightScope::PerTerm {
            (0..).zip(&mut u).for_each(|(class, u)| *u *= values.weight(class));
        }
        Some((class, u))
    }

    /// `grad_out * factor * logit_scale / D` and `lse` of each row.
    fn scales(&self, output: &Output<f64>) -> Vec<(f64, f64)> {
        let mut totals = output.totals;
        let (_, stats) =
            cpu::cross_entropy_forward(&self.spec, &self.shape, &self.inputs(), &self.values(), &mut totals);
        let d = output.totals.denominator;
        let by = f64::from(self.spec.logit_scale) * if d == 0.0 { 0.0 } else { 1.0 / d };
        let rows = stats.iter().zip(&self.grad_out);
        rows.map(|(stats, grad_out)| (f64::from(*grad_out) * stats.factor * by, stats.lse)).collect()
    }

    /// The size of what is added up for a row's gradients, times a count of roundings. A focal slope is at most
    /// `u (gamma + 1)`, and each gradient has it twice at most; `lse` is a sum of numbers of the size of the logits.
    fn grad_bound(&self, row: u32, scale: f64) -> f64 {
        let Some((_, u)) = self.weighted_targets(row) else { return 0.0 };
        let spec = &self.spec;
        let largest_cost = spec
            .cost_matrix
            .as_ref()
            .map_or(0.0, |matrix| matrix.values().iter().copied().fold(0.0, f32::max));
        let focal = 2.0 * u.iter().sum::<f64>() * (f64::from(spec.focal_gamma) + 1.0);
        let z = 4.0 * f64::from(spec.z_loss) * self.largest(row);
        let cost = 2.0 * f64::from(spec.cost_lambda) * f64::from(largest_cost);
        self.roundings() * ROUNDING * scale.abs() * (focal + z + cost)
    }

    /// The same for a row's loss: terms of one sign, but for what `lse^2` is made of.
    fn loss_bound(&self, row: u32, loss: f64, scale: f64) -> f64 {
        let z = 4.0 * f64::from(self.spec.z_loss) * self.largest(row).powi(2);
        self.roundings() * ROUNDING * (loss.abs() + scale.abs() * z)
    }

    /// The largest `|z|` of a row, and room for the logarithm of a sum.
    fn largest(&self, row: u32) -> f64 {
        let bias = match &self.spec.logit_bias {
            LogitBias::Given(bias) => bias.iter().copied().fold(0.0, |most: f32, b| most.max(b.abs())),
            _ => 0.0,
        };
        let x = self.logits[self.row(row)].iter().copied().fold(0.0, |most: f32, x| most.max(x.abs()));
        f64::from(self.spec.logit_scale) * f64::from(x) + f64::from(bias) + 4.0
    }

    /// A sum over the classes under a logarithm or a quotient, another one over the terms, powers up to the third, and
    /// the factors.
    fn roundings(&self) -> f64 {
        8.0 * (f64::from(self.shape.classes) + 10.0)
    }

    /// The rows from `start` to `end`.
    fn part(&self, start: usize, end: usize) -> Self {
        let n = self.shape.classes as usize;
        let floats = |values: &Option<Vec<f32>>, each: usize| {
            values.as_ref().map(|values| values[start * each..end * each].to_vec())
        };
        let some = |labels: &Vec<i32>| if labels.is_empty() { vec![] } else { labels[start..end].to_vec() };
        Self {
            spec: self.spec.clone(),
            shape: Shape::new((end - start) as u32, self.shape.classes),
            logits: self.logits[start * n..end * n].to_vec(),
            labels: some(&self.labels),
            second_labels: self.second_labels.as_ref().map(some),
            mix: floats(&self.mix, 1),
            target_probs: floats(&self.target_probs, n),
            sample_weights: floats(&self.sample_weights, 1),
            grad_out: self.grad_out[start..end].to_vec(),
        }
    }

    /// The rows in this order.
    fn reordered(&self, order: &[u32]) -> Self {
        let rows: Vec<Self> = order.iter().map(|&row| self.part(row as usize, row as usize + 1)).collect();
        let joined = |of: &dyn Fn(&Self) -> Option<Vec<f32>>| {
            of(self).map(|_| rows.iter().flat_map(|row| of(row).unwrap_or_default()).collect())
        };
        Self {
            logits: rows.iter().flat_map(|row| row.logits.clone()).collect(),
            labels: rows.iter().flat_map(|row| row.labels.clone()).collect(),
            second_labels: self
                .second_labels
                .as_ref()
                .map(|_| rows.iter().flat_map(|row| row.second_labels.clone().unwrap_or_default()).collect()),
            mix: joined(&|batch| batch.mix.clone()),
            target_probs: joined(&|batch| batch.target_probs.clone()),
            sample_weights: joined(&|batch| batch.sample_weights.clone()),
            grad_out: rows.iter().flat_map(|row| row.grad_out.clone()).collect(),
            ..self.clone()
        }
    }
}

/// Small multiples of a quarter: sums and products of a few of them are exact.
fn quarters(n: usize) -> impl Strategy<Value = Vec<f32>> {
    vec((0u8..16).prop_map(|quarters| f32::from(quarters) / 4.0), n)
}

/// Any terms with any targets.
fn specs(classes: u32) -> impl Strategy<Value = Spec> {
    let n = classes as usize;
    let targets = select(vec![Targets::Labels, Targets::TwoHot, Targets::Soft]);
    let terms = (
        select(vec![0.0, 0.125, 0.5, 1.0]),
        select(vec![0.0, 0.5, 1.0, 2.5]),
        select(vec![0.0, 0.25]),
        select(vec![0.5, 1.0, 2.0]),
        option::of(quarters(n)),
        select(vec![0.0, 0.5]),
    );
    let weights = (
        option::of(quarters(n)),
        select(vec![WeightScope::PerTerm, WeightScope::PerRow]),
        select(vec![SampleWeights::None, SampleWeights::PerRow]),
        option::of(quarters(n * n)),
    );
    let reductions = select(vec![
        Reduction::Sum,
        Reduction::Mean(Denominator::WeightSum),
        Reduction::Mean(Denominator::ValidRows),
        Reduction::Mean(Denominator::SampleWeightSum),
        Reduction::Mean(Denominator::NonZeroWeights),
        Reduction::Mean(Denominator::Rows),
    ]);
    (targets, terms, weights, reductions).prop_map(move |(targets, terms, weights, reduction)| {
        let (label_smoothing, focal_gamma, z_loss, logit_scale, bias, cost_lambda) = terms;
        let (class_weights, weight_scope, sample_weights, costs) = weights;
        Spec {
            targets,
            label_smoothing,
            ignore_index: (targets != Targets::Soft).then_some(-1),
            class_weights: class_weights.map_or(ClassWeights::None, ClassWeights::Given),
            weight_scope,
            sample_weights,
            cost_lambda: if costs.is_some() { cost_lambda } else { 0.0 },
            cost_matrix: costs.map(|costs| CostMatrix::from_true_predicted(classes, costs).unwrap()),
            focal_gamma,
            z_loss,
            logit_scale,
            logit_bias: bias.map_or(LogitBias::None, LogitBias::Given),
            reduction,
            ..Spec::default()
        }
    })
}

fn batches() -> impl Strategy<Value = Batch> {
    (0u32..5, 1u32..7).prop_flat_map(|(rows, classes)| {
        let (n, elements) = (rows as usize, (rows * classes) as usize);
        // Mostly classes; some ignored, some out of range.
        let label = || prop_oneof![6 => 0..classes as i32, 1 => Just(-1), 1 => Just(classes as i32)];
        let inputs = (
            vec(-2048i16..=2048, elements),
            vec(label(), n),
            vec(label(), n),
            vec((0u8..=16).prop_map(|x| f32::from(x) / 16.0), n),
            vec(prop_oneof![1 => Just(0u8), 2 => 1u8..16], elements),
            quarters(n),
            vec((-16i8..=16).prop_map(|x| f32::from(x) / 8.0), n),
        );
        (specs(classes), inputs).prop_map(move |(spec, inputs)| {
            let (grid, labels, second, mix, probs, weights, grad_out) = inputs;
            // A multiple of 2^-12 for each class below multiples of 2^-8: no ties for the prediction, nor for the class
            // that stands for a row of soft targets.
            let class = |i: usize| (i % classes as usize) as f32 / 4096.0;
            let logits = grid.iter().enumerate().map(|(i, x)| f32::from(*x) / 256.0 + class(i)).collect();
            let target = |(i, x): (usize, &u8)| if *x == 0 { 0.0 } else { f32::from(*x) / 16.0 + class(i) };
            let mut target_probs: Vec<f32> = probs.iter().enumerate().map(target).collect();
            // One of each row is above 0.
            target_probs
                .chunks_mut(classes as usize)
                .filter(|row| row.iter().all(|t| *t == 0.0))
                .for_each(|row| row[0] = 1.0);
            let (soft, two) = (spec.targets == Targets::Soft, spec.targets == Targets::TwoHot);
            Batch {
                shape: Shape::new(rows, classes),
                logits,
                labels: if soft { vec![] } else { labels },
                second_labels: two.then_some(second),
                mix: two.then_some(mix),
                target_probs: soft.then_some(target_probs),
                sample_weights: (spec.sample_weights == SampleWeights::PerRow).then_some(weights),
                grad_out,
                spec,
            }
        })
    })
}

fn with_orders() -> impl Strategy<Value = (Batch, Vec<u32>, Vec<u32>)> {
    batches().prop_flat_map(|batch| {
        let order = |n: u32| Just((0..n).collect::<Vec<u32>>()).prop_shuffle();
        let (rows, classes) = (order(batch.shape.rows), order(batch.shape.classes));
        (Just(batch), rows, classes)
    })
}

fn bits(values: &[f64]) -> Vec<u64> {
    // Both zeros are the same value.
    values.iter().map(|x| (x + 0.0).to_bits()).collect()
}

/// All outputs but the counts of live statistics, to the bit.
fn same(a: &Output<f64>, b: &Output<f64>) -> Result<(), TestCaseError> {
    prop_assert_eq!(bits(&a.row_losses), bits(&b.row_losses));
    prop_assert_eq!(bits(&a.logit_grads), bits(&b.logit_grads));
    prop_assert_eq!(a.totals, b.totals);
    prop_assert_eq!(&a.predictions, &b.predictions);
    prop_assert_eq!(&a.class_stats, &b.class_stats);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_hot_targets_are_labels(batch in batches()) {
        let rows = batch.shape.rows as usize;
        let class = |row: usize| (batch.grad_out[row].to_bits() >> 18) % batch.shape.classes;
        let labels: Vec<i32> = (0..rows).map(|row| class(row) as i32).collect();
        let mut probs = vec![0.0; batch.logits.len()];
        labels.iter().enumerate().for_each(|(row, &label)| probs[batch.row(row as u32)][label as usize] = 1.0);
        let spec = |targets| Spec { targets, ignore_index: None, ..batch.spec.clone() };
        let plain = Batch { second_labels: None, mix: None, target_probs: None, ..batch.clone() };
        let hard = Batch { spec: spec(Targets::Labels), labels: labels.clone(), ..plain.clone() };
        let soft =
            Batch { spec: spec(Targets::Soft), labels: vec![], target_probs: Some(probs), ..plain.clone() };
        let two_hot = Batch {
            spec: spec(Targets::TwoHot),
            labels: labels.clone(),
            second_labels: Some(labels),
            mix: Some(vec![0.25; rows]),
            ..plain
        };
        same(&hard.compute(), &soft.compute())?;
        same(&hard.compute(), &two_hot.compute())?;
    }

    #[test]
    fn two_hot_targets_are_mixed_soft_ones(batch in batches()) {
        let (rows, n) = (batch.shape.rows as usize, batch.shape.classes as usize);
        let class = |row: usize, by: u32| ((batch.grad_out[row].to_bits() >> 18) * by + by) as usize % n;
        let mix: Vec<f32> = (0..rows).map(|row| (batch.grad_out[row] + 2.0) / 4.0).collect();
        let mut probs = vec![0.0; batch.logits.len()];
        for row in 0..rows {
            probs[row * n + class(row, 1)] += mix[row];
            probs[row * n + class(row, 3)] += 1.0 - mix[row];
        }
        let labels = |by| (0..rows).map(|row| class(row, by) as i32).collect::<Vec<i32>>();
        let spec = |targets| Spec { targets, ignore_index: None, ..batch.spec.clone() };
        let two_hot = Batch {
            spec: spec(Targets::TwoHot),
            labels: labels(1),
            second_labels: Some(labels(3)),
            mix: Some(mix),
            target_probs: None,
            ..batch.clone()
        };
        let soft = Batch {
            spec: spec(Targets::Soft),
            labels: vec![],
            second_labels: None,
            mix: None,
            target_probs: Some(probs),
            ..batch.clone()
        };
        same(&two_hot.compute(), &soft.compute())?;
    }

    /// Exact in `f64`, so not a bit changes: all but the z-loss depend on differences alone.
    #[test]
    fn a_constant_on_all_logits_changes_nothing(batch in batches(), shift in -64i8..=64) {
        let batch = Batch { spec: Spec { z_loss: 0.0, ..batch.spec.clone() }, ..batch };
        let logits = batch.logits.iter().map(|x| x + f32::from(shift)).collect();
        same(&batch.compute(), &Batch { logits, ..batch.clone() }.compute())?;
    }

    /// Probabilities sum to 1, whatever the logits: every term but the z-loss has slopes that sum to 0, and the slope of
    /// `z_loss lse^2` is `2 z_loss lse p`.
    #[test]
    fn gradients_of_a_row_sum_to_the_z_loss_slope(batch in batches()) {
        let output = batch.compute();
        for (row, (scale, lse)) in (0..).zip(batch.scales(&output)) {
            let sum: f64 = output.logit_grads[batch.row(row)].iter().sum();
            let want = scale * 2.0 * f64::from(batch.spec.z_loss) * lse;
            let bound = batch.grad_bound(row, scale) * f64::from(batch.shape.classes);
            prop_assert!((sum - want).abs() <= bound, "row {row}: {sum:e}, not {want:e}; bound {bound:e}");
        }
    }

    #[test]
    fn the_order_of_the_classes_does_not_matter((batch, _, order) in with_orders()) {
        let n = batch.shape.classes as usize;
        let moved = |values: &[f32]| {
            let mut moved = values.to_vec();
            (0..values.len()).for_each(|i| moved[i / n * n + order[i % n] as usize] = values[i]);
            moved
        };
        let label = |label: &i32| {
            usize::try_from(*label).ok().and_then(|label| order.get(label)).map_or(*label, |class| *class as i32)
        };
        let spec = &batch.spec;
        let other = Batch {
            spec: Spec {
                class_weights: match &spec.class_weights {
                    ClassWeights::Given(weights) => ClassWeights::Given(moved(weights)),
                    other => other.clone(),
                },
                logit_bias: match &spec.logit_bias {
                    LogitBias::Given(bias) => LogitBias::Given(moved(bias)),
                    other => other.clone(),
                },
                cost_matrix: spec.cost_matrix.as_ref().map(|matrix| {
                    let columns = moved(matrix.values());
                    let mut rows = columns.clone();
                    (0..n).for_each(|t| {
                        rows[order[t] as usize * n..][..n].copy_from_slice(&columns[t * n..][..n]);
                    });
                    CostMatrix::from_true_predicted(n as u32, rows).unwrap()
                }),
                ..spec.clone()
            },
            logits: moved(&batch.logits),
            labels: batch.labels.iter().map(label).collect(),
            second_labels: batch.second_labels.as_ref().map(|labels| labels.iter().map(label).collect()),
            target_probs: batch.target_probs.as_deref().map(moved),
            ..batch.clone()
        };
        // Of two labels of equal share the lower one stands for the row: the order decides which.
        let tie = |row: usize| {
            batch.mix.as_ref().is_some_and(|mix| mix[row] == 0.5)
                && batch.second_labels.as_ref().is_some_and(|second| second[row] != batch.labels[row])
        };
        let (a, b) = (batch.compute(), other.compute());
        let ties = (0..batch.shape.rows as usize).any(tie);
        if !ties {
            prop_assert_eq!(a.totals.correct_rows, b.totals.correct_rows);
            // Sums of exact products; soft targets' are rounded.
            let apart = (a.totals.denominator - b.totals.denominator).abs();
            prop_assert!(apart <= batch.roundings() * ROUNDING * a.totals.denominator.abs());
        }
        if ties || a.totals.denominator == 0.0 {
            return Ok(());
        }
        for (row, (scale, _)) in (0..).zip(batch.scales(&a)) {
            let (i, factor) = (row as usize, scale * a.totals.denominator);
            let (loss, other_loss) = (a.row_losses[i], b.row_losses[i]);
            let factor = if batch.grad_out[i] == 0.0 { 1e3 } else { factor / f64::from(batch.grad_out[i]) };
            let bound = batch.loss_bound(row, loss, factor);
            prop_assert!((loss - other_loss).abs() <= bound, "row {row}: {loss:e}, {other_loss:e}, {bound:e}");
            let bound = batch.grad_bound(row, scale);
            for (class, &to) in order.iter().enumerate() {
                let (x, y) =
                    (a.logit_grads[i * n + class], b.logit_grads[i * n + to as usize]);
                prop_assert!((x - y).abs() <= bound, "row {row} class {class}: {x:e}, {y:e}, {bound:e}");
            }
        }
    }

    #[test]
    fn the_order_of_the_rows_does_not_matter((batch, order, _) in with_orders()) {
        let batch = Batch { spec: Spec { reduction: Reduction::Sum, ..batch.spec.clone() }, ..batch };
        let (a, b) = (batch.compute(), batch.reordered(&order).compute());
        for (row, &from) in order.iter().enumerate() {
            prop_assert_eq!(bits(&b.row_losses[row..=row]), bits(&a.row_losses[from as usize..=from as usize]));
            let (to, from) = (batch.row(row as u32), batch.row(from));
            prop_assert_eq!(bits(&b.logit_grads[to]), bits(&a.logit_grads[from]));
        }
        prop_assert_eq!(a.totals.correct_rows, b.totals.correct_rows);
        prop_assert_eq!(a.class_stats.map(|stats| stats.rows), b.class_stats.map(|stats| stats.rows));
    }

    /// Cut anywhere, each part gives its rows of the whole, and what its classes have adds up.
    #[test]
    fn two_parts_are_the_whole((batch, cut) in batches().prop_flat_map(|batch| {
        let rows = batch.shape.rows;
        (Just(batch), 0..=rows)
    })) {
        let batch = Batch { spec: Spec { reduction: Reduction::Sum, ..batch.spec.clone() }, ..batch };
        let (rows, cut) = (batch.shape.rows as usize, cut as usize);
        let (whole, first, second) =
            (batch.compute(), batch.part(0, cut).compute(), batch.part(cut, rows).compute());
        prop_assert_eq!(bits(&whole.row_losses), bits(&[first.row_losses, second.row_losses].concat()));
        prop_assert_eq!(bits(&whole.logit_grads), bits(&[first.logit_grads, second.logit_grads].concat()));
        let (mut stats, want) = (first.class_stats.unwrap(), whole.class_stats.unwrap());
        stats.merge(&second.class_stats.unwrap()).unwrap();
        prop_assert_eq!((&stats.rows, &stats.correct), (&want.rows, &want.correct));
        // Products of quarters.
        prop_assert_eq!((bits(&stats.weight), bits(&stats.correct_weight)),
            (bits(&want.weight), bits(&want.correct_weight)));
    }

    /// A gather by a matrix of ones is no gather, and the expected cost of ones is 1 for every row, with no slope.
    #[test]
    fn costs_of_ones(batch in batches()) {
        let n = batch.shape.classes;
        let ones = CostMatrix::from_true_predicted(n, vec![1.0; (n * n) as usize]).unwrap();
        let with = |cost_matrix, cost_lambda| {
            let spec = Spec { cost_matrix, cost_lambda, ..batch.spec.clone() };
            Batch { spec, ..batch.clone() }
        };
        let (none, gathered) = (with(None, 0.0), with(Some(ones.clone()), 0.0));
        same(&none.compute(), &gathered.compute())?;
        let expected = with(Some(ones), 0.5);
        let (a, b) = (none.compute(), expected.compute());
        for (row, (scale, _)) in (0..).zip(none.scales(&a)) {
            let i = row as usize;
            let bound = expected.grad_bound(row, scale);
            for at in batch.row(row) {
                let (x, y) = (a.logit_grads[at], b.logit_grads[at]);
                prop_assert!((x - y).abs() <= bound, "row {row}: {x:e} and {y:e}, bound {bound:e}");
            }
            let (cpu::Target::Counts { class, .. }, spec) =
                (cpu::Target::read(&none.spec, &none.shape, &none.inputs(), row), &none.spec)
            else {
                continue;
            };
            let weight =
                if spec.weight_scope == WeightScope::PerRow { none.values().weight(class) } else { 1.0 };
            let factor = weight * none.sample_weights.as_ref().map_or(1.0, |weights| f64::from(weights[i]));
            let bound = expected.loss_bound(row, b.row_losses[i], factor);
            let apart = b.row_losses[i] - a.row_losses[i] - 0.5 * factor;
            prop_assert!(apart.abs() <= bound, "row {row}: {apart:e} apart, bound {bound:e}");
        }
    }

    /// As gamma goes to 0 the focal loss goes to the plain one, and no faster than its derivative allows:
    /// `1 - q^gamma <= gamma |log q|`.
    #[test]
    fn focal_near_0_is_near_plain(batch in batches()) {
        let with = |focal_gamma| Batch { spec: Spec { focal_gamma, ..batch.spec.clone() }, ..batch.clone() };
        let gamma = 2f32.powi(-20);
        let (plain, focal) = (with(0.0).compute(), with(gamma).compute());
        for (row, (scale, _)) in (0..).zip(batch.scales(&plain)) {
            let Some((_, u)) = batch.weighted_targets(row) else { continue };
            let z = |class: usize| {
                let bias = batch.values().logit_bias.map_or(0.0, |bias| bias[class]);
                f64::from(batch.spec.logit_scale) * f64::from(batch.logits[batch.row(row)][class]) + bias
            };
            let n = batch.shape.classes as usize;
            let top = (0..n).map(z).fold(f64::NEG_INFINITY, f64::max);
            let highest = (0..n).find(|class| z(*class) == top);
            let rest: f64 =
                (0..n).filter(|class| Some(*class) != highest).map(|class| (z(class) - top).exp()).sum();
            let sum = 1.0 + rest;
            let slope: f64 = (0..n)
                .filter(|class| u[*class] != 0.0 && n > 1)
                .map(|class| {
                    let others: f64 =
                        (0..n).filter(|other| *other != class).map(|other| (z(other) - top).exp()).sum();
                    // The difference first: of a class with nearly all of the probability nothing else is left.
                    u[class] * (others / sum).ln().abs() * ((top - z(class)) + rest.ln_1p())
                })
                .sum();
            // The factor is taken from the slope, which is 0 where the denominator is.
            let factor = if batch.grad_out[row as usize] == 0.0 || plain.totals.denominator == 0.0 {
                continue;
            } else {
                scale * plain.totals.denominator
                    / f64::from(batch.grad_out[row as usize])
                    / f64::from(batch.spec.logit_scale)
            };
            let (a, b) = (plain.row_losses[row as usize], focal.row_losses[row as usize]);
            let bound = f64::from(gamma) * factor.abs() * slope + batch.loss_bound(row, a, factor);
            prop_assert!((a - b).abs() <= bound, "row {row}: {a:e} and {b:e}, bound {bound:e}");
        }
    }
}
