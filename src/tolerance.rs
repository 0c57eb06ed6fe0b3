//! How far a correct kernel may be from the oracle: one formula an output, derived from what WGSL promises.
//!
//! WGSL (15.7.4 of the specification): `+ - *` are correctly rounded (relative error `U = 2^-24`), `x / y` is within
//! 2.5 ulp, `exp(x)` within `3 + 2 |x|` ulp, `log(x)` within `2^-21` absolute on `[0.5, 2]` and 3 ulp elsewhere;
//! denormals may be flushed. An ulp is at most `ULP = 2^-23` of the value. Nothing here is fitted to a device.
//!
//! Let `max` be a row's largest logit. The kernels take exponentials relative to a reference within 4 of it, so the
//! arguments are at most `d = |z - max| + 4`.
//!
//! * A term of the sum goes through one exponential, then one more for each time its sum is made relative to a higher
//!   reference: `k` times between invocations and at the end, and at most `d / 4` times within one, because that
//!   reference only moves by 4 or more. The arguments add up to at most `d + 4`. So a term's relative error is
//!   `ULP (3 (1 + k + d / 4) + 2 (d + 4)) + U (d + 4) + U (k + d / 4)`.
//! * A sum of positive terms, `n` of them one after the other, adds `n U`.
//! * `p = exp(z - reference) / sum` has the errors of one exponential, or of two where the terms of the sum are kept, of the
//!   sum and of a division.
//! * `1 - p` and `-log p` of the largest class come from the others' sum `r`: `r / (1 + r)` and `log(1 + r)`, both with the
//!   relative error of `r`; those of any other class, whose `p` is at most 1/2, from `1 - p` and
//!   `(max - z) + log(1 + r)`, with the absolute errors of their parts.
//! * `z = scale x + bias` is off by `U (2 |scale x| + |bias| + |z|)`, and by the error of a live bias; every argument
//!   inherits it.
//! * `pow(q, gamma)` is `exp2(gamma log2 q)`: relative `gamma` times the error of `q`, plus `gamma` times the logarithm's,
//!   plus the exponential's.
//! * Scores that are probabilities are exact; their sum is a sum of positive terms, `n` and `1 - n` are quotients by it, and
//!   `-log n` has the relative error of `n` and the logarithm's. The ends of a clip are rounded once; where a probability
//!   is as near to one as its error, either side is right.
//! * Sums of terms of either sign have the errors of their terms and `n U` of the sum of their sizes.

use crate::config::{Config, Dtype};
use crate::cpu::{self, ClassValues, Target, sample_weight};
use crate::inputs::{Inputs, Output};
use crate::spec::{
    ClassWeights, ClipOrder, CountsOver, LiveWeights, LogitBias, Scores, Spec, Targets, WeightScheme,
    WeightScope,
};
use crate::stats::ClassStats;
use crate::wgsl::{Exchange, ROWS_PER_GROUP, SOFT_ROWS_PER_GROUP, Stage};

/// Half an ulp, relative: the error of one correctly rounded operation.
pub const U: f64 = 1.0 / (1 << 24) as f64;
/// One ulp, relative, at most.
pub const ULP: f64 = 2.0 * U;
/// The absolute error of WGSL's `log` on `[0.5, 2]`.
pub const LOG_NEAR_ONE: f64 = 1.0 / (1 << 21) as f64;
/// What a flushed denormal loses.
pub const FLUSHED: f64 = f32::MIN_POSITIVE as f64;

/// Relative error of live counts as the formulas take them: 0 for the rows of a batch, which are exact.
///
/// Mass is of terms of one sign: a product or two and a share of two labels, rounded, then the sum, once. A moving
/// average is a difference, two products and a sum a step, of which a step keeps `momentum`; its weight is another, and
/// a division. Sums over batches are rounded once.
pub fn count_error(spec: &Spec) -> f64 {
    let mass = if spec.counts_are_mass() { 4.0 * U } else { 0.0 };
    mass + over_error(spec.live_counts.over)
}

/// What counts over many batches add to the error of a batch's.
pub(crate) fn over_error(over: CountsOver) -> f64 {
    match over {
        CountsOver::Batch => 0.0,
        CountsOver::Cumulative => U,
        CountsOver::Ema { momentum } => 8.0 * U / (1.0 - f64::from(momentum)) + 3.0 * ULP,
    }
}

/// Relative error of live class weights, given the counts and their own relative error ([`count_error`]): of the worst
/// class that has rows.
///
/// `Balanced`, `Inverse` and `MedianFrequency`: conversions to `f32`, products, two divisions. Powers: `pow` is
/// `exp2(-p log2 n)` of a quotient, in two halves; for `InversePower` once for the weight and once in the sum.
/// `EffectiveNumber`: `1 - beta^n` by a series or by `1 - exp`, which is at least `1 - exp(-1/2)` then. `LogFrequency`:
/// the absolute error of a logarithm near 1.
pub fn class_weight_error<N: Copy + Into<f64>>(live: &LiveWeights, counts: &[N], count_error: f64) -> f64 {
    let counts: Vec<f64> = counts.iter().map(|&count| count.into()).collect();
    let simple = 6.0 * U + 5.0 * ULP;
    let sum = (f64::from(counts.len().div_ceil(256) as u32) + 256.0) * U;
    // Whole counts have an exact sum.
    let rows_error = if count_error > 0.0 { sum + count_error } else { 0.0 };
    let present = counts.iter().filter(|&&count| count > 0.0).map(|count| count + f64::from(live.smoothing));
    let rows: f64 = present.clone().sum();
    let least = present.clone().fold(f64::INFINITY, f64::min);
    let most = present.clone().fold(least, f64::max);
    // Of `x^p` for a quotient up to `of`: its own error, its logarithm's, that of two exponentials.
    let power = |p: f32, of: f64| {
        let (p, bits) = (f64::from(p), f64::from(p) * of.log2().max(0.0));
        let exponent = std::f64::consts::LN_2 * (p * LOG_NEAR_ONE + 4.0 * ULP * bits);
        exponent + ULP * (6.0 + 2.0 * bits) + p * (4.0 * U + 3.0 * ULP)
    };
    simple
        + match live.scheme {
            WeightScheme::Balanced => count_error + rows_error,
            WeightScheme::Inverse => count_error,
            WeightScheme::MedianFrequency => 2.0 * count_error,
            WeightScheme::InversePower(p) => {
                2.0 * power(p, most / least) + sum + f64::from(p + 1.0) * 2.0 * count_error + rows_error
            }
            WeightScheme::InverseFrequency(p) => {
                power(p, rows / least) + f64::from(p) * (count_error + rows_error)
            }
            WeightScheme::EffectiveNumber(_) => 2.0 * (14.0 * ULP + 1e-8) + sum + 2.0 * count_error,
            WeightScheme::LogFrequency(a) => {
                let least = present.fold(f64::INFINITY, |least, n| least.min((f64::from(a) + n / rows).ln()));
                (LOG_NEAR_ONE + 8.0 * U + count_error + rows_error) / least + 3.0 * ULP
            }
        }
}
/// Relative error of `log_1p`'s series: its arithmetic, and the first term left out.
const SERIES: f64 = 8.0 * ULP + 1e-8;

/// How far each output may be from the oracle's. Same shape as the output; counts must be equal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tolerances {
    /// For [`Totals::loss`](crate::Totals::loss).
    pub loss: f64,
    /// For [`Totals::loss_sum`](crate::Totals::loss_sum).
    pub loss_sum: f64,
    /// For [`Totals::denominator`](crate::Totals::denominator).
    pub denominator: f64,
    /// For [`Totals::weight_sum`](crate::Totals::weight_sum).
    pub weight_sum: f64,
    /// For [`Totals::sample_weight_sum`](crate::Totals::sample_weight_sum).
    pub sample_weight_sum: f64,
    /// `[rows]`.
    pub row_losses: Vec<f64>,
    /// In the layout of the logits.
    pub logit_grads: Vec<f64>,
    /// `[classes]`, where there are class weights.
    pub class_weights: Option<Vec<f64>>,
    /// `[classes]`, where counts are mass.
    pub class_mass: Option<Vec<f64>>,
    /// `[classes]`, for [`ClassStats::loss`].
    pub class_losses: Vec<f64>,
    /// `[classes]`, for [`ClassStats::weight`] and [`ClassStats::correct_weight`].
    pub class_weight_sums: Vec<f64>,
}

/// How a variant adds up a row.
#[derive(Clone, Copy, Debug)]
struct RowSum {
    /// Additions one after the other, from a term to the row's sum.
    additions: f64,
    /// Changes of reference between invocations, and one to the label's.
    rescalings: f64,
}

impl RowSum {
    fn of(config: &Config) -> Self {
        let (classes, variant) = (config.shape().classes, config.variant());
        let lanes = variant.lanes();
        // Some blocks of four at a time: an addition each, two to add the four, one to take them in, one for the class
        // that was on top.
        let chunks = classes.div_ceil(4 * variant.blocks * lanes);
        let mine = f64::from(variant.blocks) + 2.0 + 2.0 * f64::from(chunks);
        let between = match variant.lane_exchange() {
            Exchange::None => 0.0,
            // Within a subgroup all shares are made relative to the highest at once; at worst a workgroup is many
            // subgroups of 4, whose shares an invocation then walks over, 4 apart.
            Exchange::Subgroup => 2.0 + f64::from(lanes).log2() + f64::from(lanes.div_ceil(16)),
            // Pairs, fours, eights: two additions and a change of reference each.
            Exchange::Shuffle => 2.0 * f64::from(lanes).log2(),
            // Eight shares, then all the eighths.
            Exchange::Workgroup => 8.0 + f64::from(lanes.div_ceil(8)),
        };
        Self { additions: mine + between + 1.0, rescalings: between + 1.0 }
    }

    /// Relative error of a term of the sum.
    fn term(&self, d: f64) -> f64 {
        let times = self.rescalings + d / 4.0;
        ULP * (3.0 * (1.0 + times) + 2.0 * (d + 4.0)) + U * (d + 4.0) + U * times
    }
}

/// Relative error of a single exponential with an argument up to `d`.
fn exponential(d: f64) -> f64 {
    ULP * (3.0 + 2.0 * d) + U * d
}

/// Error of a logarithm, absolute.
fn logarithm(x: f64) -> f64 {
    if (0.5..=2.0).contains(&x) { LOG_NEAR_ONE } else { 3.0 * ULP * x.ln().abs() }
}

/// Additions one after the other in a two-stage sum over rows: within an invocation, a tree of 64, the partials of
/// an invocation, a tree again.
fn row_additions(targets: Targets, rows: u32) -> f64 {
    let group = if targets == Targets::Soft { SOFT_ROWS_PER_GROUP } else { ROWS_PER_GROUP };
    let partials = rows.div_ceil(group);
    f64::from(rows.min(group).div_ceil(64)) + 6.0 + f64::from(partials.div_ceil(64)) + 6.0
}

/// The tolerances for one batch, given the oracle's output `want` for the same spec, shape and inputs.
pub fn tolerances(config: &Config, inputs: &Inputs<'_>, want: &Output<f64>) -> Tolerances {
    let rows = row_additions(config.spec().targets, config.shape().rows);
    tolerances_of_sums(config, inputs, want, RowSum::of(config), rows)
}

/// [`tolerances`] of an implementation in `f32` that adds up one term after the other, whatever the config's strategy.
pub(crate) fn plain_tolerances(config: &Config, inputs: &Inputs<'_>, want: &Output<f64>) -> Tolerances {
    let (rows, classes) = (f64::from(config.shape().rows), f64::from(config.shape().classes));
    tolerances_of_sums(config, inputs, want, RowSum { additions: classes, rescalings: 1.0 }, rows)
}

fn tolerances_of_sums(
    config: &Config,
    inputs: &Inputs<'_>,
    want: &Output<f64>,
    row_sum: RowSum,
    row_additions: f64,
) -> Tolerances {
    let (spec, shape) = (config.spec(), config.shape());
    let batch = want.class_counts.as_ref().map(|counts| counts.iter().map(|&n| f64::from(n)).collect());
    let counts: Option<Vec<f64>> = want.counted.clone().or(want.class_mass.clone()).or(batch);
    let weight_error = match (&spec.class_weights, &counts) {
        (ClassWeights::Live(live), Some(counts)) => class_weight_error(live, counts, count_error(spec)),
        _ => 0.0,
    };
    // Each row's term is cut to a multiple of 2^-64.
    let cut = f64::from(shape.rows) / (1u128 << 64) as f64;
    let class_mass =
        want.class_mass.as_ref().map(|mass| mass.iter().map(|m| m.abs() * 4.0 * U + cut + FLUSHED).collect());
    let class_weights = want
        .class_weights
        .as_ref()
        .map(|weights| weights.iter().map(|w| w.abs() * weight_error + FLUSHED).collect());

    // Sums over rows, with the size of what is added up: weights may be negative and cancel.
    let values =
        ClassValues { class_weights: want.class_weights.clone(), logit_bias: want.logit_bias.clone() };
    let mut absolute_weights = 0.0;
    let mut absolute_sample_weights = 0.0;
    let mut valid = Vec::new();
    for row in 0..shape.rows {
        let Target::Counts { class: y, terms } = Target::read(spec, shape, inputs, row) else { continue };
        let s = sample_weight(spec, shape, inputs, row).abs();
        let w = match spec.weight_scope {
            WeightScope::PerTerm => terms.iter().map(|(class, t)| (values.weight(*class) * t).abs()).sum(),
            WeightScope::PerRow => values.weight(y),
        };
        absolute_sample_weights += s;
        absolute_weights += s * w;
        valid.push((row, y, terms));
    }
    // Two labels: a product each and their sum. Soft targets: as many as there are classes.
    let target_error = match spec.targets {
        Targets::Labels => 0.0,
        Targets::TwoHot => 4.0 * U,
        Targets::Soft => (f64::from(shape.classes.div_ceil(4)) + 4.0) * U,
    };
    let sum_error = row_additions * U;
    let weight_sum = absolute_weights * (sum_error + 2.0 * U + weight_error + target_error) + FLUSHED;
    let sample_weight_sum = absolute_sample_weights * sum_error + FLUSHED;
    let denominator = match config.variant().denominator {
        1 => weight_sum,
        3 => sample_weight_sum,
        // Counts are exact up to 2^24, then rounded once; the caller's number and 1 are exact.
        _ => want.totals.denominator.abs() * U,
    };
    let d = want.totals.denominator;
    let denominator_error = if d == 0.0 { 0.0 } else { denominator / d.abs() };

    let mut row_losses = vec![0.0; want.row_losses.len()];
    let mut logit_grads = vec![0.0; want.logit_grads.len()];
    let mut loss_sum = FLUSHED;
    let mut class_losses = vec![0.0; shape.classes as usize];
    let mut class_weight_sums = vec![0.0; shape.classes as usize];
    // Each addend is rounded to a step; the sum becomes an `f64`, as it is in the oracle after as many additions.
    let summed = |x: f64| ClassStats::SUM_STEP / 2.0 + x.abs() * f64::from(shape.rows + 1) * f64::EPSILON;
    for (row, y, terms) in valid {
        let loss = want.row_losses[row as usize];
        let weight = sample_weight(spec, shape, inputs, row) * values.weight(y);
        class_weight_sums[y as usize] += weight.abs() * (weight_error + U) + FLUSHED + summed(weight);
        if loss.is_nan() {
            continue;
        }
        let x: Vec<f64> =
            (0..shape.classes).map(|class| cpu::logit(shape, inputs.logits, row, class)).collect();
        let z = cpu::row_logits(spec, shape, inputs, &values, row);
        let mut errors = RowErrors::new(config, &row_sum, &values, &x, &z);
        let scored = cpu::ScoredRow::new(spec.scores, &z);
        if let Some(scored) = &scored {
            errors = errors.of_scores(spec.scores, scored, &z);
        }
        let gathered = match &spec.cost_matrix {
            Some(matrix) if spec.cost_gather => {
                f64::from(matrix.cost(y, cpu::argmax(shape, inputs.logits, row)))
            }
            _ => 1.0,
        };
        let weight = match spec.weight_scope {
            WeightScope::PerTerm => 1.0,
            WeightScope::PerRow => values.weight(y),
        };
        let factor = (sample_weight(spec, shape, inputs, row) * weight * gathered).abs();
        // Of the factor and the scale, what a flushed product or input of theirs loses by the time it is used.
        let factor_lost = FLUSHED * (1.0 + weight.abs()) * (1.0 + gathered.abs());
        let factor_error =
            3.0 * U + if spec.weight_scope == WeightScope::PerRow { weight_error } else { 0.0 };
        let term_weights = cpu::Terms::new(spec, &values, y, &terms, z.len());
        let (base, base_size, slopes) = match &scored {
            None => errors.base_and_slopes(&term_weights, weight_error),
            Some(scored) => errors.of_scored_row(spec.scores, scored, &term_weights, weight_error),
        };
        if loss.is_finite() {
            let size = factor * base_size;
            // Flushing before and after the factor.
            row_losses[row as usize] =
                factor * (base + FLUSHED) + size * (factor_error + U) + base_size * factor_lost + FLUSHED;
            loss_sum += row_losses[row as usize] + loss.abs() * sum_error;
            class_losses[y as usize] += row_losses[row as usize] + summed(loss);
        }

        let grad_out = inputs.grad_out.map_or(1.0, |grad_out| f64::from(grad_out[row as usize]));
        let scale_up = f64::from(spec.logit_scale);
        let scale = if d == 0.0 { 0.0 } else { (grad_out * factor * scale_up / d).abs() };
        let scale_lost = match d {
            0.0 => 0.0,
            d => {
                let product_lost = FLUSHED * (1.0 + scale_up.abs() + factor * scale_up.abs());
                FLUSHED + (product_lost + (grad_out * scale_up).abs() * factor_lost) / d.abs()
            }
        };
        let scale_error = factor_error + 4.0 * U + 2.5 * ULP + denominator_error;
        for (class, (slope, size)) in (0..).zip(slopes) {
            let at = shape.index(row, class) as usize;
            // Flushing before and after the scale; rounding to 16 bits at the end.
            let stored = match config.options().dtype {
                Dtype::F32 => 0.0,
                // One unit in the last place: WGSL does not say which way it rounds. Below 2^-14 the spacing stays.
                Dtype::F16 => want.logit_grads[at].abs() / 1024.0 + 6.0e-8,
                Dtype::Bf16 => want.logit_grads[at].abs() / 128.0,
            };
            logit_grads[at] =
                scale * (slope + size * scale_error + FLUSHED) + size * scale_lost + FLUSHED + stored;
        }
    }
    let loss = match d {
        0.0 => 0.0,
        d => loss_sum / d.abs() + want.totals.loss.abs() * (denominator_error + 2.5 * ULP) + FLUSHED,
    };
    Tolerances {
        loss,
        loss_sum,
        denominator: denominator + FLUSHED,
        weight_sum,
        sample_weight_sum,
        row_losses,
        logit_grads,
        class_weights,
        class_mass,
        class_losses,
        class_weight_sums,
    }
}

/// A class's score, as far as a clip matters.
#[derive(Clone, Copy)]
struct Clipping {
    /// `n` and its relative error.
    n: (f64, f64),
    /// `1 - n` and its relative error.
    rest: (f64, f64),
    /// The softmax's own probability and its relative error, where a clip and another sum followed.
    inner: (f64, f64),
    /// Whether a device may see it on the other side of an end of the clip.
    in_doubt: bool,
}

/// The errors of one row's softmax, or of its probabilities.
struct RowErrors {
    /// Each class: probability and its relative error.
    p: Vec<(f64, f64)>,
    /// Each class: `1 - p` and its relative error.
    q: Vec<(f64, f64)>,
    /// Each class: `-log p` and its absolute error.
    minus_log_p: Vec<(f64, f64)>,
    lse: (f64, f64),
    /// Additions one after the other in a second visit.
    additions: f64,
    top: usize,
    /// Each class, where scores are no logits.
    clipping: Vec<Clipping>,
    /// Relative error of what probabilities were divided by.
    sum: f64,
}

impl RowErrors {
    fn new(config: &Config, row_sum: &RowSum, values: &ClassValues, x: &[f64], z: &[f64]) -> Self {
        let top = (0..z.len()).fold(0, |best, j| if z[j] > z[best] { j } else { best });
        let max = z[top];
        let bias_error = match config.spec().logit_bias {
            // log of a quotient within 3.5 ulp: an absolute error near 1.
            LogitBias::LogPrior { tau, .. } => {
                let counts = match count_error(config.spec()) {
                    error if error > 0.0 => {
                        2.0 * error + f64::from(config.shape().classes.div_ceil(256) + 256) * U
                    }
                    _ => 0.0,
                };
                f64::from(tau).abs() * (LOG_NEAR_ONE + 5.0 * ULP + counts)
            }
            _ => 0.0,
        };
        let scale = f64::from(config.spec().logit_scale);
        let adjusted = scale != 1.0 || values.logit_bias.is_some();
        // Absolute error of z, and so relative of exp(z).
        let off = |j: usize| -> f64 {
            if !adjusted || !z[j].is_finite() {
                return 0.0;
            }
            let bias = values.logit_bias.as_ref().map_or(0.0, |bias| bias[j]);
            U * (2.0 * (scale * x[j]).abs() + bias.abs() * 2.0 + z[j].abs())
                + bias_error
                + bias.abs() * 3.0 * ULP * f64::from(u8::from(bias_error > 0.0))
        };
        let far = |j: usize| if z[j] == f64::NEG_INFINITY { 104.0 } else { (max - z[j]).min(104.0) };
        let e: Vec<f64> = z.iter().map(|z| (z - max).exp()).collect();
        let others = |j: &usize| *j != top;
        let rest: f64 = (0..z.len()).filter(others).map(|j| e[j]).sum();
        let of_terms: f64 =
            (0..z.len()).filter(others).map(|j| e[j] * (row_sum.term(far(j)) + off(j) + off(top))).sum();
        // Of the others' sum, relative. Terms that were flushed are lost for good.
        let lost = z.len() as f64 * FLUSHED;
        let rest_relative = if rest > 0.0 { (of_terms + lost) / rest + row_sum.additions * U } else { 0.0 };
        let sum = 1.0 + rest;
        let sum_relative = rest / sum * rest_relative + U;
        let log_sum = rest.ln_1p();
        let log_sum_error = match rest {
            // 1/2 is where the kernel changes from the series to the logarithm; either may be taken near it.
            r if r < 0.4 => r / (1.0 + r) * rest_relative + log_sum * SERIES,
            r => r / (1.0 + r) * rest_relative + U + logarithm(1.0 + r).max(LOG_NEAR_ONE),
        };
        // A term that is kept from the sum is relative to its share's largest logit, which another exponential makes relative
        // to the row's.
        let of_share =
            if config.variant().keeps_terms(Stage::CrossEntropy) { 3.0 * ULP + 2.0 * U } else { 0.0 };
        let mut this = Self {
            p: vec![],
            q: vec![],
            minus_log_p: vec![],
            lse: (0.0, 0.0),
            additions: row_sum.additions,
            top,
            clipping: vec![],
            sum: 0.0,
        };
        for (j, e) in e.iter().enumerate() {
            let p = e / sum;
            let argument = off(j) + off(top);
            // WGSL lets exp(0) be 3 ulp off 1.
            let p_relative = match j == top {
                true => 3.0 * ULP + sum_relative + 2.5 * ULP,
                false => exponential(far(j)) + of_share + argument + sum_relative + 2.5 * ULP,
            };
            this.p.push((p, p_relative));
            if j == top {
                this.q.push((rest / sum, rest_relative + sum_relative + 2.5 * ULP));
                this.minus_log_p.push((log_sum, log_sum_error));
            } else {
                let q = 1.0 - p;
                this.q.push((q, p * p_relative / q + U));
                let gap = max - z[j];
                let value = gap + log_sum;
                this.minus_log_p.push((value, gap * U + argument + log_sum_error + value * U));
            }
        }
        this.lse = (max + log_sum, off(top) + log_sum_error + (max + log_sum).abs() * U);
        this
    }

    /// From the errors of the scores' softmax, if they have one, to those of what the loss is made of.
    ///
    /// A sum of values has their errors and `additions U` of their sizes; a quotient adds a division; `1 - n` of the top
    /// class is a quotient too. A logarithm has the relative error of its argument, and its own. The ends of the clip are
    /// rounded once. Where an end is within the error, either side is right.
    fn of_scores(mut self, scores: Scores, scored: &cpu::ScoredRow, x: &[f64]) -> Self {
        let division = 2.5 * ULP;
        let classes = x.len();
        let top = (0..classes).fold(0, |best, j| if x[j] > x[best] { j } else { best });
        let near = |value: f64, error: f64, end: f64| (value - end).abs() <= error + 2.0 * U * end + FLUSHED;
        if scores == Scores::LogProbs {
            // `1 - exp` by a series near 0, else of an exponential of at most exp(-1/2).
            // A subnormal score may be flushed, and all of 1 - p with it.
            let of = |x: f64| {
                if x > -FLUSHED {
                    1.0
                } else if x > -0.5 {
                    14.0 * ULP + 1e-8
                } else {
                    3.0 * (exponential(-x).min(1.0))
                }
            };
            self.p = x.iter().map(|x| (x.exp(), exponential(x.abs().min(104.0)))).collect();
            self.q = scored.of.q.iter().zip(x).map(|(q, x)| (*q, of(*x).min(1.0))).collect();
            self.minus_log_p = x.iter().map(|x| (-x, 0.0)).collect();
            let none = Clipping { n: (0.0, 0.0), rest: (0.0, 0.0), inner: (0.0, 0.0), in_doubt: false };
            self.clipping = vec![none; classes];
            return self;
        }
        let clip = scores.clip().unwrap_or_default();
        let late = clip.order == ClipOrder::AfterNormalizing;
        // Raw probabilities and their relative errors: exact, or a softmax's.
        let raw: Vec<(f64, f64)> = match scores.are_logits() {
            true => self.p.clone(),
            false => x.iter().map(|x| (*x, 0.0)).collect(),
        };
        let raw_rest: Vec<(f64, f64)> = match scores.are_logits() {
            true => self.q.clone(),
            false => x.iter().map(|x| (1.0 - x, U)).collect(),
        };
        // What is divided, as sizes: negative scores cancel.
        let value = |j: usize| match late {
            true => (raw[j].0.abs(), raw[j].1),
            false if scored.within[j] => (raw[j].0, raw[j].1 + U),
            false => (raw[j].0.clamp(clip.eps, 1.0 - clip.eps), U),
        };
        let others = (0..classes).filter(|&j| j != top).map(value);
        let size: f64 = others.clone().map(|(v, _)| v).sum();
        let others_error: f64 =
            others.map(|(v, e)| v * e).sum::<f64>() + size * self.additions * U + FLUSHED * classes as f64;
        let of_softmax = late && scores.are_logits();
        self.sum = match of_softmax {
            true => 0.0,
            false => (others_error + value(top).0 * (value(top).1 + U)) / scored.sum + U,
        };
        let mut clipping = Vec::with_capacity(classes);
        for j in 0..classes {
            let n = scored.normalized[j];
            let (n_error, rest_error) = match of_softmax {
                true => (self.p[j].1, self.q[j].1),
                false => {
                    let n_error = value(j).1 + self.sum + division;
                    let rest = scored.rest[j].abs();
                    let rest_error = match j == top {
                        true => {
                            (others_error / scored.sum + rest * (self.sum + division)) / rest.max(FLUSHED)
                        }
                        false => n.abs() * n_error / rest.max(FLUSHED) + U,
                    };
                    (n_error, rest_error)
                }
            };
            let ((p, p_error), (q, q_error)) = match late {
                true => ((n, n_error), (scored.rest[j], rest_error)),
                false => (raw[j], raw_rest[j]),
            };
            let in_doubt = near(p, p.abs() * p_error, clip.eps) || near(q, q.abs() * q_error, clip.eps);
            let inner = if scored.inner.is_some() { raw[j] } else { (0.0, 0.0) };
            clipping.push(Clipping { n: (n, n_error), rest: (scored.rest[j], rest_error), inner, in_doubt });
        }
        let mut minus_log_p = Vec::with_capacity(classes);
        for (j, at) in clipping.iter().enumerate() {
            let log = scored.of.minus_log_p[j];
            let error = match () {
                // An end of the clip, where it comes last: a constant.
                () if late && !scored.within[j] && !at.in_doubt => log.abs() * U,
                () if of_softmax => self.minus_log_p[j].1 + 2.0 * U * log.abs(),
                () if j == top => {
                    // log(1 + others / top).
                    let quotient = size / value(top).0.max(FLUSHED);
                    let relative = others_error / size.max(FLUSHED) + value(top).1 + division + U;
                    let of_quotient = quotient / (1.0 + quotient) * relative;
                    match quotient {
                        r if r < 0.4 => of_quotient + log.abs() * SERIES + FLUSHED,
                        r => of_quotient + U + logarithm(1.0 + r).max(LOG_NEAR_ONE),
                    }
                }
                // The promise is absolute from 1/2 on; an n near it may be seen on either side.
                () if at.n.0 > 0.4 => at.n.1 + LOG_NEAR_ONE,
                () => at.n.1 + logarithm(at.n.0.max(FLUSHED)),
            };
            minus_log_p.push((log, error));
        }
        let kept = |j: usize, value: f64, error: f64| match late && !scored.within[j] && !clipping[j].in_doubt
        {
            true => (value, U),
            false => (value, error),
        };
        self.p = (0..classes).map(|j| kept(j, scored.of.p[j], clipping[j].n.1)).collect();
        self.q = (0..classes).map(|j| kept(j, scored.of.q[j], clipping[j].rest.1)).collect();
        self.minus_log_p = minus_log_p;
        self.clipping = clipping;
        self.top = top;
        self
    }

    /// [`RowErrors::base_and_slopes`] of a row whose scores are no logits: the formulas of `cpu::ScoredRow::slopes`.
    fn of_scored_row(
        &self,
        scores: Scores,
        scored: &cpu::ScoredRow,
        terms: &cpu::Terms<'_>,
        weight_error: f64,
    ) -> (f64, f64, Vec<(f64, f64)>) {
        let u_error = weight_error + 5.0 * U;
        let late = scores.clip().is_some_and(|clip| clip.order == ClipOrder::AfterNormalizing);
        let (mut base, mut size) = (0.0, 0.0);
        // Each class's g: size and error, as it counts and whether or not it does.
        let mut g = Vec::with_capacity(self.p.len());
        for (j, &u) in terms.weighted_targets.iter().enumerate() {
            let u = u.abs();
            let (loss, loss_error, value, error) = self.term(j, u, terms.gamma, u_error);
            base += loss_error;
            size += loss;
            g.push(match late {
                // On either side of the clip's end.
                true if self.clipping[j].in_doubt => (value, error + value),
                true if !scored.within[j] => (0.0, 0.0),
                _ => (value, error),
            });
        }
        if g.len() > 1 {
            base += size * (self.additions + 2.0) * U;
        }
        if scores == Scores::LogProbs {
            return (base, size, g.into_iter().map(|(value, error)| (error + value * U, value)).collect());
        }
        let sum: f64 = g.iter().map(|(g, _)| g).sum();
        let sum_error: f64 = g.iter().map(|(_, error)| error).sum::<f64>() + sum * self.additions * U;
        let held = |j: &usize| scored.inner.is_some() && (!scored.within[*j] || self.clipping[*j].in_doubt);
        let of_logits = |k: usize| {
            let Clipping { n: (p, p_error), rest: (q, q_error), .. } = self.clipping[k];
            let (p, q, (g, g_error)) = (p.abs(), q.abs(), g[k]);
            let (own, shared) = (g * q, p * sum);
            let error = g_error * q
                + own * q_error
                + p * (sum_error + 4.0 * U * sum)
                + shared * p_error
                + FLUSHED * (1.0 + sum);
            (error + (own + shared) * 3.0 * U, own + shared)
        };
        let mut held_error = 0.0;
        let mut held_size = 0.0;
        for j in (0..self.p.len()).filter(held) {
            let (error, size) = of_logits(j);
            // Sums of g and of n over the classes that are held, and their difference.
            held_error += error + (size + g[j].0) * (self.additions + 4.0) * U;
            held_size += size;
            if self.clipping[j].in_doubt {
                held_error += size;
            }
        }
        let slopes = (0..self.p.len())
            .map(|k| {
                let at = self.clipping[k];
                let (error, size) = of_logits(k);
                if scores.are_logits() {
                    let (inner, inner_error) = at.inner;
                    let doubt = if !late && at.in_doubt { size } else { 0.0 };
                    let shared = inner * held_size;
                    let held = inner * held_error + shared * (inner_error + 2.0 * U);
                    return (error + held + doubt + FLUSHED * held_size, size + shared);
                }
                // (g (1 - n) / n - others) / sum.
                let ((n, n_error), (q, q_error), (g, g_error)) = (at.n, at.rest, g[k]);
                let ratio = if g == 0.0 { 0.0 } else { (q / n).abs() };
                let own = g * ratio;
                let own_error = g_error * ratio + own * (n_error + q_error + 2.5 * ULP + 2.0 * U);
                let others_error = sum_error + 4.0 * U * sum;
                let size = (own + sum) / scored.sum;
                let doubt = if !late && at.in_doubt { size } else { 0.0 };
                let error = (own_error + others_error) / scored.sum + size * (self.sum + 2.5 * ULP + 2.0 * U);
                (error + doubt, size)
            })
            .collect();
        (base, size, slopes)
    }

    /// `(1 - p)^gamma` and its relative error.
    fn power(&self, j: usize, gamma: f64) -> (f64, f64) {
        let (q, relative) = self.q[j];
        if gamma == 0.0 {
            return (1.0, 0.0);
        }
        if q == 0.0 {
            return (0.0, 0.0);
        }
        let exponent = (gamma * q.log2()).abs();
        let log = std::f64::consts::LN_2 * gamma * (LOG_NEAR_ONE + 3.0 * ULP * q.log2().abs());
        // exp2 is promised 3 + 2 |x| ulp like exp; the product in its argument is rounded.
        // Where all of q may be lost, so may all of its power.
        let of_q = if relative < 1.0 { gamma * relative } else { gamma.max(1.0) * relative };
        let power = of_q + log + ULP * (3.0 + 2.0 * exponent) + exponent * U;
        (q.powf(gamma), power)
    }

    /// One class's term of the loss and its `g`, each as size and error. `u` is at least 0.
    fn term(&self, j: usize, u: f64, gamma: f64, u_error: f64) -> (f64, f64, f64, f64) {
        if u == 0.0 {
            return (0.0, 0.0, 0.0, 0.0);
        }
        let (power, power_error) = self.power(j, gamma);
        // A power that is flushed, or its product with the weight.
        let lost = if gamma == 0.0 { 0.0 } else { FLUSHED * (1.0 + u) };
        let ((p, p_error), (q, q_error), (log, log_error)) = (self.p[j], self.q[j], self.minus_log_p[j]);
        let (loss, loss_error) = match log.is_finite() {
            true => {
                let value = u * power * log.abs();
                let of_power = value * (power_error + u_error + 2.0 * U) + lost * log.abs();
                (value, u * power * log_error + of_power)
            }
            false => (0.0, 0.0),
        };
        // gamma p (-log p) / q + 1.
        let (ratio, ratio_error) = match () {
            () if gamma == 0.0 || p == 0.0 => (0.0, 0.0),
            () if q == 0.0 => (gamma, 0.0),
            () => {
                let ratio = (gamma * p * log / q).abs();
                (ratio, ratio * (p_error + q_error + 2.5 * ULP + 3.0 * U) + gamma * p / q * log_error)
            }
        };
        let value = u * power * (1.0 + ratio);
        let error =
            u * power * (ratio_error + U) + value * (power_error + u_error + 2.0 * U) + lost * (1.0 + ratio);
        (loss, loss_error, value, error)
    }

    /// The absolute error of a row's loss before its factor and the size of what it adds up; the same of each slope.
    fn base_and_slopes(&self, terms: &cpu::Terms<'_>, weight_error: f64) -> (f64, f64, Vec<(f64, f64)>) {
        let gamma = terms.gamma;
        // u: smoothing and mixing take some products and sums.
        let u_error = weight_error + 5.0 * U;
        let (mut base, mut size) = (0.0, 0.0);
        let mut g = Vec::with_capacity(self.p.len());
        for (j, &u) in terms.weighted_targets.iter().enumerate() {
            let (loss, loss_error, value, error) = self.term(j, u.abs(), gamma, u_error);
            base += loss_error;
            size += loss;
            g.push((value, error));
        }
        let (lse, lse_error) = self.lse;
        let z_term = terms.z_loss * lse * lse;
        base += terms.z_loss * 2.0 * lse.abs() * lse_error + 3.0 * U * z_term;
        size += z_term;
        let mut expected = (0.0, 0.0);
        for (j, (p, p_error)) in self.p.iter().enumerate() {
            expected.0 += terms.cost(j) * p;
            expected.1 += terms.cost(j) * p * (p_error + 2.0 * U);
        }
        expected.1 += expected.0 * self.additions * U;
        base += expected.1;
        size += expected.0;
        let several = g.iter().filter(|(g, _)| *g != 0.0).count() > 1 || expected.0 > 0.0;
        if several {
            base += size * (self.additions + 2.0) * U;
        }
        let sum: f64 = g.iter().map(|(g, _)| g).sum();
        let sum_error: f64 = g.iter().map(|(_, error)| error).sum::<f64>() + sum * self.additions * U;
        let slopes = (0..self.p.len())
            .map(|k| {
                let ((p, p_error), (q, q_error), (g, g_error)) = (self.p[k], self.q[k], g[k]);
                // What is left of the sum without this term. It is 0 exactly where this is the only one.
                let (others, others_error) = match several || g == 0.0 {
                    true => (sum, sum_error + 2.0 * U * sum),
                    // A second visit subtracts the term from the sum again, but not at the top class.
                    false if k != self.top => (0.0, 4.0 * U * sum),
                    false => (0.0, 0.0),
                };
                let own = g * q;
                let shared = p * others;
                let z = p * terms.z_loss * 2.0 * lse.abs();
                let cost = p * (terms.cost(k) + expected.0);
                let error = g_error * q
                    + own * q_error
                    + p * others_error
                    + shared * p_error
                    + z * (p_error + 3.0 * U)
                    + p * terms.z_loss * 2.0 * lse_error
                    + cost * (p_error + 3.0 * U)
                    + p * expected.1
                    // A probability that is flushed.
                    + FLUSHED * (others + terms.z_loss * 2.0 * lse.abs() + terms.cost(k) + expected.0);
                let size = own + shared + z + cost;
                (error + size * 3.0 * U, size)
            })
            .collect();
        (base, size, slopes)
    }
}

/// The element of an output that is furthest from the oracle's, in units of its tolerance.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Worst {
    /// The output.
    pub name: &'static str,
    /// Elements compared.
    pub elements: usize,
    /// Where the worst is.
    pub index: usize,
    /// What the device gave.
    pub got: f64,
    /// What the oracle says.
    pub want: f64,
    /// How far they may be apart.
    pub tolerance: f64,
}

impl Worst {
    /// How far apart they are, in tolerances: 1 or less passes. Infinite where one is NaN or infinite and the other
    /// is not the same.
    pub fn ratio(&self) -> f64 {
        ratio(self.got, self.want, self.tolerance)
    }

    /// Whether every element of the output is within its tolerance.
    pub fn passed(&self) -> bool {
        self.ratio() <= 1.0
    }

    /// Compares a single number with the oracle's.
    pub fn one(name: &'static str, got: f32, want: f64, tolerance: f64) -> Self {
        Self::of(name, &[got], &[want], &[tolerance])
    }

    /// Compares a count, which must be equal.
    pub fn count(name: &'static str, got: u32, want: u32) -> Self {
        Self { name, elements: 1, index: 0, got: got.into(), want: want.into(), tolerance: 0.0 }
    }

    /// Compares counts, which must be equal: the first that differs, or the first of all.
    pub fn counts<T: Copy + PartialEq + Into<u64>>(name: &'static str, got: &[T], want: &[T]) -> Self {
        let at = (0..want.len()).find(|&at| got.get(at) != want.get(at)).unwrap_or(0);
        let value = |counts: &[T]| counts.get(at).map_or(f64::NAN, |&count| count.into() as f64);
        Self { name, elements: want.len(), index: at, got: value(got), want: value(want), tolerance: 0.0 }
    }

    /// Compares an output with the oracle's. `got`, `want` and `tolerance` have one length; a missing element counts
    /// as NaN.
    pub fn of<T: Copy + Into<f64>>(name: &'static str, got: &[T], want: &[f64], tolerance: &[f64]) -> Self {
        let mut worst = Self { name, elements: want.len(), index: 0, got: 0.0, want: 0.0, tolerance: 0.0 };
        let mut highest = -1.0;
        for (index, (&want, &tolerance)) in want.iter().zip(tolerance).enumerate() {
            let got = got.get(index).copied().map_or(f64::NAN, Into::into);
            let this = ratio(got, want, tolerance);
            if this > highest {
                highest = this;
                worst = Self { index, got, want, tolerance, ..worst };
            }
        }
        worst
    }
}

fn ratio(got: f64, want: f64, tolerance: f64) -> f64 {
    let overflows = want.abs() > f64::from(f32::MAX);
    if want.is_nan() || got.is_nan() {
        return if want.is_nan() && got.is_nan() { 0.0 } else { f64::INFINITY };
    }
    // Beyond f32 a device may saturate or overflow.
    if overflows && got.signum() == want.signum() && got.abs() >= f64::from(f32::MAX) {
        return 0.0;
    }
    let apart = (got - want).abs();
    match (apart, tolerance) {
        (0.0, _) => 0.0,
        (apart, tolerance) if tolerance > 0.0 => apart / tolerance,
        _ => f64::INFINITY,
    }
}

impl std::fmt::Display for Worst {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<18} {:>10} elements  worst at {:>8}: got {:>14.7e}, oracle {:>14.7e}, apart {:.2e}, tolerance {:.2e} ({:.3})",
            self.name,
            self.elements,
            self.index,
            self.got,
            self.want,
            (self.got - self.want).abs(),
            self.tolerance,
            self.ratio(),
        )
    }
}
