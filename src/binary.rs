//! Sigmoid cross-entropy, for binary and multi-label classification: what to compute, on what, and what comes back.

use crate::error::{InputError, SpecError};
use crate::shape::Shape;
use crate::spec::CountsOver;

/// What a sigmoid loss computes. Plain data: the same value goes to the GPU and to the CPU oracle.
///
/// The default is PyTorch's `binary_cross_entropy_with_logits` without options ([`BinarySpec::pytorch`]).
///
/// A batch has `rows` rows of `columns` labels (`Shape::classes`), in any layout of [`Shape`]. For an element with logit
/// `x` and target `t`, `p = 1 / (1 + exp(-x))`, positive and negative factors `a` and `b` of its column, and
/// `t' = t (1 - label_smoothing) + label_smoothing / 2`:
///
/// ```text
/// ce     = a t' (-log p) + b (1 - t') (-log(1 - p))           softplus(-x) and softplus(x); see `BinaryScores` for others
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
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct BinarySpec {
    /// What the scores of the elements are, and so what the gradient is with respect to.
    pub scores: BinaryScores,
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
    /// An element is predicted positive where `p` is above it: from 0 to 1. Only `correct` and `correct_weight` of the
    /// totals depend on it.
    pub threshold: f32,
    /// How the elements' losses become one number, and what the gradient is divided by.
    pub reduction: BinaryReduction,
}

impl Default for BinarySpec {
    fn default() -> Self {
        Self {
            scores: BinaryScores::default(),
            pos_weight: PosWeight::default(),
            focal_gamma: 0.0,
            focal_alpha: None,
            label_smoothing: 0.0,
            ignore_value: None,
            element_weights: false,
            sample_weights: false,
            threshold: 0.5,
            counts_over: CountsOver::default(),
            reduction: BinaryReduction::default(),
        }
    }
}

/// What the scores of the elements are.
///
/// They come in the place of the logits (`BinaryInputs::logits`, `BinaryBatch::logits`), and the gradient with respect to
/// them leaves in the place of theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum BinaryScores {
    /// Logits: the crate takes the sigmoid. The exact and the fast way; the others are for models that have their own.
    #[default]
    Logits,
    /// Probabilities of positives: Keras' `from_logits=False`.
    ///
    /// With `c = clip(p, eps, 1 - eps)`, `-log p` is `-log(c + log_eps)` and `-log(1 - p)` is `-log(1 - c + log_eps)`. The
    /// focal power is of `p` as it came; where `m` is 0 and `focal_gamma` below 1, its infinite slope is taken for 0.
    ///
    /// Probabilities below 0 and above 1, infinite ones included, are taken for 0 and 1; NaN makes an element not finite.
    Probs(BinaryClip),
    /// Logits whose sigmoid is clipped as probabilities are: Keras' `from_logits=False` behind a sigmoid that it cannot
    /// look through, and `BinaryFocalCrossentropy(from_logits=True)`. The gradient is with respect to the logits.
    SigmoidProbs(BinaryClip),
}

impl BinaryScores {
    /// The clip, where there is one.
    pub fn clip(&self) -> Option<BinaryClip> {
        match self {
            Self::Logits => None,
            Self::Probs(clip) | Self::SigmoidProbs(clip) => Some(*clip),
        }
    }
}

/// Keeps probabilities within `[eps, 1 - eps]`. The gradient passes there, ends included, and is 0 outside.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BinaryClip {
    /// From 1e-30, for gradients are up to `1 / eps`, to below 1/2. Keras' is 1e-7.
    ///
    /// It is taken in `f64`, and `1 - p` is clipped like `p`: the loss of a wrong answer is at most `-log eps`, 16.118, on
    /// both sides. Keras clips in `f32`, where `1 - 1e-7` is 0.99999988, so that its negatives cost at most 15.942.
    pub eps: f64,
    /// Added within both logarithms, behind the clip: from 0 to below 1/2. 0 in Keras 3; 1e-7 in Keras 2, whose loss of a
    /// sure and right answer is a little below 0.
    pub log_eps: f64,
}

impl BinaryClip {
    /// Largest size of a logit whose sigmoid is not clipped.
    pub fn largest_logit(&self) -> f64 {
        (-self.eps).ln_1p() - self.eps.ln()
    }
}

impl Default for BinaryClip {
    fn default() -> Self {
        Self { eps: 1e-7, log_eps: 0.0 }
    }
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
    /// `columns`: the sum of the rows' losses, each the mean of its elements'. Keras `sum`; and Keras `none`, with the
    /// upstream gradient of a row at each of its elements, and [`BinaryOutput::row_losses`].
    Columns,
    /// An `f32` in a buffer of the caller's: gradient accumulation, data parallel training.
    External,
}

impl BinarySpec {
    /// PyTorch's `binary_cross_entropy_with_logits` (`BCEWithLogitsLoss`): `pos_weight` is [`PosWeight::Given`], `weight`
    /// the element weights, broadcast by the caller; torchvision's `sigmoid_focal_loss` is `focal_gamma` and `focal_alpha`
    /// (none where its alpha is negative), summed or averaged as there.
    ///
    /// What remains different: the mean over no element is 0, not NaN. An infinite logit whose side has no weight costs
    /// nothing, where PyTorch multiplies 0 by infinity and has NaN. A NaN logit makes its own element NaN and is counted.
    /// PyTorch's mean divides by the number of elements whatever the weights, as `Elements` does. Its
    /// `binary_cross_entropy` of probabilities bounds the logarithms by -100 instead of clipping: `Probs` with an `eps` of
    /// 1e-30 agrees with it where no probability is nearer to 0 or 1 than that.
    pub fn pytorch() -> Self {
        Self::default()
    }

    /// Keras' `BinaryCrossentropy(from_logits=True)` with its reduction `sum_over_batch_size`: the same as
    /// [`BinarySpec::pytorch`], for the mean over the last axis and then over rows is the mean over elements.
    ///
    /// `from_logits=False` is `scores: BinaryScores::Probs(BinaryClip::default())`; Keras 2 adds `log_eps: 1e-7`.
    /// `BinaryFocalCrossentropy` is `focal_gamma: 2.0`, with `focal_alpha: Some(0.25)` where `apply_class_balancing` is set;
    /// with `from_logits=True` it clips the sigmoid, as `BinaryScores::SigmoidProbs` does. `sample_weight` is by row. Its
    /// `sum` is `Mean(BinaryDenominator::Columns)`, its `none` the same with [`BinaryOutput::row_losses`], its
    /// `mean_with_sample_weight` is `Mean(BinaryDenominator::SampleWeightSum)`; with a mask, written as the ignore value,
    /// `sum_over_batch_size` is `ValidElements`.
    ///
    /// What remains different: the clip is at 1e-7 on both sides ([`BinaryClip::eps`]). Broadcast sample weights count once
    /// for each row in `SampleWeightSum`; where Keras divides by their sum as given, give that to `External`. Elements that
    /// are not finite are NaN and are counted.
    pub fn keras() -> Self {
        Self::default()
    }

    /// Checks the spec against a shape.
    ///
    /// # Errors
    /// [`SpecError`] names the field, what was expected and what came.
    pub fn check(&self, shape: &Shape) -> Result<(), SpecError> {
        if let Some(BinaryClip { eps, log_eps }) = self.scores.clip() {
            if !(1e-30..0.5).contains(&eps) {
                let expected = "from 1e-30 to below 1/2";
                return Err(SpecError::Range { name: "scores.eps", got: eps as f32, expected });
            }
            if !(0.0..0.5).contains(&log_eps) {
                let expected = "from 0 to below 1/2";
                return Err(SpecError::Range { name: "scores.log_eps", got: log_eps as f32, expected });
            }
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
        range("threshold", self.threshold, "from 0 to 1", unit(self.threshold))?;
        match self.ignore_value {
            Some(value) if value.is_infinite() => {
                Err(SpecError::Range { name: "ignore_value", got: value, expected: "finite or NaN" })
            }
            _ => Ok(()),
        }
    }

    /// The score above which an element is predicted positive.
    pub fn threshold_score(&self) -> f64 {
        let p = f64::from(self.threshold);
        match self.scores {
            BinaryScores::Probs(_) => p,
            // Infinite where p is 0 or 1.
            BinaryScores::Logits | BinaryScores::SigmoidProbs(_) => p.ln() - (-p).ln_1p(),
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
    /// `[rows, columns]`: logits, or what [`BinaryScores`] says. Padding is not read.
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
    /// Valid elements whose logit is NaN, or whose target or weight is not finite. Their losses and gradients are NaN.
    pub nonfinite: u32,
    /// The lowest of them: `row * columns + column`.
    pub first_bad: Option<u32>,
    /// Valid, finite elements with `(p > threshold) == (t >= 0.5)`.
    pub correct: u32,
    /// The sum of their sample weights: over `sample_weight_sum` it is Keras' weighted `binary_accuracy`.
    pub correct_weight: T,
    /// Valid elements with a weight (as in `weight_sum`) other than 0.
    pub nonzero: u32,
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

impl<T: Copy + Into<f64>> BinaryOutput<T> {
    /// `[rows]`: the mean of each row's element losses over its columns, which is Keras' loss of a row. `None` where there
    /// are no element losses. Elements that are ignored count in the mean with 0.
    pub fn row_losses(&self, shape: &Shape) -> Option<Vec<f64>> {
        let losses = self.element_losses.as_ref()?;
        let row = |row| {
            let columns = (0..shape.classes).map(|column| losses[shape.index(row, column) as usize].into());
            columns.sum::<f64>() / f64::from(shape.classes)
        };
        Some((0..shape.rows).map(row).collect())
    }
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
        assert_eq!(
            message(BinarySpec { threshold: -0.5, ..BinarySpec::default() }),
            "threshold is -0.5; it must be from 0 to 1"
        );
        let clipped = |eps, log_eps| BinarySpec {
            scores: BinaryScores::Probs(BinaryClip { eps, log_eps }),
            ..BinarySpec::default()
        };
        assert_eq!(message(clipped(0.0, 0.0)), "scores.eps is 0; it must be from 1e-30 to below 1/2");
        assert_eq!(message(clipped(1e-7, 0.5)), "scores.log_eps is 0.5; it must be from 0 to below 1/2");
        assert!(clipped(1e-7, 1e-7).check(&Shape::class_first(1, 3, 4)).is_ok());
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
