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
///
/// With `z = logit_scale * x + logit_bias` for the logits `x`, `p = softmax(z)`, and targets `t` of a row:
///
/// ```text
/// t'_j = (1 - label_smoothing) t_j + label_smoothing / classes
/// u_j  = w_j t'_j                                        (WeightScope::PerTerm; PerRow: t'_j)
/// base = - sum_j u_j (1 - p_j)^focal_gamma log p_j + z_loss lse^2 + cost_lambda sum_j cost[y][j] p_j
/// row_loss = v * s * cost[y][argmax x] * base            (WeightScope::PerRow: times w_y)
/// ```
///
/// `y` is the label; the most likely target where targets are not labels. A target of 0 contributes 0 even where the
/// probability is 0.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct Spec {
    /// What the batch's `logits` hold: logits, or probabilities of somebody else's softmax.
    pub scores: Scores,
    /// What a row's target is.
    pub targets: Targets,
    /// Mixes the targets with the uniform distribution: from 0 to 1.
    pub label_smoothing: f32,
    /// Rows with this label have loss 0 and gradient 0 and count in no denominator but `Rows`. It may be any
    /// number, a class included (that class then still takes part in the softmax of the other rows).
    pub ignore_index: Option<i32>,
    /// A factor for each row by its label's class.
    pub class_weights: ClassWeights,
    /// What live class weights and a live log-prior count, and over which batches.
    pub live_counts: LiveCounts,
    /// Whether class weights multiply each term of a row's loss or the whole. It makes a difference where targets
    /// are smoothed or not labels, and to `z_loss` and `cost_lambda`.
    pub weight_scope: WeightScope,
    /// Whether a factor for each row comes with the batch, and how it is broadcast.
    pub sample_weights: SampleWeights,
    /// What each mistake costs, for `cost_gather` and `cost_lambda`.
    pub cost_matrix: Option<CostMatrix>,
    /// Whether a cost matrix is a factor for each row by its label and its prediction. On by default.
    pub cost_gather: bool,
    /// How much of the expected cost `sum_j cost[y][j] p_j`, which is differentiable, is added to a row's loss.
    pub cost_lambda: f32,
    /// The focusing exponent of the focal loss, at least 0; 0 is plain cross-entropy.
    pub focal_gamma: f32,
    /// How much of `lse^2` is added to a row's loss, at least 0.
    pub z_loss: f32,
    /// A factor on the logits, above 0. Predictions are of the logits themselves.
    pub logit_scale: f32,
    /// A term for each class's logit. Predictions are of the logits themselves.
    pub logit_bias: LogitBias,
    /// How the rows' losses become one number, and what the gradient is divided by.
    pub reduction: Reduction,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            scores: Scores::default(),
            targets: Targets::default(),
            label_smoothing: 0.0,
            ignore_index: None,
            class_weights: ClassWeights::default(),
            live_counts: LiveCounts::default(),
            weight_scope: WeightScope::default(),
            sample_weights: SampleWeights::default(),
            cost_matrix: None,
            cost_gather: true,
            cost_lambda: 0.0,
            focal_gamma: 0.0,
            z_loss: 0.0,
            logit_scale: 1.0,
            logit_bias: LogitBias::default(),
            reduction: Reduction::default(),
        }
    }
}

/// What the scores of a row are, and so what the gradient is with respect to.
///
/// The scores come in the place of the logits (`Inputs::logits`, `Batch::logits`) and the gradient leaves in the place of
/// theirs. Where they are probabilities, `base` is `- sum_j u_j (1 - c_j)^focal_gamma log c_j`, with `c` as below.
///
/// `z_loss` and `cost_lambda` are refused with any scores but logits; `logit_scale` and `logit_bias` go with
/// [`Scores::SoftmaxProbs`] too. Predictions are the argmax of the scores as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Scores {
    /// Logits: the crate takes the softmax. The exact and the fast way; the others are for models that have their own.
    #[default]
    Logits,
    /// Log-probabilities: `c = exp(x)`, not normalized again. PyTorch's `nll_loss` behind `log_softmax`.
    LogProbs,
    /// Probabilities: `c` is `x`, normalized and clipped. Keras' `from_logits=False`, scikit-learn's `log_loss`.
    ///
    /// A row whose sum is not above 0 and below [`LOGIT_LIMIT`] is not finite; with
    /// [`ClipOrder::BeforeNormalizing`] there is none.
    Probs(
        /// How they are kept away from 0 and 1.
        Clip,
    ),
    /// Logits whose softmax is clipped as probabilities are: Keras' `from_logits=False` behind a softmax that it cannot
    /// look through. The gradient is with respect to the logits.
    SoftmaxProbs(
        /// How the probabilities are kept away from 0 and 1.
        Clip,
    ),
}

impl Scores {
    /// The clip, where there is one.
    pub fn clip(&self) -> Option<Clip> {
        match self {
            Self::Logits | Self::LogProbs => None,
            Self::Probs(clip) | Self::SoftmaxProbs(clip) => Some(*clip),
        }
    }

    /// Whether a softmax is taken.
    pub fn are_logits(&self) -> bool {
        matches!(self, Self::Logits | Self::SoftmaxProbs(_))
    }
}

/// Keeps probabilities within `[eps, 1 - eps]`. The gradient passes there, ends included, and is 0 outside.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Clip {
    /// From `f32::MIN_POSITIVE` to below 1/2. Taken in `f64`: `1 - 1e-7` is no `f32`. Keras' is 1e-7.
    pub eps: f64,
    /// Whether probabilities are clipped before they are normalized or after.
    pub order: ClipOrder,
}

impl Default for Clip {
    fn default() -> Self {
        Self { eps: 1e-7, order: ClipOrder::default() }
    }
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ClipOrder {
    /// `c = clip(p / sum p)`: Keras' categorical cross-entropy, scikit-learn's log loss.
    #[default]
    AfterNormalizing,
    /// `c = clip(p) / sum clip(p)`: Keras' sparse categorical cross-entropy under TensorFlow, which takes the logarithm
    /// of the clipped probabilities for logits.
    BeforeNormalizing,
}

/// What a row's target is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Targets {
    /// One label a row.
    #[default]
    Labels,
    /// Two labels a row and the share of the first (mixup, cutmix). A row is ignored where either label is.
    TwoHot,
    /// A value for each class, in the layout of the logits. They need not sum to 1.
    Soft,
}

/// What class weights multiply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum WeightScope {
    /// Each term by its own class's weight: PyTorch.
    #[default]
    PerTerm,
    /// The whole row by its label's weight: Keras `class_weight`.
    PerRow,
}

/// A term added to each class's logit before the softmax.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum LogitBias {
    /// None.
    #[default]
    None,
    /// One finite value per class.
    Given(Vec<f32>),
    /// `tau * log((n_c + smoothing) / sum_j (n_j + smoothing))` from the batch's own label counts: logit adjustment
    /// (`tau` 1: balanced softmax). `smoothing` above 0 keeps absent classes finite.
    LogPrior {
        /// The strength.
        tau: f32,
        /// Added to each count.
        smoothing: f32,
    },
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

/// What live class statistics count: the `n_c` of the formulas.
///
/// With labels, and without `sample_weighted`, it is how many rows each class has: whole numbers, exact. In every other
/// case it is *mass*, an `f32`: the sum over the rows that count of their targets (1 for a label; the two shares of two
/// labels; each class's value of soft targets, before smoothing), times their sample weights if `sample_weighted`.
/// Terms are taken to whole multiples of 2^-64 (which loses nothing of an `f32` of 2^-41 or more), up to 2^30, and added
/// without any rounding; the sum is rounded to `f32` once. So its bits depend neither on the order of the rows nor on
/// the device. Terms that are not finite count 0. A class without mass above 0 has no rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct LiveCounts {
    /// Each row counts its sample weight.
    pub sample_weighted: bool,
    /// Over which batches.
    pub over: CountsOver,
}

/// Over which batches live class statistics go. What is beyond a batch is kept in a buffer on the device: see
/// [`CountHistory`](crate::CountHistory).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum CountsOver {
    /// The batch itself.
    #[default]
    Batch,
    /// A moving average of the batches' counts: `m = momentum m + (1 - momentum) n`, from 0, and its bias corrected:
    /// `m / (1 - momentum^steps)` is what the formulas take. In `f32`, so it is off by up to
    /// `2^-21 / (1 - momentum)` of itself. A class that has less than 2^-64 rows left has none.
    Ema {
        /// From 0, which is the batch alone, to 0.9999.
        momentum: f32,
    },
    /// The sum over all batches: 64-bit whole numbers, and 64 bits of fraction for mass. It never stops counting.
    Cumulative,
}

/// How class weights are computed from label counts.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct LiveWeights {
    /// The formula.
    pub scheme: WeightScheme,
    /// Added to the count of every class that has rows, before the formula. At least 0.
    pub smoothing: f32,
    /// The least weight of a class that has rows.
    pub min: f32,
    /// The largest weight of a class that has rows; infinity for no limit.
    pub max: f32,
    /// What "all classes" means in the formulas that ask: `Balanced` and `EffectiveNumber`.
    pub over: ClassesOver,
    /// The weight of a class that no row of the batch has. No row of this batch uses it; it is what a caller
    /// who reads the weights sees. Finite, at least 0. The default is 0.
    pub absent_weight: f32,
}

impl Default for LiveWeights {
    fn default() -> Self {
        Self {
            scheme: WeightScheme::default(),
            smoothing: 0.0,
            min: 0.0,
            max: f32::INFINITY,
            over: ClassesOver::default(),
            absent_weight: 0.0,
        }
    }
}

impl LiveWeights {
    fn check(&self) -> Result<(), SpecError> {
        check_weights("absent_weight", &[self.absent_weight])?;
        check_weights("smoothing", &[self.smoothing])?;
        check_weights("min", &[self.min])?;
        check_smoothing(self.smoothing)?;
        let range = |name, got, expected, good: bool| match good {
            true => Ok(()),
            false => Err(SpecError::Range { name, got, expected }),
        };
        range("max", self.max, "at least min", self.max >= self.min)?;
        match self.scheme {
            WeightScheme::Balanced | WeightScheme::Inverse | WeightScheme::MedianFrequency => Ok(()),
            WeightScheme::InversePower(p) | WeightScheme::InverseFrequency(p) => {
                range("power", p, "from 0 to 4", (0.0..=4.0).contains(&p))
            }
            WeightScheme::EffectiveNumber(beta) => {
                range("beta", beta as f32, "from 0 to below 1", (0.0..1.0).contains(&beta))
            }
            WeightScheme::LogFrequency(a) => {
                range("a", a, "at least 1.001 and finite", a >= 1.001 && a.is_finite())
            }
        }
    }
}

impl From<WeightScheme> for ClassWeights {
    fn from(scheme: WeightScheme) -> Self {
        Self::Live(LiveWeights { scheme, ..LiveWeights::default() })
    }
}

/// Which classes a formula counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ClassesOver {
    /// Those that have rows in the batch: scikit-learn.
    #[default]
    Present,
    /// All: the papers that assume that every class has rows.
    All,
}

/// A formula from the count `n_c` of each class to its weight. `n` is the sum of the counts,
/// `present` the number of classes with a count above zero (or of all, see [`ClassesOver`]).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum WeightScheme {
    /// `n / (present * n_c)`: scikit-learn's `'balanced'` over the classes of this batch. The rows' weights
    /// then sum to `n`, so the weighted mean and the plain mean have the same denominator.
    #[default]
    Balanced,
    /// `1 / n_c`: each class's losses are divided by its count.
    Inverse,
    /// `n_c^-p`, scaled so that `sum_c n_c w_c = n`: `p` 1 is `Balanced`, 1/2 the inverse square root, 0 no weighting.
    InversePower(
        /// The power, from 0 to 4.
        f32,
    ),
    /// `(n / n_c)^p`: `p` 1 is the inverse of a class's share of the rows, 1/2 its root.
    InverseFrequency(
        /// The power, from 0 to 4.
        f32,
    ),
    /// `(1 - beta) / (1 - beta^n_c)`, scaled so that the weights sum to `present`: Cui et al., 2019, without the
    /// cancellation that makes `beta` near 1 useless in `f32`.
    EffectiveNumber(
        /// `beta`, from 0 to below 1. Taken in `f64`: 0.99999999 is not 1.
        f64,
    ),
    /// The median of the counts of present classes, over `n_c`: SegNet.
    MedianFrequency,
    /// `1 / log(a + n_c / n)`: ENet, `a` 1.02.
    LogFrequency(
        /// `a`, at least 1.001: nearer to 1, WGSL's logarithm of a rare class's frequency could be 0.
        f32,
    ),
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
            ClassWeights::Live(live) => live.check()?,
        }
        let range = |name, got: f32, expected, good: bool| match good && got.is_finite() {
            true => Ok(()),
            false => Err(SpecError::Range { name, got, expected }),
        };
        range(
            "label_smoothing",
            self.label_smoothing,
            "from 0 to 1",
            (0.0..=1.0).contains(&self.label_smoothing),
        )?;
        range("focal_gamma", self.focal_gamma, "at least 0", self.focal_gamma >= 0.0)?;
        range("z_loss", self.z_loss, "at least 0", self.z_loss >= 0.0)?;
        range("cost_lambda", self.cost_lambda, "at least 0", self.cost_lambda >= 0.0)?;
        range("logit_scale", self.logit_scale, "above 0", self.logit_scale > 0.0)?;
        match &self.logit_bias {
            LogitBias::None => {}
            LogitBias::Given(values) => {
                if values.len() as u64 != u64::from(classes) {
                    let (got, need) = (values.len() as u64, u64::from(classes));
                    return Err(SpecError::Length { name: "logit_bias", got, need });
                }
                if let Some(bad) = values.iter().find(|value| !value.is_finite()) {
                    return Err(SpecError::Range { name: "logit_bias", got: *bad, expected: "finite" });
                }
            }
            LogitBias::LogPrior { tau, smoothing } => {
                range("tau", *tau, "finite", true)?;
                range("smoothing", *smoothing, "above 0, and no subnormal", *smoothing >= f32::MIN_POSITIVE)?;
                check_smoothing(*smoothing)?;
            }
        }
        self.check_scores()?;
        if self.cost_lambda != 0.0 && self.cost_matrix.is_none() {
            let why = "the expected cost needs a cost_matrix";
            return Err(SpecError::Combination { first: "cost_lambda", second: "no cost_matrix", why });
        }
        if self.live_counts.sample_weighted && self.sample_weights == SampleWeights::None {
            let why = "there is nothing to weight counts by";
            return Err(SpecError::Combination {
                first: "sample_weighted counts",
                second: "no sample_weights",
                why,
            });
        }
        if let CountsOver::Ema { momentum } = self.live_counts.over {
            range("momentum", momentum, "from 0 to 0.9999", (0.0..=0.9999).contains(&momentum))?;
        }
        if self.targets == Targets::Soft && self.ignore_index.is_some() {
            let why = "soft targets have no label to compare; give the row weight 0";
            return Err(SpecError::Combination { first: "ignore_index", second: "soft targets", why });
        }
        if let Some(matrix) = self.cost_matrix.as_ref().filter(|matrix| matrix.classes != classes) {
            return Err(SpecError::CostMatrixClasses { got: matrix.classes, classes });
        }
        Ok(())
    }
}

impl Spec {
    /// What is about logits goes with logits only.
    fn check_scores(&self) -> Result<(), SpecError> {
        if let Some(Clip { eps, .. }) = self.scores.clip()
            && !(f64::from(f32::MIN_POSITIVE)..0.5).contains(&eps)
        {
            let expected = "from f32::MIN_POSITIVE to below 1/2";
            return Err(SpecError::Range { name: "eps", got: eps as f32, expected });
        }
        let second = match self.scores {
            Scores::Logits => return Ok(()),
            Scores::LogProbs => "log-probabilities",
            Scores::Probs(_) => "probabilities",
            Scores::SoftmaxProbs(_) => "clipped probabilities",
        };
        let refused = |first, why| Err(SpecError::Combination { first, second, why });
        if self.z_loss != 0.0 {
            return refused("z_loss", "it is a penalty on the logarithm of a sum of exponentials of logits");
        }
        if self.cost_lambda != 0.0 {
            return refused("cost_lambda", "the expected cost is of the softmax of logits");
        }
        if self.scores.are_logits() {
            return Ok(());
        }
        if self.logit_scale != 1.0 {
            return refused("logit_scale", "it multiplies logits");
        }
        if self.logit_bias != LogitBias::None {
            return refused("logit_bias", "it is added to logits");
        }
        Ok(())
    }

    /// Whether the batch's label counts are needed: for live class weights or a live log-prior.
    pub fn needs_counts(&self) -> bool {
        matches!(self.class_weights, ClassWeights::Live(_))
            || matches!(self.logit_bias, LogitBias::LogPrior { .. })
    }

    /// Whether what is counted is mass, an `f32`, and not rows. See [`LiveCounts`].
    pub fn counts_are_mass(&self) -> bool {
        self.live_counts.sample_weighted || self.targets != Targets::Labels
    }

    /// `torch.nn.functional.cross_entropy` with its defaults: mean over the weights of the labels' classes,
    /// `ignore_index` -100, class weights on each term.
    ///
    /// What remains different: the mean of nothing is 0 here and NaN there; ignored rows may hold NaN here and poison
    /// the gradient there; labels out of range are counted here and an error there; `0 * -inf` of a target is 0 here
    /// and NaN there; with soft targets PyTorch's mean divides by the number of rows: set
    /// `Reduction::Mean(Denominator::Rows)` for those.
    pub fn pytorch() -> Self {
        Self { ignore_index: Some(-100), ..Self::default() }
    }

    /// Keras' `SparseCategoricalCrossentropy(from_logits=True)` and `CategoricalCrossentropy` under
    /// `sum_over_batch_size`: class weights on the whole row, mean over the rows that are not ignored.
    ///
    /// `from_logits=False` is [`Scores::Probs`] on a model that ends in probabilities, and [`Scores::SoftmaxProbs`] where
    /// the crate shall take the softmax and clip as Keras does; with a sparse loss under TensorFlow in
    /// [`ClipOrder::BeforeNormalizing`]. A Keras model that ends in a `Softmax` layer is trained on its logits all the
    /// same, without a clip: that is the default here.
    ///
    /// What remains different: class and sample weights multiply here and are refused together by Keras 3; the
    /// gradient of targets that do not sum to 1 is the derivative here, `softmax - t` under TensorFlow. For
    /// `mean_with_sample_weight` set `Denominator::SampleWeightSum`.
    pub fn keras() -> Self {
        Self {
            weight_scope: WeightScope::PerRow,
            reduction: Reduction::Mean(Denominator::ValidRows),
            ..Self::default()
        }
    }
}

/// The largest smoothing of counts: their sum over all classes stays far inside `f32`.
const MAX_SMOOTHING: f32 = 1e30;

fn check_smoothing(smoothing: f32) -> Result<(), SpecError> {
    match smoothing <= MAX_SMOOTHING {
        true => Ok(()),
        false => Err(SpecError::Range { name: "smoothing", got: smoothing, expected: "at most 1e30" }),
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
        let probs = Spec { scores: Scores::Probs(Clip::default()), ..Spec::default() };
        assert!(probs.check(2).is_ok());
        assert_eq!(
            Spec { logit_scale: 2.0, ..probs.clone() }.check(2).unwrap_err().to_string(),
            "logit_scale does not go with probabilities: it multiplies logits"
        );
        assert_eq!(
            Spec { z_loss: 0.1, scores: Scores::SoftmaxProbs(Clip::default()), ..probs.clone() }
                .check(2)
                .unwrap_err()
                .to_string(),
            "z_loss does not go with clipped probabilities: it is a penalty on the logarithm of a sum of \
             exponentials of logits"
        );
        let clip = Clip { eps: 0.5, ..Clip::default() };
        assert_eq!(
            Spec { scores: Scores::Probs(clip), ..Spec::default() }.check(2).unwrap_err().to_string(),
            "eps is 0.5; it must be from f32::MIN_POSITIVE to below 1/2"
        );
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
