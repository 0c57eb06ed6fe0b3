//! What a golden case asks of the crate, and how an answer is compared: for the oracle and for devices alike.
//!
//! A [`Work`] is a list of calls, and of outputs that are read from their answers. Answers carry, beside each value,
//! how far it may be from the oracle's: 0 from the oracle itself, the crate's derived tolerance from a device.

#![allow(dead_code, reason = "each binary that includes this file uses a part of it")]

#[path = "binary_work.rs"]
mod binary;

use std::fmt;

pub use binary::BinaryLoss;
use wgpu_cross_entropy::error::InputError;
use wgpu_cross_entropy::{BinaryOutput, ClassStats, ClassWeights, Inputs, Output, Shape, Spec, cpu};

/// A value, and how far it may be from the oracle's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Number {
    /// The value.
    pub value: f64,
    /// At least 0.
    pub error: f64,
}

impl Number {
    /// A value that needs no tolerance.
    pub fn exact(value: f64) -> Self {
        Self { value, error: 0.0 }
    }

    /// Times a constant.
    pub fn scaled(self, by: f64) -> Self {
        Self { value: self.value * by, error: self.error * by.abs() }
    }

    /// The sum.
    pub fn plus(self, other: Self) -> Self {
        Self { value: self.value + other.value, error: self.error + other.error }
    }

    /// The product.
    pub fn times(self, other: Self) -> Self {
        let error =
            self.value.abs() * other.error + other.value.abs() * self.error + self.error * other.error;
        Self { value: self.value * other.value, error }
    }

    /// The absolute value.
    pub fn magnitude(self) -> Self {
        Self { value: self.value.abs(), ..self }
    }
}

/// Values and their errors; no errors where all are 0.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// The values.
    pub values: Vec<f64>,
    /// As many, or none.
    pub errors: Vec<f64>,
}

impl Numbers {
    /// One of them; NaN where there is none, which no expected number equals.
    pub fn at(&self, index: usize) -> Number {
        Number {
            value: self.values.get(index).copied().unwrap_or(f64::NAN),
            error: self.errors.get(index).copied().unwrap_or(0.0),
        }
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Number> {
        (0..self.values.len()).map(|index| self.at(index))
    }
}

/// What one call gave. What the call does not give is empty.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The reduced loss.
    pub loss: Number,
    /// The sum of the rows' losses.
    pub loss_sum: Number,
    /// What was divided by.
    pub denominator: Number,
    /// `[rows]`.
    pub row_losses: Numbers,
    /// In the layout of the logits.
    pub logit_grads: Numbers,
    /// `[classes]`.
    pub class_weights: Numbers,
    /// `[classes]`.
    pub class_counts: Vec<u32>,
    /// Rows predicted right.
    pub correct_rows: u32,
    /// Rows that count.
    pub valid_rows: u32,
    /// `[rows]`: prediction and cost.
    pub gathered: Vec<(u32, f64)>,
    /// `[classes]`.
    pub class_mass: Numbers,
    /// `[rows]`; `NO_CLASS` where a row has none. From a device only where the loss asks for by-products.
    pub predictions: Vec<u32>,
    /// What each class has; the same.
    pub class_stats: Option<ClassStats>,
    /// How far each sum of weights in it may be off, over all classes.
    pub weights_error: f64,
    /// Of a sigmoid loss, in the layout of its scores.
    pub element_losses: Numbers,
    /// Of a sigmoid loss with live factors: positives, negatives.
    pub binary_counts: Numbers,
    /// Of a sigmoid loss: the factors of positives and negatives.
    pub factors: Numbers,
    /// Of a sigmoid loss: the sample weights of its elements, and of those that are predicted right.
    pub sample_weight_sum: Number,
    /// See `sample_weight_sum`.
    pub correct_weight: Number,
}

impl Answer {
    /// The weight of the rows predicted right over that of all rows of these answers; 0 where nothing weighs anything.
    pub fn weighted_accuracy(answers: &[Self]) -> Number {
        let mut all: Option<ClassStats> = None;
        for stats in answers.iter().filter_map(|answer| answer.class_stats.as_ref()) {
            match &mut all {
                None => all = Some(stats.clone()),
                // Of one loss, and so alike.
                Some(all) => all.merge(stats).unwrap_or_default(),
            }
        }
        let Some(all) = all else { return Number::exact(f64::NAN) };
        let (value, weight) = (all.weighted_accuracy(), all.weight.iter().sum::<f64>());
        let error: f64 = answers.iter().map(|answer| answer.weights_error).sum();
        // (a + error) / (b - error) - a / b.
        let error = if weight > error { error * (1.0 + value) / (weight - error) } else { 0.0 };
        Number { value, error }
    }
}

/// A loss and its gradient. Settings that the reference has in `f64` and the crate in `f32` stand here in both: the
/// rounding of a setting is not what is tested, so [`Loss::exact`] takes it out.
#[derive(Clone, Debug)]
pub struct Loss {
    /// What to compute.
    pub spec: Spec,
    /// The shape.
    pub shape: Shape,
    /// In the layout of the shape.
    pub logits: Vec<f32>,
    /// `[rows]`; empty with soft targets.
    pub labels: Vec<i32>,
    /// In the layout of the logits.
    pub target_probs: Option<Vec<f32>>,
    /// As the spec says.
    pub sample_weights: Option<Vec<f32>>,
    /// `[rows]`.
    pub grad_out: Option<Vec<f32>>,
    /// The denominator, handed over as an `f32`.
    pub external: Option<f64>,
    /// The label smoothing of the reference.
    pub label_smoothing: f64,
    /// The focusing exponent of the reference.
    pub focal_gamma: f64,
    /// The class weights of the reference over those of the spec; no denominator may depend on them.
    pub weight_scale: f64,
    /// The upstream gradient of the reference over `grad_out`.
    pub grad_scale: f64,
    /// Whether predictions and what each class has are asked for.
    pub by_products: bool,
}

impl Loss {
    /// Without weights, targets beside the labels, or an upstream gradient.
    pub fn new(spec: Spec, shape: Shape, logits: Vec<f32>, labels: Vec<i32>) -> Self {
        Self {
            spec,
            shape,
            logits,
            labels,
            target_probs: None,
            sample_weights: None,
            grad_out: None,
            external: None,
            label_smoothing: 0.0,
            focal_gamma: 0.0,
            weight_scale: 1.0,
            grad_scale: 1.0,
            by_products: false,
        }
    }

    /// The batch as the crate takes it.
    pub fn inputs(&self) -> Inputs<'_> {
        Inputs {
            logits: &self.logits,
            labels: &self.labels,
            target_probs: self.target_probs.as_deref(),
            sample_weights: self.sample_weights.as_deref(),
            grad_out: self.grad_out.as_deref(),
            external_denominator: self.external.map(|denominator| denominator as f32),
            ..Inputs::default()
        }
    }

    /// What the oracle would give if its settings were `f64`.
    ///
    /// Losses and gradients are affine in the smoothing and linear in weights and upstream. The exponent is moved by
    /// less than 1e-7 of itself along a central difference, whose relative error is below 1e-4.
    fn exact(&self, raw: &Output<f64>) -> Result<Output<f64>, InputError> {
        let mut output = raw.clone();
        let with = |spec: Spec| cpu::compute(&spec, &self.shape, &self.inputs());
        let smoothing = self.spec.label_smoothing;
        if f64::from(smoothing) != self.label_smoothing {
            let half = smoothing / 2.0;
            let other = with(Spec { label_smoothing: half, ..self.spec.clone() })?;
            add_slope(
                &mut output,
                raw,
                &other,
                (self.label_smoothing - f64::from(smoothing)) / f64::from(half),
            );
        }
        let gamma = self.spec.focal_gamma;
        if f64::from(gamma) != self.focal_gamma {
            let step = (gamma / 2.0).min(1.0 / 128.0);
            let (low, high) = (gamma - step, gamma + step);
            let below = with(Spec { focal_gamma: low, ..self.spec.clone() })?;
            let above = with(Spec { focal_gamma: high, ..self.spec.clone() })?;
            let by = (self.focal_gamma - f64::from(gamma)) / (f64::from(high) - f64::from(low));
            add_slope(&mut output, &above, &below, by);
        }
        let denominator = match self.external {
            Some(exact) if exact != 0.0 => {
                output.totals.denominator = exact;
                f64::from(exact as f32) / exact
            }
            _ => 1.0,
        };
        let scale = |values: &mut [f64], by: f64| values.iter_mut().for_each(|value| *value *= by);
        scale(&mut output.row_losses, self.weight_scale);
        scale(&mut output.logit_grads, self.weight_scale * self.grad_scale * denominator);
        output.totals.loss_sum *= self.weight_scale;
        output.totals.loss *= self.weight_scale * denominator;
        Ok(output)
    }
}

/// `to += (a - b) * by`, where the difference is finite.
fn add_slope(to: &mut Output<f64>, a: &Output<f64>, b: &Output<f64>, by: f64) {
    let add = |to: &mut f64, a: f64, b: f64| {
        if (a - b).is_finite() {
            *to += (a - b) * by;
        }
    };
    let add_all = |to: &mut [f64], a: &[f64], b: &[f64]| {
        to.iter_mut().zip(a.iter().zip(b)).for_each(|(to, (a, b))| add(to, *a, *b));
    };
    add_all(&mut to.row_losses, &a.row_losses, &b.row_losses);
    add_all(&mut to.logit_grads, &a.logit_grads, &b.logit_grads);
    add(&mut to.totals.loss, a.totals.loss, b.totals.loss);
    add(&mut to.totals.loss_sum, a.totals.loss_sum, b.totals.loss_sum);
}

/// One call of the crate.
#[derive(Clone, Debug)]
pub enum Call {
    /// The whole flow.
    Loss(Box<Loss>),
    /// The whole flow of a sigmoid loss.
    Binary(Box<BinaryLoss>),
    /// Labels to counts.
    Counts {
        /// For the ignore index.
        spec: Spec,
        /// Rows and classes.
        shape: Shape,
        /// `[rows]`.
        labels: Vec<i32>,
    },
    /// Targets to mass.
    Mass {
        /// For what is counted.
        spec: Spec,
        /// Rows and classes.
        shape: Shape,
        /// `[rows]`; empty with soft targets.
        labels: Vec<i32>,
        /// `[rows, classes]`.
        target_probs: Option<Vec<f32>>,
        /// `[rows]`.
        sample_weights: Option<Vec<f32>>,
    },
    /// Counts to live weights.
    Weights {
        /// With live class weights.
        spec: Spec,
        /// Rows and classes.
        shape: Shape,
        /// `[classes]`.
        counts: Vec<u32>,
    },
    /// Predictions and costs.
    Gather {
        /// With or without a cost matrix.
        spec: Spec,
        /// The shape.
        shape: Shape,
        /// In the layout of the shape.
        logits: Vec<f32>,
        /// `[rows]`.
        labels: Vec<i32>,
    },
}

/// What the oracle says to a call.
#[derive(Clone, Debug)]
pub struct Solved {
    /// For the settings as the crate takes them; `None` but for a loss.
    pub raw: Option<Output<f64>>,
    /// The same of a sigmoid loss.
    pub binary: Option<BinaryOutput<f64>>,
    /// For the settings of the reference.
    pub answer: Answer,
}

impl Call {
    /// Asks the oracle.
    ///
    /// # Errors
    /// [`InputError`] where the slices do not fit.
    pub fn solve(&self) -> Result<Solved, InputError> {
        let numbers = |values: Vec<f64>| Numbers { values, errors: Vec::new() };
        let empty = Answer::default();
        Ok(match self {
            Self::Loss(loss) => {
                let raw = cpu::compute(&loss.spec, &loss.shape, &loss.inputs())?;
                let Output {
                    totals,
                    row_losses,
                    logit_grads,
                    class_counts,
                    class_weights,
                    predictions,
                    class_stats,
                    ..
                } = loss.exact(&raw)?;
                let answer = Answer {
                    loss: Number::exact(totals.loss),
                    loss_sum: Number::exact(totals.loss_sum),
                    denominator: Number::exact(totals.denominator),
                    row_losses: numbers(row_losses),
                    logit_grads: numbers(logit_grads),
                    class_weights: numbers(class_weights.unwrap_or_default()),
                    class_counts: class_counts.unwrap_or_default(),
                    correct_rows: totals.correct_rows,
                    valid_rows: totals.valid_rows,
                    predictions: predictions.unwrap_or_default(),
                    class_stats,
                    ..empty
                };
                Solved { raw: Some(raw), binary: None, answer }
            }
            Self::Binary(loss) => {
                let (raw, answer) = loss.solve()?;
                Solved { raw: None, binary: Some(raw), answer }
            }
            Self::Counts { spec, shape, labels } => {
                let class_counts = cpu::class_counts(spec, shape, labels);
                Solved { raw: None, binary: None, answer: Answer { class_counts, ..empty } }
            }
            Self::Mass { spec, shape, labels, target_probs, sample_weights } => {
                let inputs = Inputs {
                    labels,
                    target_probs: target_probs.as_deref(),
                    sample_weights: sample_weights.as_deref(),
                    ..Inputs::default()
                };
                let class_mass = numbers(cpu::class_mass(spec, shape, &inputs));
                Solved { raw: None, binary: None, answer: Answer { class_mass, ..empty } }
            }
            Self::Weights { spec, counts, .. } => {
                let class_weights = match &spec.class_weights {
                    ClassWeights::Live(live) => numbers(cpu::class_weights(live, counts)),
                    ClassWeights::None | ClassWeights::Given(_) => Numbers::default(),
                };
                Solved { raw: None, binary: None, answer: Answer { class_weights, ..empty } }
            }
            Self::Gather { spec, shape, logits, labels } => {
                let rows = cpu::cost_gather(spec, shape, logits, labels);
                let gathered = rows.iter().map(|row| (row.prediction, row.cost)).collect();
                Solved { raw: None, binary: None, answer: Answer { gathered, ..empty } }
            }
        })
    }
}

/// Reads an output from the answers to all calls.
pub type Read = Box<dyn Fn(&[Answer]) -> Vec<Number>>;

/// An expected output.
pub struct Check {
    /// Its name in the case.
    pub name: String,
    /// The expected values.
    pub want: Vec<f64>,
    /// Where they come from.
    pub read: Read,
}

/// Where the crate means something else than the framework, on purpose. The values compared are then those of the
/// crate's rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deviation {
    /// A mean over nothing is 0 with gradient 0; PyTorch gives NaN for the loss, and for the gradient of rows of
    /// weight 0.
    EmptyMean,
    /// An ignored row has gradient 0 whatever its logits hold; PyTorch multiplies NaN by 0.
    IgnoredRow,
    /// Logits are clamped to `LOGIT_LIMIT`, so that a loss stays finite in `f32`; in `f64` nothing overflows and
    /// PyTorch gives the difference of the logits.
    LogitLimit,
    /// A target or a weight of 0 contributes 0, even where the probability is 0; PyTorch gives NaN.
    ZeroTimesInfinity,
    /// A row that cannot be trained on is NaN as a whole.
    NotFinite,
    /// TensorFlow's gradient is `softmax - t`; the derivative is `softmax * sum(t) - t`.
    TrueDerivative,
    /// A row of targets that are all 0 is ignored; the framework divides by the count of class 0, or returns
    /// `softmax - 0` as the gradient.
    EmptyTarget,
    /// Where a batch has positives only, or negatives only, the side that is empty weighs 0; the framework divides 0 by 0.
    OneSidedBatch,
    /// Where a sigmoid focal loss of probabilities has a power below 1 of 0, its slope there is 0; the framework has an
    /// infinite one.
    FocalKink,
}

/// An expected output that is not compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// Its name in the case.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl LeftOut {
    /// With its reason.
    pub fn new(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { name: name.into(), reason: reason.into() }
    }
}

/// A case in the crate's terms.
#[derive(Default)]
pub struct Work {
    /// What to call.
    pub calls: Vec<Call>,
    /// What to compare.
    pub checks: Vec<Check>,
    /// Where the crate's rule replaces the framework's, without repetitions.
    pub deviations: Vec<Deviation>,
    /// Expected outputs that are none of the crate's.
    pub left_out: Vec<LeftOut>,
}

impl Work {
    /// Asks the oracle all calls.
    ///
    /// # Errors
    /// [`InputError`] where the slices of a call do not fit.
    pub fn solve(&self) -> Result<Vec<Solved>, InputError> {
        self.calls.iter().map(Call::solve).collect()
    }

    /// The checks that the answers do not pass, each with its worst element. `oracle` are the oracle's answers where
    /// `answers` are a device's.
    pub fn failures(&self, answers: &[Answer], oracle: Option<&[Answer]>) -> Vec<Failure> {
        self.checks.iter().filter_map(|check| check.failure(answers, oracle)).collect()
    }
}

/// Both sides are `f64` on the same inputs, but the expected values came from formulas that cancel where the oracle's
/// do not (`p - 1` at a confident label): the yardstick is the largest value of the tensor, and 1e-12 below that.
const ABSOLUTE: f64 = 1e-12;
const RELATIVE: f64 = 1e-9;

impl Check {
    fn failure(&self, answers: &[Answer], oracle: Option<&[Answer]>) -> Option<Failure> {
        let got = (self.read)(answers);
        let failure =
            |at: Option<Worst>| Some(Failure { output: self.name.clone(), device: oracle.is_some(), at });
        if got.len() != self.want.len() {
            return failure(None);
        }
        let oracle = oracle.map(|oracle| (self.read)(oracle));
        let largest = self.want.iter().filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.abs()));
        let own = ABSOLUTE + RELATIVE * largest;
        let mut worst: Option<(f64, Worst)> = None;
        for (index, (got, &want)) in got.iter().zip(&self.want).enumerate() {
            // A device may be as far off as its tolerance from the oracle, which may be a little off itself.
            let oracle_off = match &oracle {
                None => own,
                Some(oracle) => {
                    let off = oracle.get(index).map_or(f64::NAN, |oracle| (oracle.value - want).abs());
                    if off.is_finite() { off.min(own) } else { 0.0 }
                }
            };
            let tolerance = got.error + oracle_off;
            let apart = (got.value - want).abs();
            let ratio = match want.is_finite() {
                _ if got.value == want || (got.value.is_nan() && want.is_nan()) => 0.0,
                // Beyond `f32` a device may saturate or overflow.
                _ if oracle.is_some()
                    && want.abs() > f64::from(f32::MAX)
                    && got.value.abs() >= f64::from(f32::MAX)
                    && got.value.signum() == want.signum() =>
                {
                    0.0
                }
                true if tolerance > 0.0 && apart.is_finite() => apart / tolerance,
                _ => f64::INFINITY,
            };
            if ratio > 1.0 && worst.as_ref().is_none_or(|(highest, _)| ratio > *highest) {
                let Number { value, error: derived } = *got;
                worst = Some((ratio, Worst { index, got: value, want, derived, oracle_off }));
            }
        }
        worst.and_then(|(_, at)| failure(Some(at)))
    }
}

/// An output that is wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The output.
    pub output: String,
    /// Whether a device gave it, or the oracle.
    pub device: bool,
    /// The worst element; `None` where there is another number of elements.
    pub at: Option<Worst>,
}

/// The worst element.
#[derive(Clone, Debug)]
pub struct Worst {
    /// Where.
    pub index: usize,
    /// What came.
    pub got: f64,
    /// What was expected.
    pub want: f64,
    /// The tolerance that was derived for this element.
    pub derived: f64,
    /// What is added to it for the oracle.
    pub oracle_off: f64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Worst { index, got, want, derived, oracle_off }) = &self.at else {
            return write!(f, "{} holds another number of elements", self.output);
        };
        let (apart, tolerance) = ((got - want).abs(), derived + oracle_off);
        write!(f, "{}[{index}]: got {got:e}, expected {want:e}, {apart:.3e} apart; ", self.output)?;
        match self.device {
            true => write!(
                f,
                "tolerance {tolerance:.3e} = {derived:.3e} (what WGSL's accuracy allows for this element) + \
                 {oracle_off:.3e} (the oracle's own distance, at most 1e-12 + 1e-9 of the largest)"
            ),
            false => write!(f, "tolerance {tolerance:.3e} = 1e-12 + 1e-9 of the largest expected value"),
        }
    }
}
