//! The CPU oracle: the mathematics in plain loops and `f64`, one short function a kernel.
//!
//! It mirrors no workgroups and no tiles; it is what the GPU kernels are measured against, what runs where
//! there is no GPU, and what to call from the tests of another framework. It is proved by central differences
//! and by cases computed with Keras, PyTorch and scikit-learn (`tests/oracle`).
//!
//! [`compute`] runs the whole flow; the functions of each step are public as well.

mod class_counts;
mod class_weights;
mod cost_gather;
mod cross_entropy;
mod cross_entropy_backward;
mod cross_entropy_forward;
mod denominator;
mod loss_total;

pub use class_counts::class_counts;
pub use class_weights::class_weights;
pub use cost_gather::{CostGather, cost_gather};
pub use cross_entropy::cross_entropy;
pub use cross_entropy_backward::cross_entropy_backward;
pub use cross_entropy_forward::{RowStats, cross_entropy_forward};
pub use denominator::denominator;
pub use loss_total::loss_total;

use crate::error::InputError;
use crate::inputs::{Inputs, Output};
use crate::shape::Shape;
use crate::spec::{ClassWeights, LOGIT_LIMIT, Spec};

/// The whole flow on one batch: counts, weights, denominator, losses, gradients, totals.
///
/// # Errors
/// [`InputError`] where shape, spec and slices do not fit each other.
pub fn compute(spec: &Spec, shape: &Shape, inputs: &Inputs<'_>) -> Result<Output<f64>, InputError> {
    inputs.check(spec, shape)?;
    let (class_counts, class_weights) = match &spec.class_weights {
        ClassWeights::None => (None, None),
        ClassWeights::Given(given) => (None, Some(given.iter().map(|&w| f64::from(w)).collect())),
        ClassWeights::Live(live) => {
            let counts = class_counts(spec, shape, inputs.labels);
            let weights = class_weights(live, &counts);
            (Some(counts), Some(weights))
        }
    };
    let weights = class_weights.as_deref();
    let mut totals = denominator(spec, shape, inputs, weights);
    let (row_losses, logit_grads) =
        cross_entropy(spec, shape, inputs, weights, totals.denominator, &mut totals);
    loss_total(&row_losses, &mut totals);
    Ok(Output { totals, row_losses, logit_grads, class_counts, class_weights })
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
fn logit(shape: &Shape, logits: &[f32], row: u32, class: u32) -> f64 {
    let x = logits[shape.index(row, class) as usize];
    if x.is_finite() { f64::from(x.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)) } else { f64::from(x) }
}

/// All logits of a row.
fn row_logits(shape: &Shape, logits: &[f32], row: u32) -> Vec<f64> {
    (0..shape.classes).map(|class| logit(shape, logits, row, class)).collect()
}

/// Whether a row can be trained on: no NaN, no +inf, and at least one logit above -inf.
fn is_finite_row(z: &[f64]) -> bool {
    z.iter().all(|&x| !x.is_nan() && x != f64::INFINITY) && z.iter().any(|&x| x > f64::NEG_INFINITY)
}

/// The lowest index of the largest logit, as [`logit`] takes them. Class 0 where all are -inf or NaN.
fn argmax(shape: &Shape, logits: &[f32], row: u32) -> u32 {
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
