//! Sigmoid cross-entropy, for binary and multi-label classification: what to compute, on what, and what comes back.

use crate::error::{InputError, SpecError};
use crate::inputs::Totals;
use crate::shape::Shape;
use crate::spec::CountsOver;

/// What a sigmoid loss computes. Plain data: the same value goes to the GPU and to the CPU oracle.
///
/// The default is PyTorch's `binary_cross_entropy_with_logits` without options.
///
/// A batch has `rows` rows of `columns` labels (`Shape::classes`), class-last. For an element with logit `x` and target
/// `t`, `p = 1 / (1 + exp(-x))`, positive and negative factors `a` and `b` of its column, and
/// `t' = t (1 - label_smoothing) + label_smoothing / 2`:
///
/// ```text
/// ce     = a t' softplus(-x) + b (1 - t') softplus(x)
/// m      = t' (1 - p) + (1 - t') p                            (1 - p_t of the focal loss)
/// factor = v s e (focal_alpha t' + (1 - focal_alpha) (1 - t'))
/// element_losses = factor m^focal_gamma ce
/// loss   = sum element_losses / denominator
/// ```
///
/// `v` is 0 where the target is the ignore value, else 1; `s` is the row's sample weight, `e` the element's own.
/// [`PosWeight::Ratio`] takes `a` and `b` out of `ce` and multiplies the factor by `a t + b (1 - t)`: it makes a
/// difference where targets are neither 0 nor 1.
///
/// Targets are meant to be from 0 to 1. Others are taken as they are, but `m` is never below 0.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct BinarySpec {
    /// The factors of positives and negatives.
    pub pos_weight: PosWeight,
    /// Over which batches live factors count positives and negatives.
    pub counts_over: CountsOver,
    /// The focusing exponent of the focal loss, at least 0; 0 is plain cross-entropy.
    pub focal_gamma: f32,
    /// The weight of positives against negatives, from 0 to 1: torchvision's and Keras' `alpha`.
    pub focal_alpha: Option<f32>,
    /// Mixes the targets with 1/2: from 0 to 1, as in Keras.
    pub label_smoothing: f32,
    /// Elements with this target have loss 0 and gradient 0, whatever their logit holds, and count in no denominator but
    /// `Elements`. NaN ignores every NaN.
    pub ignore_value: Option<f32>,
    /// Whether a weight for each element comes with the batch, in the layout of the logits.
    pub element_weights: bool,
    /// Whether a weight for each row comes with the batch: `[rows]`.
    pub sample_weights: bool,
    /// How the elements' losses become one number, and what the gradient is divided by.
    pub reduction: BinaryReduction,
}

/// The factors `a` of positives and `b` of negatives.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum PosWeight {
    /// Both 1.
    #[default]
    None,
    /// `a` is given: one value, or one for each column. `b` is 1. Finite, at least 0.
    Given(Vec<f32>),
    /// `a = negatives / positives` of the batch, `b = 1`: PyTorch's recipe for `pos_weight`, live.
    ///
    /// `negatives` is the sum of `1 - t`, `positives` the sum of `t`, over the elements that count, before smoothing.
    /// Without positives `a` is `max`; in an empty batch or column it is 1, clamped. A batch of positives only has
    /// `a = min`: give a `min` above 0 where such batches are to be trained on.
    Live {
        /// Whether each column has its own.
        per_column: bool,
        /// The least `a`. Finite, at least 0.
        min: f32,
        /// The largest `a`. Finite, at least `min`.
        max: f32,
    },
    /// `a = 1 / positive_ratio`, `b = 1 / negative_ratio`: the shares of positives and negatives among the elements that
    /// count. The factor of an empty side is 0. See [`BinarySpec`] for targets that are neither 0 nor 1.
    Ratio {
        /// Whether each column has its own.
        per_column: bool,
    },
}

impl PosWeight {
    /// Whether the batch's counts are needed.
    pub fn needs_counts(&self) -> bool {
        matches!(self, Self::Live { .. } | Self::Ratio { .. })
    }

    /// Whether there is a pair of factors for each column, and not one for all.
    pub fn per_column(&self) -> bool {
        match self {
            Self::None => false,
            Self::Given(values) => values.len() > 1,
            Self::Live { per_column, .. } | Self::Ratio { per_column } => *per_column,
        }
    }
}

/// How the elements' losses become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum BinaryReduction {
    /// No reduction: `element_losses` is the result. `loss` still holds their sum, for a log line.
    None,
    /// The sum.
    Sum,
    /// The sum divided by a [`BinaryDenominator`].
    Mean(BinaryDenominator),
}

impl Default for BinaryReduction {
    fn default() -> Self {
        Self::Mean(BinaryDenominator::default())
    }
}

/// What a mean over elements divides by; letters as in [`BinarySpec`]. A denominator of 0 gives loss 0 and gradient 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum BinaryDenominator {
    /// `rows * columns`, ignored elements included: PyTorch, and Keras without a mask.
    #[default]
    Elements,
    /// `sum v`.
    ValidElements,
    /// `sum v s e (a t + b (1 - t))`. Not the focal factors, which depend on predictions.
    WeightSum,
    /// `sum v s`: each element counts its row's weight. Keras `mean_with_sample_weight`.
    SampleWeightSum,
    /// An `f32` in a buffer of the caller's: gradient accumulation, data parallel training.
    External,
}

impl BinarySpec {
    /// Checks the spec against a shape.
    ///
    /// # Errors
    /// [`SpecError`] names the field, what was expected and what came.
    pub fn check(&self, shape: &Shape) -> Result<(), SpecError> {
        if shape.inner > 1 {
            let why = "labels of a row lie side by side; a class-first layout is as good as rows * inner rows \
                       where factors are not by column";
            return Err(SpecError::Combination { first: "inner above 1", second: "a sigmoid loss", why });
        }
        let weight = |name, index, got: f32| match got.is_finite() && got >= 0.0 {
            true => Ok(()),
            false => Err(SpecError::Weight { name, index, got }),
        };
        match &self.pos_weight {
            PosWeight::Given(values) => {
                let (got, need) = (values.len() as u64, u64::from(shape.classes));
                if got != need && got != 1 {
                    return Err(SpecError::Length { name: "pos_weight", got, need });
                }
                for (index, value) in values.iter().enumerate() {
                    weight("pos_weight", index, *value)?;
                }
            }
            PosWeight::Live { min, max, .. } => {
                weight("pos_weight.min", 0, *min)?;
                weight("pos_weight.max", 0, *max)?;
                if max < min {
                    return Err(SpecError::Range {
                        name: "pos_weight.max",
                        got: *max,
                        expected: "at least pos_weight.min",
                    });
                }
            }
            PosWeight::None | PosWeight::Ratio { .. } => {}
        }
        let range = |name, got: f32, expected, good: bool| match good && got.is_finite() {
            true => Ok(()),
            false => Err(SpecError::Range { name, got, expected }),
        };
        if let CountsOver::Ema { momentum } = self.counts_over {
            range("momentum", momentum, "from 0 to 0.9999", (0.0..=0.9999).contains(&momentum))?;
        }
        let unit = |value: f32| (0.0..=1.0).contains(&value);
        range("focal_gamma", self.focal_gamma, "finite and at least 0", self.focal_gamma >= 0.0)?;
        if let Some(alpha) = self.focal_alpha {
            range("focal_alpha", alpha, "from 0 to 1", unit(alpha))?;
        }
        range("label_smoothing", self.label_smoothing, "from 0 to 1", unit(self.label_smoothing))?;
        match self.ignore_value {
            Some(value) if value.is_infinite() => {
                Err(SpecError::Range { name: "ignore_value", got: value, expected: "finite or NaN" })
            }
            _ => Ok(()),
        }
    }

    /// Whether a target is the ignore value.
    pub fn ignores(&self, target: f32) -> bool {
        self.ignore_value.is_some_and(|value| value == target || value.is_nan() && target.is_nan())
    }
}

/// The slices of one batch, on the host. Everything by element is in the layout of the logits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BinaryInputs<'a> {
    /// `[rows, columns]`. Padding is not read.
    pub logits: &'a [f32],
    /// `[rows, columns]`: from 0 to 1.
    pub targets: &'a [f32],
    /// `[rows, columns]`, where the spec says so.
    pub element_weights: Option<&'a [f32]>,
    /// `[rows]`, where the spec says so.
    pub sample_weights: Option<&'a [f32]>,
    /// `[rows, columns]`: the gradient that arrives at each element's loss. 1 where `None`.
    pub grad_out: Option<&'a [f32]>,
    /// For [`BinaryDenominator::External`].
    pub external_denominator: Option<f32>,
}

impl BinaryInputs<'_> {
    /// Checks the slices against a spec and a shape, and those against each other.
    ///
    /// # Errors
    /// [`InputError`] names the slice, what was expected and what came.
    pub fn check(&self, spec: &BinarySpec, shape: &Shape) -> Result<(), InputError> {
        shape.check()?;
        spec.check(shape)?;
        let presence = |name, given: bool, wanted: bool| match (given, wanted) {
            (false, true) => Err(InputError::Missing { name }),
            (true, false) => Err(InputError::Unexpected { name }),
            _ => Ok(()),
        };
        presence("element_weights", self.element_weights.is_some(), spec.element_weights)?;
        presence("sample_weights", self.sample_weights.is_some(), spec.sample_weights)?;
        let external = spec.reduction == BinaryReduction::Mean(BinaryDenominator::External);
        presence("external_denominator", self.external_denominator.is_some(), external)?;
        let need = shape.logits_len();
        for (name, slice) in [
            ("logits", Some(self.logits)),
            ("targets", Some(self.targets)),
            ("element_weights", self.element_weights),
            ("grad_out", self.grad_out),
        ] {
            let got = slice.map_or(need, |slice| slice.len() as u64);
            if got < need {
                return Err(InputError::Length { name, got, need });
            }
        }
        match self.sample_weights.map(|weights| weights.len() as u64) {
            Some(got) if got != u64::from(shape.rows) => {
                Err(InputError::Length { name: "sample_weights", got, need: shape.rows.into() })
            }
            _ => Ok(()),
        }
    }
}

/// The sums and counts of one batch, by element. `T` is `f64` from the oracle and `f32` from the GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BinaryTotals<T> {
    /// `loss_sum / denominator`, or 0 where the denominator is 0.
    pub loss: T,
    /// Sum of the elements' weighted losses. NaN if any element was not finite.
    pub loss_sum: T,
    /// What the loss and the gradients were divided by; 1 without a mean.
    pub denominator: T,
    /// See [`BinaryDenominator::WeightSum`]. Targets that are not finite add nothing.
    pub weight_sum: T,
    /// See [`BinaryDenominator::SampleWeightSum`].
    pub sample_weight_sum: T,
    /// Elements that count.
    pub valid: u32,
    /// Elements whose target is the ignore value.
    pub ignored: u32,
    /// Valid elements whose logit is NaN or whose target is not finite. Their losses and gradients are NaN.
    pub nonfinite: u32,
    /// The lowest of them: `row * columns + column`.
    pub first_bad: Option<u32>,
    /// Valid, finite elements with `(x > 0) == (t >= 0.5)`.
    pub correct: u32,
    /// Valid elements with a weight (as in `weight_sum`) other than 0.
    pub nonzero: u32,
}

impl BinaryTotals<f32> {
    /// Decodes the first [`TOTALS_SIZE`](crate::kernels::TOTALS_SIZE) bytes of a table. `None` where there are fewer.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Totals::from_bytes(bytes).map(Self::from)
    }
}

impl<T> From<Totals<T>> for BinaryTotals<T> {
    /// The words are the softmax's; rows there are elements here.
    fn from(totals: Totals<T>) -> Self {
        Self {
            loss: totals.loss,
            loss_sum: totals.loss_sum,
            denominator: totals.denominator,
            weight_sum: totals.weight_sum,
            sample_weight_sum: totals.sample_weight_sum,
            valid: totals.valid_rows,
            ignored: totals.ignored_rows,
            nonfinite: totals.nonfinite_rows,
            first_bad: totals.first_bad_row,
            correct: totals.correct_rows,
            nonzero: totals.nonzero_rows,
        }
    }
}

/// What one batch gives. `T` is `f64` from the oracle and `f32` from the GPU.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BinaryOutput<T> {
    /// Sums and counts; `totals.loss` is the loss.
    pub totals: BinaryTotals<T>,
    /// Each element's loss times all its weights, *before* the denominator, in the layout of the logits; 0 in the
    /// padding. From a plan, where `BinaryOptions::element_losses` is set.
    pub element_losses: Option<Vec<T>>,
    /// The gradient with respect to the logits, in their layout; 0 in the padding.
    pub logit_grads: Vec<T>,
    /// `[columns, 2]`, or `[2]`: sums of `t` and of `1 - t`; for live factors.
    pub binary_counts: Option<Vec<T>>,
    /// `[columns, 2]`, or `[2]`: the factors `a` and `b` in use; `None` where all are 1.
    pub factors: Option<Vec<T>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_names_what_is_wrong() {
        let message = |spec: BinarySpec| spec.check(&Shape::new(4, 3)).unwrap_err().to_string();
        let given = |values: &[f32]| BinarySpec {
            pos_weight: PosWeight::Given(values.to_vec()),
            ..BinarySpec::default()
        };
        assert!(BinarySpec::default().check(&Shape::new(4, 3)).is_ok());
        assert!(given(&[2.0]).check(&Shape::new(4, 3)).is_ok());
        assert_eq!(message(given(&[1.0; 2])), "pos_weight holds 2 values; 3 are needed");
        assert_eq!(
            message(given(&[1.0, -1.0, 1.0])),
            "pos_weight[1] is -1; it must be finite and at least 0"
        );
        let live = PosWeight::Live { per_column: true, min: 2.0, max: 1.0 };
        assert_eq!(
            message(BinarySpec { pos_weight: live, ..BinarySpec::default() }),
            "pos_weight.max is 1; it must be at least pos_weight.min"
        );
        assert_eq!(
            message(BinarySpec { focal_gamma: -1.0, ..BinarySpec::default() }),
            "focal_gamma is -1; it must be finite and at least 0"
        );
        assert_eq!(
            message(BinarySpec { focal_alpha: Some(1.5), ..BinarySpec::default() }),
            "focal_alpha is 1.5; it must be from 0 to 1"
        );
        assert_eq!(
            message(BinarySpec { label_smoothing: f32::NAN, ..BinarySpec::default() }),
            "label_smoothing is NaN; it must be from 0 to 1"
        );
        assert_eq!(
            message(BinarySpec { ignore_value: Some(f32::INFINITY), ..BinarySpec::default() }),
            "ignore_value is inf; it must be finite or NaN"
        );
        let first = BinarySpec::default().check(&Shape::class_first(1, 3, 4)).unwrap_err().to_string();
        assert!(first.starts_with("inner above 1 does not go with a sigmoid loss: "), "{first}");
    }

    #[test]
    fn inputs_name_what_is_wrong() {
        let (shape, spec) = (Shape::new(2, 3), BinarySpec::default());
        let good = BinaryInputs { logits: &[0.0; 6], targets: &[0.0; 6], ..BinaryInputs::default() };
        let message =
            |inputs: BinaryInputs<'_>, spec: &BinarySpec| inputs.check(spec, &shape).unwrap_err().to_string();
        assert!(good.check(&spec, &shape).is_ok());
        assert_eq!(
            message(BinaryInputs { targets: &[0.0; 5], ..good }, &spec),
            "targets holds 5 elements; 6 are needed"
        );
        assert_eq!(
            message(BinaryInputs { element_weights: Some(&[0.0; 6]), ..good }, &spec),
            "element_weights is given; the spec does not ask for it"
        );
        let weighted = BinarySpec { sample_weights: true, ..BinarySpec::default() };
        assert_eq!(message(good, &weighted), "sample_weights is missing; the spec asks for it");
        assert_eq!(
            message(BinaryInputs { sample_weights: Some(&[1.0]), ..good }, &weighted),
            "sample_weights holds 1 elements; 2 are needed"
        );
    }
}
