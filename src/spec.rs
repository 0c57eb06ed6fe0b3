//! What to compute: one plain struct that the GPU kernels and the CPU oracle both take.

use crate::error::SpecError;

/// Logits are clamped to plus and minus this on load, so that no difference of two logits overflows `f32`.
///
/// `0x1.fep+126`, about 1.69e38. Only logits within a factor of two of `f32::MAX` are touched.
pub const LOGIT_LIMIT: f32 = f32::from_bits(0x7eff_0000);

/// What a loss computes. Plain data: the same value goes to the GPU and to the CPU oracle.
///
/// The default is PyTorch's `cross_entropy` without options: hard labels, mean over the rows (all weights 1),
/// except that it has no `ignore_index` until one is given.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct Spec {
    /// Rows with this label have loss 0 and gradient 0 and count in no denominator but `Rows`. It may be any
    /// number, a class included (that class then still takes part in the softmax of the other rows).
    pub ignore_index: Option<i32>,
    /// A factor for each row by its label's class.
    pub class_weights: ClassWeights,
    /// Whether a factor for each row comes with the batch, and how it is broadcast.
    pub sample_weights: SampleWeights,
    /// A factor for each row by its label and its prediction.
    pub cost_matrix: Option<CostMatrix>,
    /// How the rows' losses become one number, and what the gradient is divided by.
    pub reduction: Reduction,
}

/// Class weights: a factor `w[label]` on each row's loss.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ClassWeights {
    /// All 1.
    #[default]
    None,
    /// One finite value per class. Zero switches a class off; negative values are refused.
    Given(Vec<f32>),
    /// Computed on the device from the batch's own label counts.
    Live(LiveWeights),
}

/// How class weights are computed from label counts.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct LiveWeights {
    /// The formula.
    pub scheme: WeightScheme,
    /// The weight of a class that no row of the batch has. No row of this batch uses it; it is what a caller
    /// who reads the weights sees. Finite, at least 0. The default is 0.
    pub absent_weight: f32,
}

impl Default for LiveWeights {
    fn default() -> Self {
        Self { scheme: WeightScheme::default(), absent_weight: 0.0 }
    }
}

impl From<WeightScheme> for ClassWeights {
    fn from(scheme: WeightScheme) -> Self {
        Self::Live(LiveWeights { scheme, ..LiveWeights::default() })
    }
}

/// A formula from the count `n_c` of each class to its weight. `n` is the sum of the counts,
/// `present` the number of classes with a count above zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum WeightScheme {
    /// `n / (present * n_c)`: scikit-learn's `'balanced'` over the classes of this batch. The rows' weights
    /// then sum to `n`, so the weighted mean and the plain mean have the same denominator.
    #[default]
    Balanced,
    /// `1 / n_c`: each class's losses are divided by its count.
    Inverse,
}

/// Whether sample weights come with the batch, and their shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum SampleWeights {
    /// All 1.
    #[default]
    None,
    /// `[rows]`.
    PerRow,
    /// `[samples, 1]`, broadcast over the steps of [`Shape::steps`](crate::Shape::steps) without a copy.
    PerSample,
    /// `[1, steps]`, broadcast over the samples without a copy.
    PerStep,
}

/// What each mistake costs: rows are the **true** class, columns the **predicted** class.
///
/// A row's loss is multiplied by `cost[label][argmax of its logits]` (the lowest index on ties). The factor is
/// a constant for the gradient, and never part of a denominator. A zero on the diagonal removes all signal
/// from rows that are predicted right; 1 there leaves them as they are.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CostMatrix {
    classes: u32,
    values: Vec<f32>,
}

impl CostMatrix {
    /// From `values[true_class * classes + predicted_class]`.
    ///
    /// # Errors
    /// [`SpecError`] where the length is not `classes * classes`, or a cost is negative or not finite.
    pub fn from_true_predicted(classes: u32, values: Vec<f32>) -> Result<Self, SpecError> {
        let need = u64::from(classes) * u64::from(classes);
        if values.len() as u64 != need {
            return Err(SpecError::Length { name: "cost_matrix", got: values.len() as u64, need });
        }
        check_weights("cost_matrix", &values)?;
        Ok(Self { classes, values })
    }

    /// From `values[predicted_class * classes + true_class]`, the order of many copied snippets: transposed.
    ///
    /// # Errors
    /// As [`CostMatrix::from_true_predicted`].
    pub fn from_predicted_true(classes: u32, values: Vec<f32>) -> Result<Self, SpecError> {
        let matrix = Self::from_true_predicted(classes, values)?;
        let at = |true_class, predicted| matrix.cost(predicted, true_class);
        let values = (0..classes).flat_map(|t| (0..classes).map(move |p| at(t, p))).collect();
        Ok(Self { classes, values })
    }

    /// Number of classes.
    pub fn classes(&self) -> u32 {
        self.classes
    }

    /// The values, true class by true class.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The cost of predicting `predicted` where `true_class` is right.
    ///
    /// # Panics
    /// Where a class is out of range, as indexing a slice does.
    pub fn cost(&self, true_class: u32, predicted: u32) -> f32 {
        assert!(predicted < self.classes, "predicted class {predicted} of {}", self.classes);
        self.values[true_class as usize * self.classes as usize + predicted as usize]
    }
}

/// How the rows' losses become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Reduction {
    /// No reduction: `row_losses` is the result. `loss` still holds their sum, for a log line.
    None,
    /// The sum.
    Sum,
    /// The sum divided by a [`Denominator`].
    Mean(Denominator),
}

impl Default for Reduction {
    fn default() -> Self {
        Self::Mean(Denominator::default())
    }
}

/// What a mean divides by. `v` is 1 for rows that count and 0 for ignored and out-of-range ones, `s` the sample
/// weight, `w` the class weight of the label. A denominator of 0 gives loss 0 and gradient 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Denominator {
    /// `sum v s w`: PyTorch with `weight`, ONNX Runtime, Liger.
    #[default]
    WeightSum,
    /// `sum v`: Keras `sum_over_batch_size` with a mask, flash-attention, Unsloth.
    ValidRows,
    /// `sum v s`: Keras `mean_with_sample_weight`.
    SampleWeightSum,
    /// Number of rows with `v s w != 0`: TensorFlow.js' default.
    NonZeroWeights,
    /// `rows`, ignored ones included: Keras without a mask.
    Rows,
    /// An `f32` in a buffer of the caller's: gradient accumulation, data parallel training.
    External,
}

impl Spec {
    /// Checks the spec against a number of classes.
    ///
    /// # Errors
    /// [`SpecError`] names the field, what was expected and what came.
    pub fn check(&self, classes: u32) -> Result<(), SpecError> {
        match &self.class_weights {
            ClassWeights::None => {}
            ClassWeights::Given(values) => {
                if values.len() as u64 != u64::from(classes) {
                    return Err(SpecError::Length {
                        name: "class_weights",
                        got: values.len() as u64,
                        need: u64::from(classes),
                    });
                }
                check_weights("class_weights", values)?;
            }
            ClassWeights::Live(live) => check_weights("absent_weight", &[live.absent_weight])?,
        }
        if let Some(matrix) = &self.cost_matrix
            && matrix.classes != classes
        {
            return Err(SpecError::CostMatrixClasses { got: matrix.classes, classes });
        }
        Ok(())
    }
}

/// Weights that come from the host must be finite and not negative.
fn check_weights(name: &'static str, values: &[f32]) -> Result<(), SpecError> {
    match values.iter().position(|w| !w.is_finite() || *w < 0.0) {
        None => Ok(()),
        Some(index) => Err(SpecError::Weight { name, index, got: values[index] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_names_what_is_wrong() {
        let given = |w: Vec<f32>| Spec { class_weights: ClassWeights::Given(w), ..Spec::default() };
        assert_eq!(
            given(vec![1.0; 4]).check(3).unwrap_err().to_string(),
            "class_weights holds 4 values; 3 are needed"
        );
        assert_eq!(
            given(vec![1.0, f32::NAN]).check(2).unwrap_err().to_string(),
            "class_weights[1] is NaN; it must be finite and at least 0"
        );
        let matrix = CostMatrix::from_true_predicted(2, vec![1.0; 4]).unwrap();
        let spec = Spec { cost_matrix: Some(matrix), ..Spec::default() };
        assert_eq!(spec.check(3).unwrap_err().to_string(), "cost_matrix is for 2 classes; the shape has 3");
        assert!(CostMatrix::from_true_predicted(2, vec![1.0, -1.0, 0.0, 1.0]).is_err());
        assert!(Spec::default().check(1).is_ok());
    }

    #[test]
    fn cost_matrix_axes() {
        let a = CostMatrix::from_true_predicted(2, vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        let b = CostMatrix::from_predicted_true(2, vec![1.0, 3.0, 2.0, 4.0]).unwrap();
        assert_eq!(a, b);
        assert_eq!(a.cost(0, 1), 2.0);
    }

    #[test]
    fn logit_limit_leaves_room_for_a_difference() {
        // The stand-in for infinities in the shaders lies above the limit; the largest difference of two
        // stand-ins must still be finite.
        let stand_in = f32::from_bits(LOGIT_LIMIT.to_bits() + 0x8000);
        assert!((stand_in + stand_in).is_finite());
        assert!(LOGIT_LIMIT > 1.69e38 && LOGIT_LIMIT < stand_in);
    }
}
