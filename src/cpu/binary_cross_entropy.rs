//! Sigmoid losses and gradients.

use super::{CountState, binary_counts};
use crate::binary::{
    BinaryDenominator, BinaryInputs, BinaryOutput, BinaryReduction, BinarySpec, BinaryTotals, PosWeight,
};
use crate::error::InputError;
use crate::shape::Shape;
use crate::spec::LOGIT_LIMIT;

/// The whole flow of a sigmoid loss on one batch: counts, factors, denominator, losses, gradients, totals. Where counts
/// go over many batches, this is the first.
///
/// # Errors
/// [`InputError`] where shape, spec and slices do not fit each other.
pub fn compute_binary(
    spec: &BinarySpec,
    shape: &Shape,
    inputs: &BinaryInputs<'_>,
) -> Result<BinaryOutput<f64>, InputError> {
    let counters = if spec.pos_weight.per_column() { 2 * shape.classes } else { 2 };
    compute_binary_next(spec, shape, inputs, &mut CountState::new(spec.counts_over, counters))
}

/// The same for the next of many batches: `state` holds the counts of those before (positives and negatives in turns),
/// and takes this one's.
///
/// # Errors
/// As [`compute_binary`].
pub fn compute_binary_next(
    spec: &BinarySpec,
    shape: &Shape,
    inputs: &BinaryInputs<'_>,
    state: &mut CountState,
) -> Result<BinaryOutput<f64>, InputError> {
    inputs.check(spec, shape)?;
    let counts = spec.pos_weight.needs_counts().then(|| binary_counts(spec, shape, inputs.targets));
    let counted = counts.as_ref().map(|counts| state.update(counts)).unwrap_or_default();
    let factors = binary_factors(&spec.pos_weight, &counted);
    let mut totals = binary_denominator(spec, shape, inputs, factors.as_deref());
    let (element_losses, logit_grads) =
        binary_cross_entropy(spec, shape, inputs, factors.as_deref(), &mut totals);
    let element_losses = Some(element_losses);
    Ok(BinaryOutput { totals, element_losses, logit_grads, binary_counts: counts, factors })
}

/// The factors of positives and negatives: `[columns, 2]`, or `[2]` for all; `None` where all are 1.
pub fn binary_factors(pos_weight: &PosWeight, counts: &[f64]) -> Option<Vec<f64>> {
    let of_counts = |factors: &dyn Fn(f64, f64) -> [f64; 2]| {
        Some(counts.chunks_exact(2).flat_map(|pair| factors(pair[0], pair[1])).collect())
    };
    match pos_weight {
        PosWeight::None => None,
        PosWeight::Given(values) => Some(values.iter().flat_map(|&a| [f64::from(a), 1.0]).collect()),
        PosWeight::Live { min, max, .. } => of_counts(&|positives, negatives| {
            let a = match () {
                () if positives > 0.0 => negatives / positives,
                () if negatives > 0.0 => f64::from(*max),
                () => 1.0,
            };
            [a.clamp((*min).into(), (*max).into()), 1.0]
        }),
        PosWeight::Ratio { .. } => of_counts(&|positives, negatives| {
            let of = |side: f64| if side > 0.0 { (positives + negatives) / side } else { 0.0 };
            [of(positives), of(negatives)]
        }),
    }
}

/// One element as the loss takes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BinaryElement {
    /// Whether its target is the ignore value. Nothing else means anything then.
    pub ignored: bool,
    /// Whether its logit is NaN or its target not finite.
    pub bad: bool,
    /// The logit; finite values clamped to `LOGIT_LIMIT`.
    pub x: f64,
    /// The row's weight.
    pub sample_weight: f64,
    /// All weights that do not depend on the logit but for alpha: `s e (a t + b (1 - t))`. 0 where the target is not
    /// finite.
    pub weight: f64,
    /// The loss's factor, with alpha, but for the focal power.
    pub factor: f64,
    /// The weight of `softplus(-x)`.
    pub a: f64,
    /// The weight of `softplus(x)`.
    pub b: f64,
    /// The smoothed target.
    pub t: f64,
    /// 1 less that.
    pub t_not: f64,
}

impl BinaryElement {
    /// Reads an element.
    pub fn read(
        spec: &BinarySpec,
        shape: &Shape,
        inputs: &BinaryInputs<'_>,
        factors: Option<&[f64]>,
        row: u32,
        column: u32,
    ) -> Self {
        let at = shape.index(row, column) as usize;
        let (x, t) = (inputs.logits[at], inputs.targets[at]);
        let limit = LOGIT_LIMIT;
        let sample_weight = inputs.sample_weights.map_or(1.0, |weights| f64::from(weights[row as usize]));
        let e = inputs.element_weights.map_or(1.0, |weights| f64::from(weights[at]));
        let pair = if spec.pos_weight.per_column() { 2 * column as usize } else { 0 };
        let (a, b) = factors.map_or((1.0, 1.0), |factors| (factors[pair], factors[pair + 1]));
        let target = f64::from(t);
        let side = a * target + b * (1.0 - target);
        let smoothing = f64::from(spec.label_smoothing);
        let smooth = |t: f64| t * (1.0 - smoothing) + smoothing / 2.0;
        let (t_smooth, t_not) = (smooth(target), smooth(1.0 - target));
        let mut factor = sample_weight * e;
        if let Some(alpha) = spec.focal_alpha {
            factor *= f64::from(alpha) * t_smooth + (1.0 - f64::from(alpha)) * t_not;
        }
        let ratio = matches!(spec.pos_weight, PosWeight::Ratio { .. });
        Self {
            ignored: spec.ignores(t),
            bad: x.is_nan() || !t.is_finite(),
            x: f64::from(if x.is_finite() { x.clamp(-limit, limit) } else { x }),
            sample_weight,
            weight: if t.is_finite() { sample_weight * e * side } else { 0.0 },
            factor: if ratio { factor * side } else { factor },
            a: if ratio { t_smooth } else { a * t_smooth },
            b: if ratio { t_not } else { b * t_not },
            t: t_smooth,
            t_not,
        }
    }

    /// The loss, and its derivative with respect to the logit.
    pub fn loss(&self, gamma: f64) -> (f64, f64) {
        let Self { x, a, b, t, t_not, factor, .. } = *self;
        if factor == 0.0 {
            return (0.0, 0.0);
        }
        let e = (-x.abs()).exp();
        let (larger, smaller) = (1.0 / (1.0 + e), e / (1.0 + e));
        let (p, p_not) = if x > 0.0 { (larger, smaller) } else { (smaller, larger) };
        // A side without weight costs nothing, even where the logit is infinite.
        let side = |weight: f64, x: f64| if weight == 0.0 { 0.0 } else { weight * (x.max(0.0) + e.ln_1p()) };
        let ce = side(a, -x) + side(b, x);
        let slope = b * p - a * p_not;
        if gamma == 0.0 {
            return (factor * ce, factor * slope);
        }
        // m = t (1 - p) + (1 - t) p; the side that the logit is on is the near one.
        let (near, far) = if x > 0.0 { (t_not, t) } else { (t, t_not) };
        let sum = far * e + near;
        let focus = if sum > 0.0 { (sum / (1.0 + e)).powf(gamma) } else { 0.0 };
        // m' / m = (1 - 2 t) p (1 - p) / m, which has a limit where m goes to 0.
        let ratio = match () {
            () if near == 0.0 => larger,
            () if sum > 0.0 => e / sum * larger,
            () => 0.0,
        };
        let turn = gamma * (t_not - t) * ratio;
        let turning = if turn == 0.0 { 0.0 } else { turn * ce };
        (if focus == 0.0 { 0.0 } else { factor * focus * ce }, factor * focus * (slope + turning))
    }
}

/// What the mean divides by, and the sums and counts that come from targets and weights alone.
pub fn binary_denominator(
    spec: &BinarySpec,
    shape: &Shape,
    inputs: &BinaryInputs<'_>,
    factors: Option<&[f64]>,
) -> BinaryTotals<f64> {
    let mut totals = BinaryTotals::default();
    for row in 0..shape.rows {
        for column in 0..shape.classes {
            let element = BinaryElement::read(spec, shape, inputs, factors, row, column);
            if element.ignored {
                totals.ignored += 1;
                continue;
            }
            totals.valid += 1;
            totals.sample_weight_sum += element.sample_weight;
            totals.weight_sum += element.weight;
            totals.nonzero += u32::from(element.weight != 0.0);
        }
    }
    totals.denominator = match spec.reduction {
        BinaryReduction::None | BinaryReduction::Sum => 1.0,
        BinaryReduction::Mean(BinaryDenominator::Elements) => {
            f64::from(shape.rows) * f64::from(shape.classes)
        }
        BinaryReduction::Mean(BinaryDenominator::ValidElements) => totals.valid.into(),
        BinaryReduction::Mean(BinaryDenominator::WeightSum) => totals.weight_sum,
        BinaryReduction::Mean(BinaryDenominator::SampleWeightSum) => totals.sample_weight_sum,
        BinaryReduction::Mean(BinaryDenominator::External) => {
            inputs.external_denominator.unwrap_or(1.0).into()
        }
    };
    totals
}

/// Losses before the denominator and gradients after it, both in the layout of the logits, and the rest of the totals.
pub fn binary_cross_entropy(
    spec: &BinarySpec,
    shape: &Shape,
    inputs: &BinaryInputs<'_>,
    factors: Option<&[f64]>,
    totals: &mut BinaryTotals<f64>,
) -> (Vec<f64>, Vec<f64>) {
    let mut losses = vec![0.0; inputs.logits.len()];
    let mut grads = vec![0.0; inputs.logits.len()];
    for row in 0..shape.rows {
        for column in 0..shape.classes {
            let at = shape.index(row, column) as usize;
            let element = BinaryElement::read(spec, shape, inputs, factors, row, column);
            if element.ignored {
                continue;
            }
            if element.bad {
                totals.nonfinite += 1;
                totals.first_bad = totals.first_bad.or(Some(row * shape.classes + column));
                (losses[at], grads[at]) = (f64::NAN, f64::NAN);
                continue;
            }
            totals.correct += u32::from((element.x > 0.0) == (inputs.targets[at] >= 0.5));
            let (loss, slope) = element.loss(spec.focal_gamma.into());
            let grad_out = inputs.grad_out.map_or(1.0, |grad_out| f64::from(grad_out[at]));
            losses[at] = loss;
            if totals.denominator != 0.0 && slope != 0.0 {
                grads[at] = grad_out * slope / totals.denominator;
            }
        }
    }
    totals.loss_sum = losses.iter().sum();
    totals.loss = match totals.denominator {
        // A NaN is not divided away.
        0.0 if !totals.loss_sum.is_nan() => 0.0,
        denominator => totals.loss_sum / denominator,
    };
    (losses, grads)
}
