//! One batch as host slices, and what comes back: shared by the oracle, the host call and the validation.

use crate::error::InputError;
use crate::shape::Shape;
use crate::spec::{Denominator, Reduction, SampleWeights, Spec, Targets};
use crate::stats::ClassStats;

/// One batch in host memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// `[rows, classes]` in the layout of the shape; at least [`Shape::logits_len`] elements.
    pub logits: &'a [f32],
    /// `[rows]`; empty with soft targets.
    pub labels: &'a [i32],
    /// `[rows]`: the second labels of [`Targets::TwoHot`].
    pub second_labels: Option<&'a [i32]>,
    /// `[rows]`: the share of the first label of [`Targets::TwoHot`], from 0 to 1.
    pub mix: Option<&'a [f32]>,
    /// `[rows, classes]` in the layout of the logits, for [`Targets::Soft`]; at least [`Shape::logits_len`] elements.
    pub target_probs: Option<&'a [f32]>,
    /// As [`Spec::sample_weights`] says: `[rows]`, `[samples]` or `[steps]`.
    pub sample_weights: Option<&'a [f32]>,
    /// `[rows]`: the gradient that arrives at each row's reduced loss; all 1 where absent.
    pub grad_out: Option<&'a [f32]>,
    /// For [`Denominator::External`].
    pub external_denominator: Option<f32>,
}

impl Inputs<'_> {
    /// Checks the slices against a spec and a shape, and those against each other.
    ///
    /// # Errors
    /// [`InputError`] names the slice, what was expected and what came.
    pub fn check(&self, spec: &Spec, shape: &Shape) -> Result<(), InputError> {
        shape.check()?;
        spec.check(shape.classes)?;
        if (self.logits.len() as u64) < shape.logits_len() {
            let (got, need) = (self.logits.len() as u64, shape.logits_len());
            return Err(InputError::Length { name: "logits", got, need });
        }
        let exact = |name, slice: Option<usize>, need: u32| match slice {
            Some(got) if got as u64 != u64::from(need) => {
                Err(InputError::Length { name, got: got as u64, need: u64::from(need) })
            }
            _ => Ok(()),
        };
        let labels = if spec.targets == Targets::Soft { 0 } else { shape.rows };
        exact("labels", Some(self.labels.len()), labels)?;
        let two_hot = spec.targets == Targets::TwoHot;
        presence("second_labels", self.second_labels.is_some(), two_hot)?;
        exact("second_labels", self.second_labels.map(<[i32]>::len), shape.rows)?;
        presence("mix", self.mix.is_some(), two_hot)?;
        exact("mix", self.mix.map(<[f32]>::len), shape.rows)?;
        presence("target_probs", self.target_probs.is_some(), spec.targets == Targets::Soft)?;
        let (got, need) = (self.target_probs.map(|probs| probs.len() as u64), shape.logits_len());
        if let Some(got) = got.filter(|got| *got < need) {
            return Err(InputError::Length { name: "target_probs", got, need });
        }
        exact("grad_out", self.grad_out.map(<[f32]>::len), shape.rows)?;
        let wanted = sample_weights_len(spec, shape);
        presence("sample_weights", self.sample_weights.is_some(), wanted.is_some())?;
        exact("sample_weights", self.sample_weights.map(<[f32]>::len), wanted.unwrap_or(0))?;
        let external = spec.reduction == Reduction::Mean(Denominator::External);
        presence("external_denominator", self.external_denominator.is_some(), external)
    }
}

/// How many sample weights a batch has; `None` where the spec wants none.
pub fn sample_weights_len(spec: &Spec, shape: &Shape) -> Option<u32> {
    match spec.sample_weights {
        SampleWeights::None => None,
        SampleWeights::PerRow => Some(shape.rows),
        SampleWeights::PerSample => Some(shape.samples()),
        SampleWeights::PerStep => Some(shape.steps),
    }
}

fn presence(name: &'static str, given: bool, wanted: bool) -> Result<(), InputError> {
    match (given, wanted) {
        (false, true) => Err(InputError::Missing { name }),
        (true, false) => Err(InputError::Unexpected { name }),
        _ => Ok(()),
    }
}

/// The sums and counts of one batch. `T` is `f64` from the oracle and `f32` from the GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Totals<T> {
    /// `loss_sum / denominator`, or 0 where the denominator is 0.
    pub loss: T,
    /// Sum of the rows' weighted losses. NaN if any row was not finite.
    pub loss_sum: T,
    /// What the loss and the gradients were divided by; 1 for [`Reduction::None`] and [`Reduction::Sum`].
    pub denominator: T,
    /// `sum v s w`.
    pub weight_sum: T,
    /// `sum v s`.
    pub sample_weight_sum: T,
    /// Rows that count: `sum v`.
    pub valid_rows: u32,
    /// Rows whose label is the ignore index.
    pub ignored_rows: u32,
    /// Rows whose label is neither a class nor the ignore index.
    pub out_of_range_rows: u32,
    /// Valid rows with NaN or +inf among their logits, or nothing but -inf, or targets that are not finite. Their losses and gradients are NaN.
    pub nonfinite_rows: u32,
    /// The lowest row that was out of range, not finite, or of a sample weight that is not finite.
    pub first_bad_row: Option<u32>,
    /// Valid rows whose largest logit (the first one on ties) is their label's.
    pub correct_rows: u32,
    /// Valid rows with `s w != 0`.
    pub nonzero_rows: u32,
    /// Valid rows whose sample weight is NaN or infinite; their losses and gradients are no numbers either.
    pub nonfinite_weights: u32,
}

/// What one batch gives. `T` is `f64` from the oracle and `f32` from the GPU.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Output<T> {
    /// Sums and counts; `totals.loss` is the loss.
    pub totals: Totals<T>,
    /// `[rows]`: each row's loss times all its weights, *before* the denominator.
    pub row_losses: Vec<T>,
    /// The gradient with respect to the logits, in their layout; 0 in the padding.
    pub logit_grads: Vec<T>,
    /// `[classes]`: rows of each class among the valid ones; for live class statistics.
    pub class_counts: Option<Vec<u32>>,
    /// `[classes]`: the same in mass, where [`LiveCounts`](crate::LiveCounts) says so.
    pub class_mass: Option<Vec<T>>,
    /// `[classes]`: the counts that weights and biases are made of, where they go over many batches.
    pub counted: Option<Vec<T>>,
    /// `[classes]`: the class weights in use; `None` where all are 1.
    pub class_weights: Option<Vec<T>>,
    /// `[classes]`: the logit biases in use; `None` where all are 0.
    pub logit_bias: Option<Vec<T>>,
    /// `[rows]`: the class with the largest logit; [`NO_CLASS`](crate::NO_CLASS) where the row does not count or is not
    /// finite. From the oracle, and from a device where [`Options::predictions`](crate::Options::predictions) is set.
    pub predictions: Option<Vec<u32>>,
    /// What each class has of this batch. From the oracle (without confusion counts), and from a device where the
    /// [`Options`](crate::Options) ask for it.
    pub class_stats: Option<ClassStats>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_names_what_is_wrong() {
        let shape = Shape::new(2, 3);
        let good = Inputs { logits: &[0.0; 6], labels: &[0, 1], ..Inputs::default() };
        assert!(good.check(&Spec::default(), &shape).is_ok());
        let message = |inputs: Inputs<'_>, spec: &Spec| inputs.check(spec, &shape).unwrap_err().to_string();
        let spec = Spec::default();
        assert_eq!(
            message(Inputs { logits: &[0.0; 5], ..good }, &spec),
            "logits holds 5 elements; 6 are needed"
        );
        assert_eq!(message(Inputs { labels: &[0], ..good }, &spec), "labels holds 1 elements; 2 are needed");
        assert_eq!(
            message(Inputs { sample_weights: Some(&[1.0]), ..good }, &spec),
            "sample_weights is given; the spec does not ask for it"
        );
        let weighted = Spec { sample_weights: SampleWeights::PerRow, ..Spec::default() };
        assert_eq!(message(good, &weighted), "sample_weights is missing; the spec asks for it");
        assert_eq!(
            message(Inputs { sample_weights: Some(&[1.0]), ..good }, &weighted),
            "sample_weights holds 1 elements; 2 are needed"
        );
        let external = Spec { reduction: Reduction::Mean(Denominator::External), ..Spec::default() };
        assert_eq!(message(good, &external), "external_denominator is missing; the spec asks for it");
    }
}
