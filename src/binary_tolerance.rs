//! How far a correct kernel of a sigmoid loss may be from the oracle: derived from what WGSL promises, as the formulas of
//! [`tolerance`](crate::tolerance) are. Nothing here is fitted to a device.
//!
//! With `e = exp(-|x|)`, whose relative error is `E = ULP (3 + 2 |x|)`, for each element:
//!
//! * `log(1 + e)` is a series up to `e = 1/2`, with the relative error of `e` and of its own arithmetic; above, WGSL's
//!   logarithm, `2^-21` absolute. `softplus` adds a rounding.
//! * `1 / (1 + e)` and `e / (1 + e)` are within a division, an addition and their share of `E`.
//! * Both sides' errors add up absolutely: for soft targets the slope is a difference.
//! * Clipped probabilities: the smaller of `p` and `1 - p`, `c`, is off by its own error, or by a rounding of the clip.
//!   `-log(c + log_eps)` has the relative error of its argument, and WGSL's logarithm, 3 ulp or `2^-21` near 1; the other
//!   cost is the series of `d / (1 - d)`, `d = c - log_eps`, a difference with the absolute errors of its parts. Slopes
//!   are quotients. What is clipped is told by comparing numbers that are not rounded, so that no slope jumps.
//! * `m^gamma = exp(gamma log m)`: the relative error of `m`, and the absolute one of the logarithm, times `gamma`, and one
//!   exponential of an argument `gamma |log m|`.
//! * Targets smoothed, multiplied by factors and weighted are a few roundings each.
//!
//! Sums of `n` terms, one after the other, add `n U` of the sum of their absolute values.

use crate::binary::{BinaryClip, BinaryInputs, BinaryOutput, BinaryScores, PosWeight};
use crate::binary_config::BinaryConfig;
use crate::config::Dtype;
use crate::cpu::{BinaryElement, BinarySides};
use crate::tolerance::{FLUSHED, LOG_NEAR_ONE, U, ULP, over_error};
use crate::wgsl::{ELEMENTS_PER_GROUP, Stage, positions_per_group};

/// Relative error of a division.
const DIVISION: f64 = 2.5 * ULP;
/// The least number above 0 of an `f32`.
const DENORMAL: f64 = f32::MIN_POSITIVE as f64 * f32::EPSILON as f64;
/// Relative error of the series of `log(1 + e)`: its arithmetic, and the first term left out.
const SERIES: f64 = 8.0 * ULP + 1e-8;
/// Relative error of a smoothed target, as far as both its terms are positive, or of `1 - t`.
const TARGET: f64 = 4.0 * U;

/// How far each output may be from the oracle's. Same shape as the output; numbers of elements must be equal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BinaryTolerances {
    /// For [`BinaryTotals::loss`](crate::BinaryTotals::loss).
    pub loss: f64,
    /// For [`BinaryTotals::loss_sum`](crate::BinaryTotals::loss_sum).
    pub loss_sum: f64,
    /// For [`BinaryTotals::denominator`](crate::BinaryTotals::denominator).
    pub denominator: f64,
    /// For [`BinaryTotals::weight_sum`](crate::BinaryTotals::weight_sum).
    pub weight_sum: f64,
    /// For [`BinaryTotals::sample_weight_sum`](crate::BinaryTotals::sample_weight_sum).
    pub sample_weight_sum: f64,
    /// For [`BinaryTotals::correct_weight`](crate::BinaryTotals::correct_weight).
    pub correct_weight: f64,
    /// In the layout of the logits.
    pub element_losses: Vec<f64>,
    /// In the layout of the logits.
    pub logit_grads: Vec<f64>,
    /// `[columns, 2]` or `[2]`, with live factors.
    pub binary_counts: Vec<f64>,
    /// `[columns, 2]` or `[2]`, where there are factors.
    pub factors: Vec<f64>,
}

/// Additions one after the other, from an element to the sum over the batch: an invocation's own, a tree, an invocation's
/// partial sums, a tree.
fn element_additions(config: &BinaryConfig) -> f64 {
    let groups = config.elements().div_ceil(ELEMENTS_PER_GROUP);
    let of = |stage| f64::from(config.variant_of(stage).workgroup_size);
    let (wide, narrow) = (of(Stage::BinaryElements), of(Stage::BinaryFinish));
    let trees = wide.log2() + narrow.log2();
    (f64::from(ELEMENTS_PER_GROUP) / wide).ceil() + trees + (f64::from(groups) / narrow).ceil() + 2.0
}

/// The same for counts.
fn count_additions(config: &BinaryConfig) -> f64 {
    let by_column = config.spec().pos_weight.per_column();
    let columns = config.factor_pairs();
    let width = config.variant_of(Stage::BinaryCountsRows).workgroup_size;
    let lanes = f64::from(width / columns.min(width));
    let positions = if by_column { config.shape().rows } else { config.elements() };
    let block = positions_per_group(by_column);
    f64::from(positions.min(block)) / lanes + f64::from(positions.div_ceil(block)) / lanes + 2.0 * lanes + 4.0
}

/// The errors of [`BinarySides`], absolute.
struct SideErrors {
    larger: f64,
    smaller: f64,
    positive: f64,
    negative: f64,
    pull: f64,
    push: f64,
}

/// The error of `log_1p_four(e)`, given that of `e`.
///
/// Half of the sum is a quotient, which may be flushed.
fn log_1p_error(e: f64, e_error: f64) -> f64 {
    e_error / (1.0 + e) + e.ln_1p() * SERIES + 2.0 * FLUSHED + if e > 0.4 { LOG_NEAR_ONE } else { 0.0 }
}

/// The errors of the costs of a clipped probability, the likely and the unlikely one: `least` is the smaller.
fn clipped_errors(clip: BinaryClip, least: f64, least_error: f64) -> (f64, f64) {
    let d = least - clip.log_eps;
    let d_error = least_error + U * (clip.log_eps + d.abs()) + FLUSHED;
    let rest = if d >= 0.0 { d / (1.0 - d) } else { -d };
    let likely = log_1p_error(rest, d_error / (1.0 - d).powi(2) + rest * (DIVISION + U));
    let sum = least + clip.log_eps;
    let log = sum.ln().abs() * 3.0 * ULP + if sum > 0.45 { LOG_NEAR_ONE } else { 0.0 };
    (likely, (least_error + U * clip.log_eps) / sum + U + log)
}

impl SideErrors {
    fn of(element: &BinaryElement, sides: &BinarySides) -> Self {
        let x = element.x;
        let above = sides.p > sides.p_not;
        let ordered =
            |likely: f64, unlikely: f64| if above { (likely, unlikely) } else { (unlikely, likely) };
        if let BinaryScores::Probs(clip) = element.scores {
            // 1 - p is exact where p is at least 1/2.
            let smaller = if above { FLUSHED } else { sides.p * U + FLUSHED };
            let larger = if above { 0.0 } else { U };
            let (p_error, p_not_error) = (FLUSHED, if above { FLUSHED } else { U });
            let least = sides.p.min(sides.p_not);
            let inside = least >= clip.eps;
            let (likely, unlikely) = match inside {
                true => clipped_errors(clip, least, smaller),
                false => clipped_errors(clip, clip.eps, clip.eps * U),
            };
            let (positive, negative) = ordered(likely, unlikely);
            let quotient = |slope: f64, p: f64, p_error: f64| match inside {
                true => slope * (DIVISION + 2.0 * U + p_error / (p + clip.log_eps)),
                false => 0.0,
            };
            let pull = quotient(sides.pull, sides.p, p_error);
            let push = quotient(sides.push, sides.p_not, p_not_error);
            return Self { larger, smaller, positive, negative, pull, push };
        }
        let e = (-x.abs()).exp();
        let e_error = if x.abs() > 1e3 { 1.0 } else { ULP * (3.0 + 2.0 * x.abs()) };
        let share = e / (1.0 + e) * e_error + 2.0 * U + DIVISION;
        let larger = share / (1.0 + e);
        let smaller = e / (1.0 + e) * (share + e_error) + FLUSHED;
        let (push, pull) = ordered(larger, smaller);
        let log = log_1p_error(e, e * e_error);
        let Some(clip) = element.scores.clip() else {
            return Self { larger, smaller, positive: log, negative: log, pull, push };
        };
        let inside = x.abs() <= clip.largest_logit();
        if clip.log_eps == 0.0 {
            // At the clip the logit is rounded, and so are the odds.
            let odds = clip.eps / (1.0 - clip.eps);
            let (likely, unlikely) = match inside {
                true => (log, log),
                false => {
                    let likely = log_1p_error(odds, odds * U);
                    (likely, likely + ULP * clip.largest_logit())
                }
            };
            let (positive, negative) = ordered(likely, unlikely);
            let inside = |error: f64| if inside { error } else { 0.0 };
            return Self { larger, smaller, positive, negative, pull: inside(pull), push: inside(push) };
        }
        let (likely, unlikely) = match inside {
            true => clipped_errors(clip, sides.p.min(sides.p_not), smaller),
            false => clipped_errors(clip, clip.eps, clip.eps * U),
        };
        let (positive, negative) = ordered(likely, unlikely);
        let (p_error, p_not_error) = ordered(larger, smaller);
        let (p_relative, p_not_relative) = (p_error / sides.p, p_not_error / sides.p_not);
        let quotient = |slope: f64, relative: f64| match inside {
            true => slope * (DIVISION + 3.0 * U + p_relative + p_not_relative + relative) + FLUSHED,
            false => 0.0,
        };
        let pull = quotient(sides.pull, p_relative);
        let push = quotient(sides.push, p_not_relative);
        Self { larger, smaller, positive, negative, pull, push }
    }
}

/// The errors of one element's loss and slope, but for the errors of its factors.
struct ElementErrors {
    loss: f64,
    slope: f64,
}

/// A power of `m`, and how far off it may be, relatively: `of_m` is the relative error of `m`.
fn power(m: f64, exponent: f64, of_m: f64) -> (f64, f64) {
    // Where m is nearly flushed, its power may be 0, or that of the least normal number, which the kernel takes instead; it
    // then goes with a slope and a loss near 0.
    if m <= 0.0 {
        return (0.0, 0.0);
    }
    if m <= 8.0 * FLUSHED {
        // Not 0, where `f64` ends too: its relative error would be infinite, and no product of them a number.
        let value = m.powf(exponent).max(f64::MIN_POSITIVE);
        return (value, (m.max(FLUSHED).powf(exponent) / value).max(1.0));
    }
    let log = m.ln().abs();
    let log_error = if m >= 0.4 { LOG_NEAR_ONE } else { 0.0 } + 3.0 * ULP * log;
    let (size, argument) = (exponent.abs(), exponent.abs() * log);
    let error = size * (of_m + log_error) + ULP * (3.0 + 2.0 * argument) + 2.0 * U * argument;
    (m.powf(exponent), error.min(1.0))
}

impl ElementErrors {
    /// `gamma` 0 is no focal power; `weight` is the relative error of the factors.
    fn of(element: &BinaryElement, gamma: f64, weight: f64) -> Self {
        let BinaryElement { x, a, b, t, t_not, .. } = *element;
        let sides = element.sides();
        let errors = SideErrors::of(element, &sides);
        let side = TARGET + weight + 2.0 * U;
        let times = |weight: f64, cost: f64| if weight == 0.0 { 0.0 } else { weight.abs() * cost.abs() };
        let absolute = times(a, sides.positive) + times(b, sides.negative);
        let ce = absolute * (side + 2.0 * U) + a.abs() * errors.positive + b.abs() * errors.negative;
        let slope_size = times(b, sides.push) + times(a, sides.pull);
        let slope = slope_size * (side + 2.0 * U) + b.abs() * errors.push + a.abs() * errors.pull;
        let infinite = absolute.is_infinite();
        if gamma == 0.0 {
            return Self { loss: if infinite { 0.0 } else { ce }, slope };
        }
        let probs = matches!(element.scores, BinaryScores::Probs(_));
        let above = sides.p > sides.p_not;
        let (near, far) = if above { (t_not, t) } else { (t, t_not) };
        let (larger, smaller) = (sides.p.max(sides.p_not), sides.p.min(sides.p_not));
        let m = (near * larger + far * smaller).max(0.0);
        let size = near.abs() * larger + far.abs() * smaller;
        let m_error =
            size * (TARGET + 2.0 * U) + near.abs() * errors.larger + far.abs() * errors.smaller + FLUSHED;
        let of_m = if m > 0.0 { m_error / m } else { 0.0 };
        let (focus, focus_error) = power(m, gamma, of_m);
        // The power's slope over 1 - 2 t, and its relative error.
        let (turn, turn_error) = match () {
            () if probs && m == 0.0 => (if gamma == 1.0 { 1.0 } else { 0.0 }, 0.0),
            () if probs => {
                let (power, error) = power(m, gamma - 1.0, of_m);
                (gamma * power, error + 2.0 * U)
            }
            () => {
                let ratio = match () {
                    () if near == 0.0 => larger,
                    () if m > 0.0 => smaller / m * larger,
                    () => 0.0,
                };
                let relative =
                    errors.larger / larger + if smaller > 0.0 { errors.smaller / smaller } else { 0.0 };
                (gamma * focus * ratio, focus_error + of_m + relative + DIVISION + 6.0 * U)
            }
        };
        let turn_size = turn * (t_not.abs() + t.abs());
        let turning = if turn_size == 0.0 { 0.0 } else { turn_size * absolute };
        let mut turning_error = 0.0;
        if turn_size > 0.0 {
            let difference = turn * (t_not - t).abs() * turn_error + turn_size * (TARGET + U);
            turning_error = difference * absolute + turn_size * ce;
        }
        let whole = focus * slope_size + turning;
        // Of a turn that is flushed, and of one that should be 0 and is the least denormal, the cost makes more.
        let cost = if x.is_infinite() { 0.0 } else { absolute };
        let lost_turn = (turn_size.min(FLUSHED) + 2.0 * gamma * DENORMAL) * cost;
        Self {
            loss: match infinite {
                true => 0.0,
                false => focus * (ce + absolute * (focus_error + 2.0 * U)) + FLUSHED * (1.0 + absolute),
            },
            slope: focus * (slope + slope_size * (focus_error + 2.0 * U))
                + turning_error
                + whole * 2.0 * U
                + FLUSHED * (1.0 + whole + slope_size)
                + lost_turn,
        }
    }
}

/// The tolerances for one batch, given the oracle's output `want` for the same spec, shape and inputs.
pub fn binary_tolerances(
    config: &BinaryConfig,
    inputs: &BinaryInputs<'_>,
    want: &BinaryOutput<f64>,
) -> BinaryTolerances {
    let (spec, shape) = (config.spec(), config.shape());
    let gamma = f64::from(spec.focal_gamma);

    // Counts: sums of positive numbers where targets are from 0 to 1. 1 - t is rounded once.
    let additions = count_additions(config);
    let count_relative = (additions + 1.0) * U;
    let binary_counts: Vec<f64> = match &want.binary_counts {
        Some(counts) => counts.iter().map(|count| count.abs() * count_relative + FLUSHED).collect(),
        None => Vec::new(),
    };
    let live = spec.pos_weight.needs_counts();
    // Two counts, their sum, a quotient.
    let weight_error =
        if live { 2.0 * (count_relative + over_error(spec.counts_over)) + U + DIVISION } else { 0.0 };
    let factors: Vec<f64> = want
        .factors
        .iter()
        .flatten()
        .map(|factor| factor.abs() * weight_error + if live { FLUSHED } else { 0.0 })
        .collect();

    let additions = element_additions(config) * U;
    let mut absolute_weights = 0.0;
    let mut absolute_sample_weights = 0.0;
    let element =
        |row, column| BinaryElement::read(spec, shape, inputs, want.factors.as_deref(), row, column);
    for row in 0..shape.rows {
        for column in 0..shape.classes {
            let element = element(row, column);
            if !element.ignored {
                absolute_weights += element.weight.abs();
                absolute_sample_weights += element.sample_weight.abs();
            }
        }
    }
    // a t + b (1 - t), times two weights.
    let side_error = TARGET + weight_error + 4.0 * U;
    let weight_sum = absolute_weights * (additions + side_error) + FLUSHED;
    let sample_weight_sum = absolute_sample_weights * additions + FLUSHED;
    let d = want.totals.denominator;
    let denominator = match config.variant_of(Stage::BinaryDenominator).binary.denominator {
        3 => weight_sum,
        4 => sample_weight_sum,
        _ => d.abs() * U,
    };
    let denominator_error = if d == 0.0 { 0.0 } else { denominator / d.abs() };

    let mut element_losses = vec![0.0; want.logit_grads.len()];
    let mut logit_grads = vec![0.0; want.logit_grads.len()];
    let mut loss_sum = FLUSHED;
    // Alpha and the ratio's factor are a few roundings on top.
    let factor_error = 3.0 * U
        + if spec.focal_alpha.is_some() { TARGET + 3.0 * U } else { 0.0 }
        + if matches!(spec.pos_weight, PosWeight::Ratio { .. }) { side_error } else { 0.0 };
    for row in 0..shape.rows {
        for column in 0..shape.classes {
            let at = shape.index(row, column) as usize;
            let element = element(row, column);
            if element.ignored || element.bad || element.factor == 0.0 {
                continue;
            }
            let errors = ElementErrors::of(&element, gamma, weight_error);
            let (loss, slope) = element.loss(gamma);
            let size = element.factor.abs();
            if loss.is_finite() {
                element_losses[at] = size * errors.loss + loss.abs() * factor_error + FLUSHED;
                loss_sum += element_losses[at] + loss.abs() * additions;
            }
            let grad_out = inputs.grad_out.map_or(1.0, |grad_out| f64::from(grad_out[at]));
            let scale = if d == 0.0 { 0.0 } else { (grad_out / d).abs() };
            let scale_error = factor_error + 3.0 * U + DIVISION + denominator_error;
            let stored = match config.options().dtype {
                Dtype::F32 => 0.0,
                // One unit in the last place: WGSL does not say which way it rounds. Below 2^-14 the spacing stays.
                Dtype::F16 => want.logit_grads[at].abs() / 1024.0 + 6.0e-8,
                Dtype::Bf16 => want.logit_grads[at].abs() / 128.0,
            };
            let own = size * errors.slope + slope.abs() * scale_error + FLUSHED * (1.0 + size);
            logit_grads[at] = scale * own + FLUSHED + stored;
        }
    }
    let loss = match d {
        0.0 => 0.0,
        d => loss_sum / d.abs() + want.totals.loss.abs() * (denominator_error + DIVISION) + FLUSHED,
    };
    BinaryTolerances {
        loss,
        loss_sum,
        denominator: denominator + FLUSHED,
        weight_sum,
        sample_weight_sum,
        // The same sum over fewer terms.
        correct_weight: sample_weight_sum,
        element_losses,
        logit_grads,
        binary_counts,
        factors,
    }
}
