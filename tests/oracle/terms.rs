//! Every term of a loss together: targets of each kind, smoothing, focusing, `z_loss`, expected cost, adjusted logits,
//! either scope of the class weights, and scores of each kind.
//!
//! Values are compared with the formula of [`Spec`], written down a second time; gradients with central differences of
//! the values. Logits lie on a grid of 2^-10 and the steps are powers of two, so every perturbed logit is exact.

use wgpu_cross_entropy::{
    ClassWeights, Clip, ClipOrder, CostMatrix, Denominator, Inputs, LiveCounts, LogitBias, Output, Reduction,
    SampleWeights, Scores, Shape, Spec, Targets, WeightScheme, WeightScope, cpu,
};

use crate::golden;

/// The widest of the three steps.
const STEP: f32 = 1.0 / 64.0;

/// The relative error of one rounding.
const ROUNDING: f64 = f64::EPSILON / 2.0;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 += 1;
        golden::hash(77, self.0) % n
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize].clone()
    }

    fn eighths(&mut self, low: i64, high: i64) -> f32 {
        (low + self.below((high - low + 1) as u64) as i64) as f32 / 8.0
    }
}

fn normalized(p: &[f64]) -> Vec<f64> {
    let sum: f64 = p.iter().sum();
    p.iter().map(|p| p / sum).collect()
}

#[derive(Clone, Debug)]
struct Problem {
    spec: Spec,
    shape: Shape,
    logits: Vec<f32>,
    labels: Vec<i32>,
    second_labels: Vec<i32>,
    mix: Vec<f32>,
    target_probs: Vec<f32>,
    sample_weights: Vec<f32>,
    grad_out: Vec<f32>,
}

impl Problem {
    fn random(random: &mut Random) -> Self {
        let classes = random.of(&[1, 2, 3, 7]);
        let shape = random.of(&[Shape::new(5, classes), Shape::class_first(2, classes, 3)]);
        let targets = random.of(&[Targets::Labels, Targets::TwoHot, Targets::Soft]);
        let mut per_class = |low| (0..classes).map(|_| random.eighths(low, 24)).collect::<Vec<f32>>();
        let (weights, bias) = (per_class(0), per_class(-16));
        let costs = (0..classes).flat_map(|_| per_class(0)).collect();
        let matrix = CostMatrix::from_true_predicted(classes, costs).unwrap();
        let costly = random.below(2) == 0;
        let mut class_weights = vec![ClassWeights::None, ClassWeights::Given(weights)];
        let mut logit_bias = vec![LogitBias::None, LogitBias::Given(bias)];
        if targets == Targets::Labels {
            class_weights.push(WeightScheme::Balanced.into());
            logit_bias.push(LogitBias::LogPrior { tau: 1.5, smoothing: 0.5 });
        }
        let mut spec = Spec {
            scores: Scores::Logits,
            targets,
            label_smoothing: random.of(&[0.0, 0.125, 1.0]),
            ignore_index: (targets != Targets::Soft).then_some(-100),
            class_weights: random.of(&class_weights),
            live_counts: LiveCounts::default(),
            weight_scope: random.of(&[WeightScope::PerTerm, WeightScope::PerRow]),
            sample_weights: SampleWeights::PerRow,
            cost_matrix: costly.then_some(matrix),
            cost_gather: random.below(2) == 0,
            cost_lambda: if costly { random.of(&[0.0, 0.75]) } else { 0.0 },
            focal_gamma: random.of(&[0.0, 0.5, 1.0, 2.0, 3.5]),
            z_loss: random.of(&[0.0, 0.25]),
            logit_scale: random.of(&[1.0, 0.5, 1.75]),
            logit_bias: random.of(&logit_bias),
            reduction: random.of(&[
                Reduction::None,
                Reduction::Sum,
                Reduction::Mean(Denominator::WeightSum),
                Reduction::Mean(Denominator::ValidRows),
                Reduction::Mean(Denominator::SampleWeightSum),
                Reduction::Mean(Denominator::Rows),
            ]),
        };
        let rows = shape.rows as usize;
        let elements = shape.logits_len() as usize;
        let mut logits: Vec<f32> =
            (0..elements).map(|_| (random.below(8193) as f32 - 4096.0) / 1024.0).collect();
        let order = random.of(&[ClipOrder::AfterNormalizing, ClipOrder::BeforeNormalizing]);
        let clip = Clip { eps: 1e-30, order };
        let kinds = [Scores::Logits, Scores::LogProbs, Scores::Probs(clip), Scores::SoftmaxProbs(clip)];
        spec.scores = random.of(&kinds);
        if spec.scores != Scores::Logits {
            (spec.z_loss, spec.cost_lambda) = (0.0, 0.0);
        }
        if !spec.scores.are_logits() {
            (spec.logit_scale, spec.logit_bias) = (1.0, LogitBias::None);
            // Away from 1: there is the end of a clip that comes first, and for a log-probability the end of all sense.
            let below = |x: f32| match spec.scores {
                Scores::LogProbs => -0.25 - x.abs(),
                _ if x < 0.0 => 0.125 - x * 0.1875,
                _ => 1.125 + x * 0.125,
            };
            logits.iter_mut().for_each(|x| *x = below(*x));
        }
        // A cost is a step function of the logits: the prediction keeps a lead of four steps.
        for row in 0..shape.rows {
            let at = |class| shape.index(row, class) as usize;
            let top = (0..classes).fold(0, |top, c| if logits[at(c)] > logits[at(top)] { c } else { top });
            logits[at(top)] += 4.0 * STEP;
        }
        let mut labels = || {
            let label = |row| if row % 5 == 3 { -100 } else { random.below(classes.into()) as i32 };
            (0..rows).map(label).collect::<Vec<i32>>()
        };
        let (labels, second_labels) = (labels(), labels());
        let problem = Self {
            spec,
            shape,
            logits,
            labels,
            second_labels,
            mix: (0..rows).map(|_| random.eighths(0, 8)).collect(),
            // Sums other than 1, zeros, and a negative one now and then.
            target_probs: (0..elements).map(|_| random.eighths(-1, 8)).collect(),
            sample_weights: (0..rows).map(|_| random.eighths(1, 16)).collect(),
            grad_out: (0..rows).map(|_| random.eighths(-16, 16)).collect(),
        };
        problem.clipped(random.of(&[1e-6, 0.05, 0.11, 0.23]))
    }

    /// With the clip's end at `eps`, if no probability comes near it: the slope has a step there.
    fn clipped(self, eps: f64) -> Self {
        let scores = match self.spec.scores {
            Scores::Probs(clip) => Scores::Probs(Clip { eps, ..clip }),
            Scores::SoftmaxProbs(clip) => Scores::SoftmaxProbs(Clip { eps, ..clip }),
            scores => scores,
        };
        let clipped = Self { spec: Spec { scores, ..self.spec.clone() }, ..self.clone() };
        let near = |p: &f64| [*p, 1.0 - *p].iter().any(|p| (0.9 * eps..1.1 * eps).contains(p));
        let clear = (0..self.shape.rows).all(|row| !clipped.unclipped(row).iter().any(near));
        if clear { clipped } else { self }
    }

    /// A row's scores, adjusted where they are logits.
    fn adjusted(&self, row: u32) -> Vec<f64> {
        let x = (0..self.shape.classes).map(|c| f64::from(self.logits[self.at(row, c)]));
        x.enumerate().map(|(c, x)| f64::from(self.spec.logit_scale) * x + self.bias(c)).collect()
    }

    /// What a clip is of.
    fn unclipped(&self, row: u32) -> Vec<f64> {
        let z = self.adjusted(row);
        let p: Vec<f64> = match self.spec.scores {
            Scores::LogProbs | Scores::Logits => return Vec::new(),
            Scores::Probs(_) => z,
            Scores::SoftmaxProbs(_) => normalized(&z.iter().map(|z| z.exp()).collect::<Vec<f64>>()),
        };
        match self.spec.scores.clip() {
            Some(Clip { order: ClipOrder::AfterNormalizing, .. }) => normalized(&p),
            _ => p,
        }
    }

    /// `c` and `log c`: what the loss is made of.
    fn probabilities(&self, row: u32) -> Vec<(f64, f64)> {
        let z = self.adjusted(row);
        let Some(Clip { eps, order }) = self.spec.scores.clip() else {
            let lse = match self.spec.scores {
                Scores::Logits => z.iter().map(|z| z.exp()).sum::<f64>().ln(),
                _ => 0.0,
            };
            return z.iter().map(|z| ((z - lse).exp(), z - lse)).collect();
        };
        let clipped: Vec<f64> = self.unclipped(row).iter().map(|p| p.clamp(eps, 1.0 - eps)).collect();
        let c = match order {
            ClipOrder::AfterNormalizing => clipped,
            ClipOrder::BeforeNormalizing => normalized(&clipped),
        };
        c.into_iter().map(|c| (c, c.ln())).collect()
    }

    fn compute(&self, logits: &[f32]) -> Output<f64> {
        let targets = self.spec.targets;
        let two_hot = targets == Targets::TwoHot;
        let inputs = Inputs {
            logits,
            labels: if targets == Targets::Soft { &[] } else { &self.labels },
            second_labels: two_hot.then_some(&self.second_labels[..]),
            mix: two_hot.then_some(&self.mix[..]),
            target_probs: (targets == Targets::Soft).then_some(&self.target_probs[..]),
            sample_weights: Some(&self.sample_weights),
            grad_out: Some(&self.grad_out),
            external_denominator: None,
        };
        cpu::compute(&self.spec, &self.shape, &inputs).unwrap()
    }

    fn at(&self, row: u32, class: u32) -> usize {
        self.shape.index(row, class) as usize
    }

    /// Targets of a row before smoothing; `None` where it is ignored.
    fn targets(&self, row: u32) -> Option<Vec<f64>> {
        let i = row as usize;
        let mut targets = vec![0.0; self.shape.classes as usize];
        let (first, second) = (self.labels[i], self.second_labels[i]);
        match self.spec.targets {
            Targets::Labels if first == -100 => return None,
            Targets::Labels => targets[first as usize] = 1.0,
            Targets::TwoHot if first == -100 || second == -100 => return None,
            Targets::TwoHot => {
                targets[first as usize] += f64::from(self.mix[i]);
                targets[second as usize] += 1.0 - f64::from(self.mix[i]);
            }
            Targets::Soft => (0..self.shape.classes)
                .for_each(|c| targets[c as usize] = self.target_probs[self.at(row, c)].into()),
        }
        Some(targets)
    }

    fn counts(&self) -> Vec<f64> {
        let of = |class| self.labels.iter().filter(|label| **label == class).count() as f64;
        (0..self.shape.classes as i32).map(of).collect()
    }

    fn weight(&self, class: usize) -> f64 {
        match &self.spec.class_weights {
            ClassWeights::None => 1.0,
            ClassWeights::Given(weights) => weights[class].into(),
            ClassWeights::Live(_) => {
                let counts = self.counts();
                let present = counts.iter().filter(|n| **n > 0.0).count() as f64;
                // The term of a class that no row has is only met under smoothing; its weight is 0.
                if counts[class] == 0.0 {
                    0.0
                } else {
                    counts.iter().sum::<f64>() / (present * counts[class])
                }
            }
        }
    }

    fn bias(&self, class: usize) -> f64 {
        match &self.spec.logit_bias {
            LogitBias::None => 0.0,
            LogitBias::Given(bias) => bias[class].into(),
            LogitBias::LogPrior { tau, smoothing } => {
                let counts: Vec<f64> = self.counts().iter().map(|n| n + f64::from(*smoothing)).collect();
                f64::from(*tau) * (counts[class] / counts.iter().sum::<f64>()).ln()
            }
        }
    }

    fn first_largest(values: impl Iterator<Item = f64>) -> usize {
        values
            .enumerate()
            .fold((0, f64::NEG_INFINITY), |best, (i, x)| if x > best.1 { (i, x) } else { best })
            .0
    }

    /// The formula of [`Spec`], and the sum of the absolute values of its terms.
    fn row_loss(&self, row: u32) -> (f64, f64) {
        let spec = &self.spec;
        let Some(targets) = self.targets(row) else { return (0.0, 0.0) };
        let x = || (0..self.shape.classes).map(|c| f64::from(self.logits[self.at(row, c)]));
        let lse = self.adjusted(row).iter().map(|z| z.exp()).sum::<f64>().ln();
        let probabilities = self.probabilities(row);
        let y = Self::first_largest(targets.iter().copied());
        let smoothing = f64::from(spec.label_smoothing);
        let cost = |p: usize| spec.cost_matrix.as_ref().map_or(1.0, |m| m.cost(y as u32, p as u32).into());
        let (mut base, mut size) = (0.0, 0.0);
        let mut add = |term: f64| {
            base += term;
            size += term.abs();
        };
        for (c, t) in targets.iter().enumerate() {
            let smoothed = (1.0 - smoothing) * t + smoothing / targets.len() as f64;
            let u = if spec.weight_scope == WeightScope::PerTerm { self.weight(c) } else { 1.0 } * smoothed;
            let (p, log_p) = probabilities[c];
            add(-u * (1.0 - p).max(0.0).powf(spec.focal_gamma.into()) * log_p);
            add(f64::from(spec.cost_lambda) * cost(c) * p);
        }
        add(f64::from(spec.z_loss) * lse * lse);
        let mut factor = f64::from(self.sample_weights[row as usize]);
        if spec.cost_gather {
            factor *= cost(Self::first_largest(x()));
        }
        if spec.weight_scope == WeightScope::PerRow {
            factor *= self.weight(y);
        }
        (factor * base, factor * size)
    }

    fn denominator(&self) -> f64 {
        let sum = |of: &dyn Fn(u32, Vec<f64>) -> f64| -> f64 {
            (0..self.shape.rows).filter_map(|row| self.targets(row).map(|targets| of(row, targets))).sum()
        };
        let s = |row: u32| f64::from(self.sample_weights[row as usize]);
        match self.spec.reduction {
            Reduction::Mean(Denominator::WeightSum) => sum(&|row, targets| {
                s(row)
                    * match self.spec.weight_scope {
                        WeightScope::PerTerm => {
                            targets.iter().enumerate().map(|(c, t)| self.weight(c) * t).sum()
                        }
                        WeightScope::PerRow => self.weight(Self::first_largest(targets.iter().copied())),
                    }
            }),
            Reduction::Mean(Denominator::ValidRows) => sum(&|_, _| 1.0),
            Reduction::Mean(Denominator::SampleWeightSum) => sum(&|row, _| s(row)),
            Reduction::Mean(_) => self.shape.rows.into(),
            Reduction::None | Reduction::Sum => 1.0,
        }
    }

    fn check(&self) {
        let output = self.compute(&self.logits);
        let denominator = self.denominator();
        let near = |what: &str, got: f64, want: f64, size: f64| {
            // A few dozen roundings of numbers up to `size`, or up to 1 where probabilities cancel.
            let tolerance = 512.0 * ROUNDING * (size + 1.0);
            assert!((got - want).abs() <= tolerance, "{what} is {got:e}, not {want:e}: {self:?}");
        };
        let mut total = (0.0, 0.0);
        for row in 0..self.shape.rows {
            let (loss, size) = self.row_loss(row);
            near("row_loss", output.row_losses[row as usize], loss, size);
            total = (total.0 + loss, total.1 + size);
        }
        near("denominator", output.totals.denominator, denominator, 16.0);
        near("loss_sum", output.totals.loss_sum, total.0, total.1);
        if denominator == 0.0 {
            assert!(output.logit_grads.iter().all(|grad| *grad == 0.0));
            return;
        }
        for index in 0..self.logits.len() {
            let got = output.logit_grads[index];
            let (want, tolerance) = self.difference(index, output.totals.denominator);
            let error = (got - want).abs();
            assert!(error <= tolerance, "grad {index} is {got:e}, not {want:e} ({tolerance:e}): {self:?}");
        }
    }

    /// The derivative of `sum grad_out row_loss / D`, extrapolated from steps h, h/2, h/4, and its error.
    ///
    /// The error of the extrapolation from h/2 and h/4 is a sixteenth of that from h and h/2, so it is about a
    /// fifteenth of their difference; a quarter leaves room for higher orders. A value is a sum over rows and classes
    /// of a few factors each, and rounding grows by the step that divides it.
    fn difference(&self, index: usize, denominator: f64) -> (f64, f64) {
        let mut size: f64 = 0.0;
        let mut at = |step: f32| {
            let mut logits = self.logits.clone();
            logits[index] += step;
            let losses = self.compute(&logits).row_losses;
            let terms = losses.iter().zip(&self.grad_out).map(|(loss, g)| loss * f64::from(*g) / denominator);
            size = size.max(terms.clone().map(f64::abs).sum());
            terms.sum::<f64>()
        };
        let mut central = |step: f32| (at(step) - at(-step)) / (2.0 * f64::from(step));
        let [wide, middle, narrow] = [STEP, STEP / 2.0, STEP / 4.0].map(&mut central);
        let (first, second) = ((4.0 * middle - wide) / 3.0, (4.0 * narrow - middle) / 3.0);
        let rounding = 64.0 * ROUNDING * (size + 1.0) / f64::from(STEP / 4.0);
        (second, (first - second).abs() / 4.0 + rounding)
    }
}

#[test]
fn all_terms_together() {
    let mut random = Random(0);
    let mut clipped = 0;
    for _ in 0..6000 {
        let problem = Problem::random(&mut random);
        problem.check();
        if let Some(Clip { eps, .. }) = problem.spec.scores.clip() {
            let held = |p: &f64| *p < eps || *p > 1.0 - eps;
            clipped += u32::from((0..problem.shape.rows).any(|row| problem.unclipped(row).iter().any(held)));
        }
    }
    println!("{clipped} problems with a clip that holds something");
    assert!(clipped > 500, "only {clipped} clips hold anything");
}
