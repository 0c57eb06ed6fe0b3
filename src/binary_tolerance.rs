//! How far a correct kernel of a sigmoid loss may be from the oracle: derived from what WGSL promises, as the formulas of
//! [`tolerance`](crate::tolerance) are. Nothing here is fitted to a device.
//!
//! With `e = exp(-|x|)`, whose relative error is `E = ULP (3 + 2 |x|)`, for each element:
//!
//! * `log(1 + e)` is a series up to `e = 1/2`, with the relative error of `e` and of its own arithmetic; above, WGSL's
//!   logarithm, `2^-21` absolute. `softplus` adds a rounding.
//! * `1 / (1 + e)` and `e / (1 + e)` are within a division, an addition and their share of `E`.
//! * Both sides' errors add up absolutely: for soft targets the slope is a difference.
//! * `m^gamma = exp(gamma log m)`: the relative error of `m`, and the absolute one of the logarithm, times `gamma`, and one
//!   exponential of an argument `gamma |log m|`.
//! * Targets smoothed, multiplied by factors and weighted are a few roundings each.
//!
//! Sums of `n` terms, one after the other, add `n U` of the sum of their absolute values.

use crate::binary::{BinaryInputs, BinaryOutput, PosWeight};
use crate::binary_config::BinaryConfig;
use crate::cpu::BinaryElement;
use crate::tolerance::{FLUSHED, LOG_NEAR_ONE, U, ULP, over_error};
use crate::wgsl::{ELEMENTS_PER_GROUP, Stage, positions_per_group};

/// Relative error of a division.
const DIVISION: f64 = 2.5 * ULP;
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

/// The errors of one element's loss and slope, but for the errors of its factors.
struct ElementErrors {
    loss: f64,
    slope: f64,
}

impl ElementErrors {
    /// `gamma` 0 is no focal power; `weight` is the relative error of the factors.
    fn of(element: &BinaryElement, gamma: f64, weight: f64) -> Self {
        let BinaryElement { x, a, b, t, t_not, .. } = *element;
        let e = (-x.abs()).exp();
        let e_error = if x.abs() > 1e3 { 1.0 } else { ULP * (3.0 + 2.0 * x.abs()) };
        let log = e.ln_1p();
        let mut log_error = log * (e_error + SERIES) + FLUSHED;
        if e > 0.4 {
            log_error += LOG_NEAR_ONE;
        }
        let share = e / (1.0 + e) * e_error + 2.0 * U + DIVISION;
        let (larger, smaller) = (1.0 / (1.0 + e), e / (1.0 + e));
        let larger_error = larger * share;
        let smaller_error = smaller * (share + e_error) + FLUSHED;
        let above = x > 0.0;
        let ordered = |a: f64, b: f64| if above { (a, b) } else { (b, a) };
        let (p, p_not) = ordered(larger, smaller);
        let (p_error, p_not_error) = ordered(larger_error, smaller_error);
        let side = TARGET + weight + 2.0 * U;
        let soft = |weight: f64, x: f64| if weight == 0.0 { 0.0 } else { weight.abs() * (x.max(0.0) + log) };
        let absolute = soft(a, -x) + soft(b, x);
        let ce = absolute * (side + 2.0 * U) + (a.abs() + b.abs()) * log_error;
        let slope_size = b.abs() * p + a.abs() * p_not;
        let slope = slope_size * (side + 2.0 * U) + b.abs() * p_error + a.abs() * p_not_error;
        let infinite = !x.is_finite();
        if gamma == 0.0 {
            return Self { loss: if infinite { 0.0 } else { ce }, slope };
        }
        let (near, far) = if above { (t_not, t) } else { (t, t_not) };
        let sum = far * e + near;
        let m = (sum / (1.0 + e)).max(0.0);
        let size = near.abs() + far.abs() * e;
        let sum_error = size * (TARGET + 2.0 * U) + far.abs() * (e * e_error + FLUSHED);
        // Where m is nearly flushed, all of the power is in doubt; it then goes with a slope and a loss near 0.
        let (focus, focus_error) = if m <= 8.0 * FLUSHED {
            (m.powf(gamma), 1.0)
        } else {
            let log = m.ln();
            let log_error = if m >= 0.4 { LOG_NEAR_ONE } else { 0.0 } + 3.0 * ULP * log.abs();
            let argument = gamma * log.abs();
            let of_m = sum_error / sum + share;
            (m.powf(gamma), gamma * (of_m + log_error) + ULP * (3.0 + 2.0 * argument) + 2.0 * U * argument)
        };
        let focus_error = focus_error.min(1.0);
        let ratio = match () {
            () if near == 0.0 => larger,
            () if sum > 0.0 => e / sum * larger,
            () => 0.0,
        };
        let turn_size = gamma * ratio * (t_not.abs() + t.abs());
        let turn = gamma * ratio * (t_not - t).abs();
        let turning = if turn == 0.0 { 0.0 } else { turn * absolute };
        let of_sum = if sum > 0.0 { sum_error / sum } else { 0.0 };
        let mut turning_error = 0.0;
        if turn_size > 0.0 {
            let of_turn = turn_size * (TARGET + U) + turn * (e_error + of_sum + share + DIVISION + 6.0 * U);
            turning_error = of_turn * absolute + turn * ce;
        }
        let whole = slope_size + turning;
        let lost = FLUSHED * (1.0 + whole);
        Self {
            loss: match infinite {
                true => 0.0,
                false => focus * (ce + absolute * (focus_error + 2.0 * U)) + FLUSHED * (1.0 + absolute),
            },
            slope: focus * (slope + turning_error + whole * (focus_error + 3.0 * U)) + lost,
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
            logit_grads[at] =
                scale * (size * errors.slope + slope.abs() * scale_error + FLUSHED * (1.0 + size)) + FLUSHED;
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
        element_losses,
        logit_grads,
        binary_counts,
        factors,
    }
}
