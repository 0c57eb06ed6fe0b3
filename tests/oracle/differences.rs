//! The oracle's gradients against central differences of its losses, in `f64`.
//!
//! The objective is `sum_i grad_out_i * row_loss_i / D`; `D`, the weights and the costs are written down here
//! a second time, from their definitions. The logits lie on a grid of 2^-10 and the steps are 2^-6 and 2^-7,
//! so every perturbed logit is an exact `f32`.
//!
//! As a function of one logit, a row's loss is `softplus(x - c)` up to a linear term, times the row's
//! factors. So the truncation error of Richardson's extrapolation `(4 D(h/2) - D(h)) / 3` is known: at most
//! `h^4 / 288` times the largest fifth derivative between `x - h` and `x + h`. The fifth derivative of
//! softplus is `s (1-s) (1 - 14 s + 36 s^2 - 24 s^3)` with the logistic `s`; the cubic stays within plus and
//! minus 1, and `s (1-s)` grows by at most `e^h` over a distance of `h`. See [`tolerance`] for the rounding.

use wgpu_cross_entropy::{
    ClassWeights, CostMatrix, Denominator, Inputs, LOGIT_LIMIT, LiveWeights, Output, Reduction,
    SampleWeights, Shape, Spec, WeightScheme, cpu,
};

use crate::golden;

/// The wider one of the two steps.
const STEP: f32 = 1.0 / 64.0;

/// Half the distance from 1 to the next `f64`: the relative error of one rounding.
const ROUNDING: f64 = f64::EPSILON / 2.0;

const REDUCTIONS: [Reduction; 8] = [
    Reduction::None,
    Reduction::Sum,
    Reduction::Mean(Denominator::WeightSum),
    Reduction::Mean(Denominator::ValidRows),
    Reduction::Mean(Denominator::SampleWeightSum),
    Reduction::Mean(Denominator::NonZeroWeights),
    Reduction::Mean(Denominator::Rows),
    Reduction::Mean(Denominator::External),
];

const SAMPLE_WEIGHTS: [SampleWeights; 4] =
    [SampleWeights::None, SampleWeights::PerRow, SampleWeights::PerSample, SampleWeights::PerStep];

/// A reproducible stream of numbers.
struct Random {
    seed: u64,
    drawn: u64,
}

impl Random {
    fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.drawn += 1;
        golden::hash(self.seed, self.drawn) % n
    }

    /// A multiple of `spacing` from `low` to `high`.
    fn on_grid(&mut self, low: f32, high: f32, spacing: f32) -> f32 {
        low + self.below(((high - low) / spacing) as u64 + 1) as f32 * spacing
    }
}

/// One batch, owned.
#[derive(Clone, Debug)]
struct Problem {
    spec: Spec,
    shape: Shape,
    logits: Vec<f32>,
    labels: Vec<i32>,
    sample_weights: Option<Vec<f32>>,
    grad_out: Option<Vec<f32>>,
    external: Option<f32>,
}

impl Problem {
    /// Random logits of at most 4, labels of every kind, and random weights as the spec asks for them.
    /// Padding is NaN, for nothing may read it.
    fn random(random: &mut Random, spec: Spec, shape: Shape, with_grad_out: bool) -> Self {
        let mut logits = vec![f32::NAN; shape.logits_len() as usize];
        for row in 0..shape.rows {
            for class in 0..shape.classes {
                logits[shape.index(row, class) as usize] = random.on_grid(-4.0, 4.0, 1.0 / 1024.0);
            }
        }
        let classes = shape.classes as i32;
        let labels = (0..shape.rows)
            .map(|row| match row % 6 {
                // At least one row counts, so that a mean is not empty by chance.
                0 => 0,
                3 => [-7, classes, i32::MAX][random.below(3) as usize],
                4 => spec.ignore_index.unwrap_or(0),
                _ => random.below(classes as u64) as i32,
            })
            .collect();
        // Some weights are 0, never the first one: a mean would be empty by chance.
        let mut weights = |n| {
            (0..n).map(|i| random.on_grid(if i == 0 { 0.25 } else { 0.0 }, 4.0, 0.25)).collect::<Vec<f32>>()
        };
        let sample_weights = wgpu_cross_entropy::sample_weights_len(&spec, &shape).map(&mut weights);
        let external = (spec.reduction == Reduction::Mean(Denominator::External)).then(|| weights(1)[0]);
        let grad_out =
            with_grad_out.then(|| (0..shape.rows).map(|_| random.on_grid(-2.0, 2.0, 0.125)).collect());
        let mut problem = Self { spec, shape, logits, labels, sample_weights, grad_out, external };
        problem.avoid_kinks();
        problem
    }

    /// A cost is a step function of the logits. A perturbation moves a difference of two logits by at most
    /// `STEP`, so a lead of four steps keeps every prediction.
    fn avoid_kinks(&mut self) {
        for row in 0..self.shape.rows {
            let predicted = self.prediction(row);
            let lead = (0..self.shape.classes)
                .filter(|&class| class != predicted)
                .map(|class| self.logit(row, predicted) - self.logit(row, class))
                .fold(f32::INFINITY, f32::min);
            if lead < 4.0 * STEP {
                self.logits[self.shape.index(row, predicted) as usize] += 4.0 * STEP;
            }
        }
    }

    fn logit(&self, row: u32, class: u32) -> f32 {
        self.logits[self.shape.index(row, class) as usize]
    }

    fn prediction(&self, row: u32) -> u32 {
        let order = |a: &u32, b: &u32| self.logit(row, *a).total_cmp(&self.logit(row, *b)).then(b.cmp(a));
        (0..self.shape.classes).max_by(order).unwrap()
    }

    fn compute(&self, logits: &[f32]) -> Output<f64> {
        let inputs = Inputs {
            logits,
            labels: &self.labels,
            sample_weights: self.sample_weights.as_deref(),
            grad_out: self.grad_out.as_deref(),
            external_denominator: self.external,
            ..Inputs::default()
        };
        cpu::compute(&self.spec, &self.shape, &inputs).unwrap()
    }

    fn grad_out(&self, row: u32) -> f64 {
        self.grad_out.as_ref().map_or(1.0, |grad_out| f64::from(grad_out[row as usize]))
    }

    /// The label as a class; `None` in rows that do not count.
    fn class(&self, row: u32) -> Option<u32> {
        let label = self.labels[row as usize];
        let class = (Some(label) != self.spec.ignore_index).then_some(label)?;
        (0..self.shape.classes).find(|&c| i64::from(c) == i64::from(class))
    }

    fn sample_weight(&self, row: u32) -> f64 {
        let Some(weights) = &self.sample_weights else { return 1.0 };
        let (sample, step) = (row / self.shape.steps, row % self.shape.steps);
        f64::from(match self.spec.sample_weights {
            SampleWeights::None => 1.0,
            SampleWeights::PerRow => weights[row as usize],
            SampleWeights::PerSample => weights[sample as usize],
            SampleWeights::PerStep => weights[step as usize],
        })
    }

    fn class_weight(&self, class: u32) -> f64 {
        let rows_of =
            |class| (0..self.shape.rows).filter(|&row| self.class(row) == Some(class)).count() as f64;
        match &self.spec.class_weights {
            ClassWeights::None => 1.0,
            ClassWeights::Given(weights) => f64::from(weights[class as usize]),
            ClassWeights::Live(LiveWeights { scheme: WeightScheme::Inverse, .. }) => 1.0 / rows_of(class),
            ClassWeights::Live(LiveWeights { scheme: WeightScheme::Balanced, .. }) => {
                let counts: Vec<f64> = (0..self.shape.classes).map(rows_of).collect();
                let present = counts.iter().filter(|count| **count > 0.0).count() as f64;
                counts.iter().sum::<f64>() / (present * counts[class as usize])
            }
            ClassWeights::Live(other) => unreachable!("{other:?} is drawn nowhere here"),
        }
    }

    /// `s w k` of a row; 0 where it does not count.
    fn factor(&self, row: u32) -> f64 {
        let Some(class) = self.class(row) else { return 0.0 };
        let cost = |matrix: &CostMatrix| {
            f64::from(matrix.values()[(class * self.shape.classes + self.prediction(row)) as usize])
        };
        self.sample_weight(row) * self.class_weight(class) * self.spec.cost_matrix.as_ref().map_or(1.0, cost)
    }

    fn denominator(&self) -> f64 {
        let Reduction::Mean(denominator) = self.spec.reduction else { return 1.0 };
        let sum_of = |value: &dyn Fn(u32, u32) -> f64| -> f64 {
            (0..self.shape.rows).filter_map(|row| self.class(row).map(|class| value(row, class))).sum()
        };
        let weight = |row, class| self.sample_weight(row) * self.class_weight(class);
        match denominator {
            Denominator::WeightSum => sum_of(&weight),
            Denominator::ValidRows => sum_of(&|_, _| 1.0),
            Denominator::SampleWeightSum => sum_of(&|row, _| self.sample_weight(row)),
            Denominator::NonZeroWeights => sum_of(&|row, class| f64::from(weight(row, class) != 0.0)),
            Denominator::Rows => f64::from(self.shape.rows),
            Denominator::External => f64::from(self.external.unwrap()),
        }
    }

    /// `sum_i grad_out_i row_loss_i / D`, and the same with absolute values: what rounding is relative to.
    fn objective(&self, logits: &[f32]) -> (f64, f64) {
        let losses = self.compute(logits).row_losses;
        let terms = || (0..self.shape.rows).map(|row| self.grad_out(row) * losses[row as usize]);
        let denominator = self.denominator();
        (terms().sum::<f64>() / denominator, terms().map(f64::abs).sum::<f64>() / denominator)
    }

    /// `p (1 - p)` of a class, without cancellation where `p` is close to 1.
    fn spread(&self, row: u32, class: u32) -> f64 {
        let x = |class| f64::from(self.logit(row, class));
        let largest = (0..self.shape.classes).map(x).fold(f64::NEG_INFINITY, f64::max);
        let e = |class| (x(class) - largest).exp();
        let others: f64 = (0..self.shape.classes).filter(|&c| c != class).map(e).sum();
        e(class) * others / (e(class) + others).powi(2)
    }

    /// Compares every gradient and the totals, and checks that nothing stands between the rows.
    fn check(&self) {
        let output = self.compute(&self.logits);
        let denominator = self.denominator();
        let rows = f64::from(self.shape.rows);
        let near = |name: &str, got: f64, want: f64| {
            // Both sides are sums over the rows of products of a few exact numbers.
            let tolerance = 2.0 * (rows + 10.0) * ROUNDING * want.abs();
            assert!((got - want).abs() <= tolerance, "{name} is {got:e}, not {want:e}: {self:?}");
        };
        near("denominator", output.totals.denominator, denominator);
        self.check_counts(&output);
        near("loss", output.totals.loss, output.row_losses.iter().sum::<f64>() / denominator);

        let mut of_a_logit = vec![false; self.logits.len()];
        for row in 0..self.shape.rows {
            let scale = self.grad_out(row) * self.factor(row) / denominator;
            for class in 0..self.shape.classes {
                let index = self.shape.index(row, class) as usize;
                assert!(!of_a_logit[index], "two logits at {index}");
                of_a_logit[index] = true;
                let got = output.logit_grads[index];
                if self.logits[index] == f32::NEG_INFINITY || scale == 0.0 {
                    assert_eq!(got, 0.0, "row {row}, class {class}: {self:?}");
                    continue;
                }
                let (want, magnitude) = self.difference(index);
                let tolerance = self.tolerance(scale, self.spread(row, class), magnitude, want);
                let error = (got - want).abs();
                assert!(
                    error <= tolerance,
                    "row {row}, class {class}: {got:e}, not {want:e} (tolerance {tolerance:e}): {self:?}"
                );
            }
        }
        let outside = output.logit_grads.iter().zip(&of_a_logit).filter(|(_, of_a_logit)| !**of_a_logit);
        outside.for_each(|(grad, _)| assert_eq!(*grad, 0.0, "padding is written: {self:?}"));
    }

    fn check_counts(&self, output: &Output<f64>) {
        let rows = || 0..self.shape.rows;
        let count = |counts: &dyn Fn(u32) -> bool| rows().filter(|&row| counts(row)).count() as u32;
        let ignored = |row: u32| Some(self.labels[row as usize]) == self.spec.ignore_index;
        let bad = |row: u32| self.class(row).is_none() && !ignored(row);
        let weight = |row: u32| {
            self.class(row).map_or(0.0, |class| self.sample_weight(row) * self.class_weight(class))
        };
        let totals = &output.totals;
        // Few exact factors a row, and a sum over the rows.
        let near = |got: f64, want: f64| {
            let tolerance = 2.0 * (f64::from(self.shape.rows) + 10.0) * ROUNDING * want.abs();
            assert!((got - want).abs() <= tolerance, "{got:e}, not {want:e}: {self:?}");
        };
        near(totals.weight_sum, rows().map(weight).sum());
        let valid = || rows().filter(|&row| self.class(row).is_some());
        near(totals.sample_weight_sum, valid().map(|row| self.sample_weight(row)).sum());
        assert_eq!(totals.valid_rows, count(&|row| self.class(row).is_some()), "{self:?}");
        assert_eq!(totals.ignored_rows, count(&ignored), "{self:?}");
        assert_eq!(totals.out_of_range_rows, count(&bad), "{self:?}");
        assert_eq!(totals.first_bad_row, rows().find(|&row| bad(row)), "{self:?}");
        assert_eq!(totals.nonzero_rows, count(&|row| weight(row) != 0.0), "{self:?}");
        assert_eq!(totals.nonfinite_rows, 0, "{self:?}");
        let correct = |row: u32| self.class(row) == Some(self.prediction(row));
        assert_eq!(totals.correct_rows, count(&correct), "{self:?}");
    }

    /// The derivative with respect to one logit, and the largest magnitude of the objective on the way.
    fn difference(&self, index: usize) -> (f64, f64) {
        let mut magnitude: f64 = 0.0;
        let mut at = |step: f32| {
            let mut logits = self.logits.clone();
            logits[index] += step;
            assert_eq!(logits[index] - step, self.logits[index], "the step is not exact");
            let (value, absolute) = self.objective(&logits);
            magnitude = magnitude.max(absolute.abs());
            value
        };
        let mut central = |step: f32| (at(step) - at(-step)) / (2.0 * f64::from(step));
        let extrapolated = (4.0 * central(STEP / 2.0) - central(STEP)) / 3.0;
        (extrapolated, magnitude)
    }

    /// Truncation as the module says, and rounding.
    ///
    /// A row's loss is a sum of `classes` exponentials under a logarithm that is at least ln 2 or exact by
    /// `ln_1p`, times four factors; the objective sums `rows` of them: fewer than `2 (classes + rows + 10)`
    /// roundings, relative to the sum of the absolute values. Two such values over twice a step, weighted 4/3
    /// at `h/2` and 1/3 at `h`, give three times that over `h`. The gradient itself takes one sum of
    /// `classes` exponentials, a division and four factors.
    fn tolerance(&self, scale: f64, spread: f64, magnitude: f64, want: f64) -> f64 {
        let h = f64::from(STEP);
        let truncation = scale.abs() * h.exp() * spread * h.powi(4) / 288.0;
        let classes = f64::from(self.shape.classes);
        let objective = 2.0 * (classes + f64::from(self.shape.rows) + 10.0) * ROUNDING * magnitude;
        let gradient = 2.0 * (classes + 10.0) * ROUNDING * want.abs();
        truncation + 3.0 * objective / h + gradient
    }
}

/// Six rows of three classes, each layout, read as two samples of three steps.
fn layouts() -> [Shape; 4] {
    [
        Shape::new(6, 3),
        Shape::new(6, 3).with_row_stride(5),
        Shape::class_first(2, 3, 3),
        Shape::class_first(3, 3, 2).with_row_stride(11),
    ]
    .map(|shape| shape.with_steps(3))
}

fn class_weights(classes: u32) -> [ClassWeights; 4] {
    [
        ClassWeights::None,
        ClassWeights::Given((0..classes).map(|class| 0.5 + 0.75 * class as f32).collect()),
        WeightScheme::Balanced.into(),
        WeightScheme::Inverse.into(),
    ]
}

/// Costs from 0 to 4, the correct predictions not free.
fn costs(random: &mut Random, classes: u32) -> CostMatrix {
    let values = (0..classes * classes).map(|_| random.on_grid(0.0, 4.0, 0.5)).collect();
    CostMatrix::from_true_predicted(classes, values).unwrap()
}

#[test]
fn gradients_of_every_combination_of_options() {
    let mut random = Random::new(1);
    let mut problems = 0;
    for class_weights in class_weights(3) {
        for sample_weights in SAMPLE_WEIGHTS {
            for with_costs in [false, true] {
                for reduction in REDUCTIONS {
                    // No index, one that is no class, and one that is a class.
                    for ignore_index in [None, Some(-100), Some(1)] {
                        let spec = Spec {
                            ignore_index,
                            class_weights: class_weights.clone(),
                            sample_weights,
                            cost_matrix: with_costs.then(|| costs(&mut random, 3)),
                            reduction,
                            ..Spec::default()
                        };
                        let shape = layouts()[random.below(4) as usize];
                        let with_grad_out = random.below(2) == 0;
                        Problem::random(&mut random, spec, shape, with_grad_out).check();
                        problems += 1;
                    }
                }
            }
        }
    }
    assert_eq!(problems, 4 * 4 * 2 * 8 * 3);
}

#[test]
fn gradients_of_every_layout_with_every_reduction() {
    let mut random = Random::new(2);
    for shape in layouts() {
        for reduction in REDUCTIONS {
            for with_grad_out in [false, true] {
                let spec = Spec {
                    ignore_index: Some(2),
                    class_weights: WeightScheme::Balanced.into(),
                    sample_weights: SampleWeights::PerStep,
                    cost_matrix: Some(costs(&mut random, 3)),
                    reduction,
                    ..Spec::default()
                };
                Problem::random(&mut random, spec, shape, with_grad_out).check();
            }
        }
    }
}

#[test]
fn gradients_of_many_classes() {
    let mut random = Random::new(3);
    for class_weights in class_weights(50) {
        let spec = Spec { class_weights, cost_matrix: Some(costs(&mut random, 50)), ..Spec::default() };
        Problem::random(&mut random, spec, Shape::new(5, 50), true).check();
    }
}

/// At p = 0.9999999 the loss is 1e-7, and so is every rounding and truncation error: the comparison is
/// relative.
#[test]
fn gradients_of_confident_targets() {
    let mut random = Random::new(4);
    for lead in [12.0, 16.0, 17.0, 24.0, 40.0] {
        for class_weights in class_weights(4) {
            let spec = Spec { class_weights, ..Spec::default() };
            let mut problem = Problem::random(&mut random, spec, Shape::new(3, 4), true);
            for row in 0..3 {
                let label = random.below(4) as u32;
                problem.labels[row as usize] = label as i32;
                let largest = problem.logit(row, problem.prediction(row));
                problem.logits[problem.shape.index(row, label) as usize] = largest + lead;
            }
            problem.check();
            let output = problem.compute(&problem.logits);
            assert_eq!(output.totals.correct_rows, 3);
            // A gradient at the label of p - 1 would be a multiple of 2^-53; this one is relatively exact.
            for row in 0..3 {
                let others: f64 = (0..4)
                    .filter(|&class| class != problem.labels[row as usize] as u32)
                    .map(|class| output.logit_grads[problem.shape.index(row, class) as usize])
                    .sum();
                let at = output.logit_grads
                    [problem.shape.index(row, problem.labels[row as usize] as u32) as usize];
                assert!((at + others).abs() <= 128.0 * ROUNDING * others.abs(), "{at:e}, {others:e}");
            }
        }
    }
}

#[test]
fn gradients_of_wrongly_confident_rows() {
    let mut random = Random::new(5);
    for lead in [12.0, 16.0, 40.0] {
        let spec = Spec { cost_matrix: Some(costs(&mut random, 4)), ..Spec::default() };
        let mut problem = Problem::random(&mut random, spec, Shape::new(3, 4), true);
        for row in 0..3 {
            let wrong = (problem.labels[row as usize] as u32 + 1) % 4;
            problem.logits[problem.shape.index(row, wrong) as usize] = 4.0 + lead;
        }
        problem.check();
    }
}

/// Masked classes have probability 0 and gradient 0; the other classes' gradients stay right.
#[test]
fn gradients_beside_masked_classes() {
    let mut random = Random::new(6);
    for masked in 1..4 {
        for class_weights in class_weights(5) {
            let spec = Spec { class_weights, cost_matrix: Some(costs(&mut random, 5)), ..Spec::default() };
            let mut problem = Problem::random(&mut random, spec, Shape::new(4, 5), true);
            for row in 0..4 {
                for class in 1..=masked {
                    let class = (problem.labels[row as usize].clamp(0, 4) as u32 + class) % 5;
                    problem.logits[problem.shape.index(row, class) as usize] = f32::NEG_INFINITY;
                }
            }
            // A mask may have taken the class that led.
            problem.avoid_kinks();
            problem.check();
        }
    }
}

/// A masked label costs an infinite loss with the gradient of a certain mistake, and nothing where it weighs
/// nothing: no 0 times infinity.
#[test]
fn a_masked_label_costs_nothing_where_it_weighs_nothing() {
    let logits = [f32::NEG_INFINITY, 1.0, 1.0];
    let output = |weight: f32| {
        let spec = Spec {
            sample_weights: SampleWeights::PerRow,
            reduction: Reduction::Mean(Denominator::ValidRows),
            ..Spec::default()
        };
        let inputs =
            Inputs { logits: &logits, labels: &[0], sample_weights: Some(&[weight]), ..Inputs::default() };
        cpu::compute(&spec, &Shape::new(1, 3), &inputs).unwrap()
    };
    let (masked, weightless) = (output(2.0), output(0.0));
    assert_eq!((masked.totals.loss, masked.row_losses[0]), (f64::INFINITY, f64::INFINITY));
    assert_eq!(masked.logit_grads, [-2.0, 1.0, 1.0]);
    assert_eq!((weightless.totals.loss, weightless.row_losses[0]), (0.0, 0.0));
    assert_eq!(weightless.logit_grads, [0.0; 3]);
    assert_eq!((weightless.totals.nonfinite_rows, weightless.totals.nonzero_rows), (0, 0));
}

/// The weight of a class that no row has is what a caller reads; it changes no loss.
#[test]
fn absent_classes_have_the_weight_that_was_asked_for() {
    for scheme in [WeightScheme::Balanced, WeightScheme::Inverse] {
        let output = |absent_weight| {
            let class_weights =
                ClassWeights::Live(LiveWeights { scheme, absent_weight, ..LiveWeights::default() });
            let spec = Spec { class_weights, ..Spec::default() };
            let inputs =
                Inputs { logits: &[1.0, 2.0, 3.0, 4.0, 0.0, 2.0], labels: &[0, 2], ..Inputs::default() };
            cpu::compute(&spec, &Shape::new(2, 3), &inputs).unwrap()
        };
        let (absent, zero) = (output(0.75), output(0.0));
        assert_eq!(absent.class_weights, Some(vec![1.0, 0.75, 1.0]));
        assert_eq!(zero.class_weights, Some(vec![1.0, 0.0, 1.0]));
        assert_eq!(absent.totals, zero.totals);
        assert_eq!(absent.logit_grads, zero.logit_grads);
    }
}

#[test]
fn one_class_is_certain() {
    let mut random = Random::new(7);
    for class_weights in class_weights(1) {
        for reduction in REDUCTIONS {
            let spec = Spec { class_weights: class_weights.clone(), reduction, ..Spec::default() };
            let problem = Problem::random(&mut random, spec, Shape::new(4, 1), true);
            problem.check();
            let output = problem.compute(&problem.logits);
            assert_eq!(output.totals.loss, 0.0);
            assert_eq!(output.row_losses, [0.0; 4]);
            assert_eq!(output.logit_grads, [0.0; 4]);
            assert_eq!((output.totals.valid_rows, output.totals.correct_rows), (3, 3));
        }
    }
}

#[test]
fn no_rows_have_no_loss() {
    let mut random = Random::new(8);
    for class_weights in class_weights(3) {
        for sample_weights in SAMPLE_WEIGHTS {
            for reduction in REDUCTIONS {
                let spec = Spec {
                    class_weights: class_weights.clone(),
                    sample_weights,
                    reduction,
                    ..Spec::default()
                };
                let problem = Problem::random(&mut random, spec, Shape::new(0, 3), true);
                let output = problem.compute(&problem.logits);
                assert_eq!((output.totals.loss, output.totals.loss_sum), (0.0, 0.0));
                assert_eq!((output.totals.valid_rows, output.totals.first_bad_row), (0, None));
                assert!(output.row_losses.is_empty() && output.logit_grads.is_empty());
                assert!(output.class_counts.is_none_or(|counts| counts == [0; 3]));
            }
        }
    }
}

/// A mean over nothing is 0 and trains nothing, whatever made it empty.
#[test]
fn denominator_zero_gives_zeros() {
    let mut random = Random::new(9);
    let empty = |problem: Problem| {
        let output = problem.compute(&problem.logits);
        assert_eq!(output.totals.denominator, 0.0, "{problem:?}");
        assert_eq!(output.totals.loss, 0.0, "{problem:?}");
        assert!(output.logit_grads.iter().all(|grad| *grad == 0.0), "{problem:?}");
    };
    let shape = Shape::new(6, 3).with_steps(3);
    for denominator in [
        Denominator::WeightSum,
        Denominator::ValidRows,
        Denominator::SampleWeightSum,
        Denominator::NonZeroWeights,
    ] {
        let reduction = Reduction::Mean(denominator);
        for class_weights in class_weights(3) {
            let spec = Spec { ignore_index: Some(-1), class_weights, reduction, ..Spec::default() };
            let mut ignored = Problem::random(&mut random, spec, shape, true);
            ignored.labels.fill(-1);
            empty(ignored.clone());
            ignored.labels.fill(3);
            empty(ignored);
        }
        for sample_weights in &SAMPLE_WEIGHTS[1..] {
            if denominator != Denominator::ValidRows {
                let spec = Spec { sample_weights: *sample_weights, reduction, ..Spec::default() };
                let mut weightless = Problem::random(&mut random, spec, shape, true);
                weightless.sample_weights.iter_mut().for_each(|weights| weights.fill(0.0));
                empty(weightless);
            }
        }
        if matches!(denominator, Denominator::WeightSum | Denominator::NonZeroWeights) {
            let spec =
                Spec { class_weights: ClassWeights::Given(vec![0.0; 3]), reduction, ..Spec::default() };
            empty(Problem::random(&mut random, spec, shape, true));
        }
    }
    let spec = Spec { reduction: Reduction::Mean(Denominator::External), ..Spec::default() };
    let mut external = Problem::random(&mut random, spec, shape, true);
    external.external = Some(0.0);
    empty(external);
}

/// Where the spacing of the logits is far above 1, a log-sum-exp cannot hold what the largest logits share.
#[test]
fn huge_logits_keep_their_probabilities() {
    for size in [1e4, 1e8, 1e17, 1e30, LOGIT_LIMIT, f32::MAX] {
        for sign in [1.0, -1.0] {
            let x = size * sign;
            let logits = [x, x, -size, x, x, f32::NEG_INFINITY, x, x, x];
            let classes = if sign > 0.0 { 2.0 } else { 3.0 };
            let inputs = Inputs { logits: &logits, labels: &[0, 1, 2], ..Inputs::default() };
            let spec = Spec { reduction: Reduction::Sum, ..Spec::default() };
            let output = cpu::compute(&spec, &Shape::new(3, 3), &inputs).unwrap();
            let (p, q): (f64, f64) = (1.0 / classes, 1.0 / 3.0);
            let rest = if sign > 0.0 { 0.0 } else { p };
            let want = [p - 1.0, p, rest, 0.5, -0.5, 0.0, q, q, q - 1.0];
            for (got, want) in output.logit_grads.iter().zip(want) {
                assert!((got - want).abs() <= 4.0 * ROUNDING, "{:?} at {x:e}", output.logit_grads);
            }
            for (got, classes) in output.row_losses.iter().zip([classes, 2.0, 3.0]) {
                assert!((got - classes.ln()).abs() <= 4.0 * ROUNDING, "{:?} at {x:e}", output.row_losses);
            }
        }
    }
}
