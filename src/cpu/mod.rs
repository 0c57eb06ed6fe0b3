//! The CPU oracle: the mathematics in plain loops and `f64`, one short function a kernel.
//!
//! It mirrors no workgroups and no tiles; it is what the GPU kernels are measured against, what runs where
//! there is no GPU, and what to call from the tests of another framework. It is proved by central differences
//! and by cases computed with Keras, PyTorch and scikit-learn (`tests/oracle`).
//!
//! [`compute`] runs the whole flow; the functions of each step are public as well.

mod binary_counts;
mod binary_cross_entropy;
mod class_counts;
mod class_weights;
mod cost_gather;
mod cross_entropy;
mod cross_entropy_backward;
mod cross_entropy_forward;
mod denominator;
mod loss_total;

pub use binary_counts::binary_counts;
pub use binary_cross_entropy::{
    BinaryElement, BinarySides, binary_cross_entropy, binary_denominator, binary_factors, compute_binary,
    compute_binary_next,
};
pub use class_counts::{class_counts, class_mass};
pub use class_weights::{CountState, class_weights, log_prior};
pub use cost_gather::{CostGather, cost_gather};
pub use cross_entropy::cross_entropy;
pub use cross_entropy_backward::cross_entropy_backward;
pub use cross_entropy_forward::{RowStats, cross_entropy_forward};
pub(crate) use cross_entropy_forward::{ScoredRow, Terms};
pub use denominator::denominator;
pub use loss_total::{class_stats, loss_total, predictions};

use crate::error::InputError;
use crate::inputs::{Inputs, Output};
use crate::shape::Shape;
use crate::spec::{ClassWeights, CountsOver, LOGIT_LIMIT, LogitBias, Spec, Targets};

/// The whole flow on one batch: counts, weights, denominator, losses, gradients, totals, predictions and what each class
/// has; confusion counts apart, of which there may be too many ([`class_stats`] has them). Where counts go over many
/// batches, this is the first.
///
/// # Errors
/// [`InputError`] where shape, spec and slices do not fit each other.
pub fn compute(spec: &Spec, shape: &Shape, inputs: &Inputs<'_>) -> Result<Output<f64>, InputError> {
    shape.check()?;
    compute_next(spec, shape, inputs, &mut CountState::new(spec.live_counts.over, shape.classes))
}

/// The same for the next of many batches: `state` holds the counts of those before, and takes this one's.
///
/// # Errors
/// As [`compute`].
pub fn compute_next(
    spec: &Spec,
    shape: &Shape,
    inputs: &Inputs<'_>,
    state: &mut CountState,
) -> Result<Output<f64>, InputError> {
    inputs.check(spec, shape)?;
    let (live, mass) = (spec.needs_counts(), spec.counts_are_mass());
    let class_counts = (live && !mass).then(|| class_counts(spec, shape, inputs.labels));
    let class_mass = (live && mass).then(|| class_mass(spec, shape, inputs));
    let counts = match (&class_counts, &class_mass) {
        (Some(counts), _) => state.update(counts),
        (_, Some(mass)) => state.update(mass),
        _ => Vec::new(),
    };
    let values = ClassValues::new(spec, &counts);
    let counted = (live && spec.live_counts.over != CountsOver::Batch).then_some(counts);
    let mut totals = denominator(spec, shape, inputs, &values);
    let (row_losses, logit_grads) =
        cross_entropy(spec, shape, inputs, &values, totals.denominator, &mut totals);
    loss_total(&row_losses, &mut totals);
    let predictions = predictions(spec, shape, inputs, &values);
    let class_stats = class_stats(spec, shape, inputs, &values, &row_losses, &predictions, false);
    let ClassValues { class_weights, logit_bias } = values;
    Ok(Output {
        totals,
        row_losses,
        logit_grads,
        class_counts,
        class_mass,
        counted,
        class_weights,
        logit_bias,
        predictions: Some(predictions),
        class_stats: Some(class_stats),
    })
}

/// The values of each class that a step uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassValues {
    /// `[classes]`; all 1 where `None`.
    pub class_weights: Option<Vec<f64>>,
    /// `[classes]`; all 0 where `None`.
    pub logit_bias: Option<Vec<f64>>,
}

impl ClassValues {
    /// The spec's own values, or those that follow from the counts.
    pub fn new(spec: &Spec, counts: &[f64]) -> Self {
        let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect();
        Self {
            class_weights: match &spec.class_weights {
                ClassWeights::None => None,
                ClassWeights::Given(given) => Some(wide(given)),
                ClassWeights::Live(live) => Some(class_weights(live, counts)),
            },
            logit_bias: match &spec.logit_bias {
                LogitBias::None => None,
                LogitBias::Given(given) => Some(wide(given)),
                LogitBias::LogPrior { tau, smoothing } => {
                    Some(log_prior((*tau).into(), (*smoothing).into(), counts))
                }
            },
        }
    }

    /// The weight of a class.
    pub fn weight(&self, class: u32) -> f64 {
        self.class_weights.as_ref().map_or(1.0, |weights| weights[class as usize])
    }
}

/// A row's target.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The row counts.
    Counts {
        /// The class that stands for the row: the label, or the lowest class with the largest target. One that is NaN or
        /// infinite is the largest.
        class: u32,
        /// The targets that are not 0, before smoothing: class and value.
        terms: Vec<(u32, f64)>,
    },
    /// A label is the ignore index.
    Ignored,
    /// A label is neither a class nor the ignore index.
    OutOfRange,
}

impl Target {
    /// Reads a row's target.
    pub fn read(spec: &Spec, shape: &Shape, inputs: &Inputs<'_>, row: u32) -> Self {
        let i = row as usize;
        match spec.targets {
            Targets::Labels => match Label::read(spec, shape, inputs.labels[i]) {
                Label::Class(class) => Self::Counts { class, terms: vec![(class, 1.0)] },
                Label::Ignored => Self::Ignored,
                Label::OutOfRange => Self::OutOfRange,
            },
            Targets::TwoHot => {
                let read = |labels: &[i32]| Label::read(spec, shape, labels[i]);
                let mix = inputs.mix.map_or(1.0, |mix| f64::from(mix[i]));
                match (read(inputs.labels), read(inputs.second_labels.unwrap_or(inputs.labels))) {
                    (Label::Ignored, _) | (_, Label::Ignored) => Self::Ignored,
                    (Label::Class(a), Label::Class(b)) if a == b => {
                        Self::Counts { class: a, terms: vec![(a, mix + (1.0 - mix))] }
                    }
                    (Label::Class(a), Label::Class(b)) => {
                        let first = mix > 0.5 || (mix == 0.5 && a < b);
                        let terms = vec![(a, mix), (b, 1.0 - mix)];
                        Self::Counts { class: if first { a } else { b }, terms }
                    }
                    _ => Self::OutOfRange,
                }
            }
            Targets::Soft => {
                let probs = inputs.target_probs.unwrap_or_default();
                let at = |class| f64::from(probs[shape.index(row, class) as usize]);
                let size = |class| if at(class).is_finite() { at(class) } else { f64::INFINITY };
                let class = (0..shape.classes)
                    .fold(0, |best, class| if size(class) > size(best) { class } else { best });
                let terms = (0..shape.classes).map(|class| (class, at(class)));
                Self::Counts { class, terms: terms.filter(|(_, t)| *t != 0.0).collect() }
            }
        }
    }
}

/// What a label says about its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// A class.
    Class(u32),
    /// The ignore index.
    Ignored,
    /// Neither.
    OutOfRange,
}

impl Label {
    /// Reads a label. The ignore index is looked at first: it may be a class.
    pub fn read(spec: &Spec, shape: &Shape, label: i32) -> Self {
        match u32::try_from(label) {
            _ if spec.ignore_index == Some(label) => Self::Ignored,
            Ok(class) if class < shape.classes => Self::Class(class),
            _ => Self::OutOfRange,
        }
    }
}

/// The logit of a class as the mathematics takes it: finite values clamped to [`LOGIT_LIMIT`].
pub(crate) fn logit(shape: &Shape, logits: &[f32], row: u32, class: u32) -> f64 {
    let x = logits[shape.index(row, class) as usize];
    if x.is_finite() { f64::from(x.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)) } else { f64::from(x) }
}

/// All logits of a row, scaled and with their bias: what the softmax is taken of.
pub(crate) fn row_logits(
    spec: &Spec,
    shape: &Shape,
    inputs: &Inputs<'_>,
    values: &ClassValues,
    row: u32,
) -> Vec<f64> {
    let limit = f64::from(LOGIT_LIMIT);
    let adjusted = |class: u32| {
        let x = logit(shape, inputs.logits, row, class);
        let bias = values.logit_bias.as_ref().map_or(0.0, |bias| bias[class as usize]);
        let z = f64::from(spec.logit_scale) * x + bias;
        if x.is_finite() { z.clamp(-limit, limit) } else { x }
    };
    (0..shape.classes).map(adjusted).collect()
}

/// Whether a row can be trained on: no NaN, no +inf, and at least one logit above -inf.
fn is_finite_row(z: &[f64]) -> bool {
    z.iter().all(|&x| !x.is_nan() && x != f64::INFINITY) && z.iter().any(|&x| x > f64::NEG_INFINITY)
}

/// The lowest index of the largest logit, as [`logit`] takes them. Class 0 where all are -inf or NaN.
pub(crate) fn argmax(shape: &Shape, logits: &[f32], row: u32) -> u32 {
    let at = |class| logit(shape, logits, row, class);
    (0..shape.classes).fold(0, |best, class| if at(class) > at(best) { class } else { best })
}

/// The sample weight of a row, broadcast as the spec says.
pub(crate) fn sample_weight(spec: &Spec, shape: &Shape, inputs: &Inputs<'_>, row: u32) -> f64 {
    use crate::spec::SampleWeights;
    let Some(weights) = inputs.sample_weights else { return 1.0 };
    let index = match spec.sample_weights {
        SampleWeights::None => return 1.0,
        SampleWeights::PerRow => row,
        SampleWeights::PerSample => row / shape.steps,
        SampleWeights::PerStep => row % shape.steps,
    };
    f64::from(weights[index as usize])
}
