//! Sigmoid losses and gradients.

use super::{CountState, binary_counts};
use crate::binary::{
    BinaryClip, BinaryDenominator, BinaryInputs, BinaryOutput, BinaryReduction, BinaryScores, BinarySpec,
    BinaryTotals, PosWeight,
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
    /// Whether its score is NaN, or its target or a weight not finite.
    pub bad: bool,
    /// What the score is.
    pub scores: BinaryScores,
    /// The score: finite logits clamped to `LOGIT_LIMIT`, probabilities to `[0, 1]`.
    pub x: f64,
    /// Whether it is predicted positive.
    pub predicted: bool,
    /// The row's weight.
    pub sample_weight: f64,
    /// All weights that do not depend on the score but for alpha: `s e (a t + b (1 - t))`. 0 where the target is not
    /// finite.
    pub weight: f64,
    /// The loss's factor, with alpha, but for the focal power.
    pub factor: f64,
    /// The weight of `-log p`.
    pub a: f64,
    /// The weight of `-log(1 - p)`.
    pub b: f64,
    /// The smoothed target.
    pub t: f64,
    /// 1 less that.
    pub t_not: f64,
}

/// What the two answers to an element cost, and how that changes with its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BinarySides {
    /// The probability of a positive, not clipped.
    pub p: f64,
    /// 1 less that.
    pub p_not: f64,
    /// `-log p`, clipped.
    pub positive: f64,
    /// `-log(1 - p)`, clipped.
    pub negative: f64,
    /// Minus the slope of `positive`.
    pub pull: f64,
    /// The slope of `negative`.
    pub push: f64,
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
            bad: x.is_nan() || ![t.into(), sample_weight, e].into_iter().all(f64::is_finite),
            scores: spec.scores,
            x: f64::from(match spec.scores {
                BinaryScores::Probs(_) => x.clamp(0.0, 1.0),
                _ if x.is_infinite() => x,
                _ => x.clamp(-LOGIT_LIMIT, LOGIT_LIMIT),
            }),
            predicted: f64::from(x) > spec.threshold_score(),
            sample_weight,
            weight: if t.is_finite() { sample_weight * e * side } else { 0.0 },
            factor: if ratio { factor * side } else { factor },
            a: if ratio { t_smooth } else { a * t_smooth },
            b: if ratio { t_not } else { b * t_not },
            t: t_smooth,
            t_not,
        }
    }

    /// What the two answers cost.
    pub fn sides(&self) -> BinarySides {
        let x = self.x;
        match self.scores {
            BinaryScores::Logits => {
                let (p, p_not) = (sigmoid(x), sigmoid(-x));
                let log = (-x.abs()).exp().ln_1p();
                let (positive, negative) = ((-x).max(0.0) + log, x.max(0.0) + log);
                BinarySides { p, p_not, positive, negative, pull: p_not, push: p }
            }
            BinaryScores::Probs(clip) => {
                let (p, p_not) = (x, 1.0 - x);
                let inside = p.min(p_not) >= clip.eps;
                clipped(clip, p, p_not, inside, 1.0)
            }
            BinaryScores::SigmoidProbs(clip) => {
                let (p, p_not) = (sigmoid(x), sigmoid(-x));
                let inside = x.abs() <= clip.largest_logit();
                clipped(clip, p, p_not, inside, p * p_not)
            }
        }
    }

    /// The focal power `m^gamma` for a `gamma` above 0, and its slope.
    fn focus(&self, gamma: f64, sides: &BinarySides) -> (f64, f64) {
        let Self { x, t, t_not, scores, .. } = *self;
        if let BinaryScores::Probs(_) = scores {
            // m' is 1 - 2 t.
            let m = t * sides.p_not + t_not * sides.p;
            let at_zero = if m == 0.0 && gamma == 1.0 { 1.0 } else { 0.0 };
            let power = |exponent: f64, at_zero| if m > 0.0 { m.powf(exponent) } else { at_zero };
            return (power(gamma, 0.0), gamma * power(gamma - 1.0, at_zero) * (t_not - t));
        }
        // The side that the logit is on is the near one.
        let (near, far) = if x > 0.0 { (t_not, t) } else { (t, t_not) };
        let e = (-x.abs()).exp();
        let sum = far * e + near;
        let focus = if sum > 0.0 { (sum / (1.0 + e)).powf(gamma) } else { 0.0 };
        // m' / m = (1 - 2 t) p (1 - p) / m, which has a limit where m goes to 0.
        let larger = 1.0 / (1.0 + e);
        let ratio = match () {
            () if near == 0.0 => larger,
            () if sum > 0.0 => e / sum * larger,
            () => 0.0,
        };
        (focus, focus * gamma * (t_not - t) * ratio)
    }

    /// The loss, and its derivative with respect to the score.
    pub fn loss(&self, gamma: f64) -> (f64, f64) {
        let Self { a, b, factor, .. } = *self;
        if factor == 0.0 {
            return (0.0, 0.0);
        }
        let sides = self.sides();
        // A side without weight costs nothing, even where the logit is infinite.
        let times = |weight: f64, cost: f64| if weight == 0.0 { 0.0 } else { weight * cost };
        let ce = times(a, sides.positive) + times(b, sides.negative);
        let slope = b * sides.push - a * sides.pull;
        if gamma == 0.0 {
            return (factor * ce, factor * slope);
        }
        let (focus, turn) = self.focus(gamma, &sides);
        (factor * times(focus, ce), factor * (focus * slope + times(turn, ce)))
    }
}

fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x > 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// Clipped costs: what is clipped is the smaller of `p` and `p_not`, and the other is 1 less that. `slope` is that of `p`.
fn clipped(clip: BinaryClip, p: f64, p_not: f64, inside: bool, slope: f64) -> BinarySides {
    let BinaryClip { eps, log_eps } = clip;
    let least = if inside { p.min(p_not) } else { eps };
    let (unlikely, likely) = (-(least + log_eps).ln(), -(log_eps - least).ln_1p());
    let (positive, negative) = if p > p_not { (likely, unlikely) } else { (unlikely, likely) };
    let (pull, push) = if inside { (slope / (p + log_eps), slope / (p_not + log_eps)) } else { (0.0, 0.0) };
    BinarySides { p, p_not, positive, negative, pull, push }
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
        BinaryReduction::Mean(BinaryDenominator::Columns) => shape.classes.into(),
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
            if element.predicted == (inputs.targets[at] >= 0.5) {
                totals.correct += 1;
                totals.correct_weight += element.sample_weight;
            }
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
