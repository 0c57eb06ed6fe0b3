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
//!   reference: `k` times between invocations, and at most `d / 4` times within one, because that reference only moves
//!   by 4 or more. The arguments add up to at most `d + 4`. So a term's relative error is
//!   `ULP (3 (1 + k + d / 4) + 2 (d + 4)) + U (d + 4) + U (k + d / 4)`.
//! * A sum of positive terms, `n` of them one after the other, adds `n U`.
//! * `p = exp(z - reference) / sum` has the errors of one exponential, of the sum and of a division.
//! * A loss is `log(1 + r)` where the label leads, with the relative error of `r` weighted by `r / (1 + r)`; else
//!   `(reference - z_label) + log(sum)`, with the absolute errors of both.

use crate::config::Config;
use crate::cpu::Label;
use crate::inputs::{Inputs, Output};
use crate::spec::{ClassWeights, LOGIT_LIMIT};
use crate::wgsl::{ROWS_PER_GROUP, Strategy};

/// Half an ulp, relative: the error of one correctly rounded operation.
pub const U: f64 = 1.0 / (1 << 24) as f64;
/// One ulp, relative, at most.
pub const ULP: f64 = 2.0 * U;
/// The absolute error of WGSL's `log` on `[0.5, 2]`.
pub const LOG_NEAR_ONE: f64 = 1.0 / (1 << 21) as f64;
/// What a flushed denormal loses.
pub const FLUSHED: f64 = f32::MIN_POSITIVE as f64;
/// Relative error of a live class weight: two conversions to `f32`, a product, a division.
const LIVE_WEIGHT: f64 = 3.0 * U + 2.5 * ULP;
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
        let lanes = match variant.strategy {
            Strategy::Thread => 1,
            Strategy::Workgroup => variant.workgroup_size,
        };
        // Four terms at a time: two additions to add them, one to take them in.
        let mine = f64::from(classes.div_ceil(4 * lanes)) + 2.0;
        let between = match variant.strategy {
            Strategy::Thread => 0.0,
            // Within a subgroup all shares are made relative to the highest at once; at worst a workgroup is many
            // subgroups of 4, whose shares an invocation then walks over, 4 apart.
            Strategy::Workgroup if variant.subgroups => {
                2.0 + f64::from(lanes).log2() + f64::from(lanes.div_ceil(16))
            }
            // Eight shares, then all the eighths.
            Strategy::Workgroup => 8.0 + f64::from(lanes.div_ceil(8)),
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
fn row_additions(rows: u32) -> f64 {
    let partials = rows.div_ceil(ROWS_PER_GROUP);
    f64::from(rows.min(ROWS_PER_GROUP).div_ceil(64)) + 6.0 + f64::from(partials.div_ceil(64)) + 6.0
}

/// The tolerances for one batch, given the oracle's output `want` for the same spec, shape and inputs.
pub fn tolerances(config: &Config, inputs: &Inputs<'_>, want: &Output<f64>) -> Tolerances {
    let (spec, shape) = (config.spec(), config.shape());
    let row_sum = RowSum::of(config);
    let weight_error = match spec.class_weights {
        ClassWeights::Live(_) => LIVE_WEIGHT,
        _ => 0.0,
    };
    let class_weights = want
        .class_weights
        .as_ref()
        .map(|weights| weights.iter().map(|w| w.abs() * weight_error + FLUSHED).collect());
    let sum_error = row_additions(shape.rows) * U;

    // Sums over rows, with the size of what is added up: weights may be negative and cancel.
    let mut absolute_weights = 0.0;
    let mut absolute_sample_weights = 0.0;
    let mut valid: Vec<(u32, u32, f64, f64)> = Vec::new();
    for row in 0..shape.rows {
        let Label::Class(y) = Label::read(spec, shape, inputs.labels[row as usize]) else { continue };
        let s = sample_weight(config, inputs, row);
        let w = want.class_weights.as_ref().map_or(1.0, |weights| weights[y as usize]);
        absolute_sample_weights += s.abs();
        absolute_weights += (s * w).abs();
        valid.push((row, y, s, w));
    }
    let weight_sum = absolute_weights * (sum_error + U + weight_error) + FLUSHED;
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
    for (row, y, s, w) in valid {
        let z: Vec<f64> = (0..shape.classes)
            .map(|class| clamped(inputs.logits[shape.index(row, class) as usize]))
            .collect();
        let loss = want.row_losses[row as usize];
        let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if loss.is_nan() || max == f64::NEG_INFINITY {
            continue;
        }
        let k = spec.cost_matrix.as_ref().map_or(1.0, |matrix| {
            let top = z.iter().position(|x| *x == max).unwrap_or(0);
            f64::from(matrix.cost(y, top as u32))
        });
        let factor = s * w * k;
        let far = |x: f64| if x == f64::NEG_INFINITY { 104.0 } else { (max - x).min(104.0) + 4.0 };
        let e: Vec<f64> = z.iter().map(|x| (x - max).exp()).collect();
        let sum: f64 = e.iter().sum();
        let rest: f64 = e.iter().enumerate().filter(|(j, _)| *j != y as usize).map(|(_, e)| e).sum();
        let errors = |skip: Option<usize>| -> f64 {
            let terms = e.iter().zip(&z).enumerate().filter(|(j, _)| Some(*j) != skip);
            terms.map(|(_, (e, x))| e * row_sum.term(far(*x))).sum()
        };
        let sum_relative = errors(None) / sum + row_sum.additions * U;
        let rest_relative = match rest {
            0.0 => 0.0,
            rest => errors(Some(y as usize)) / rest + row_sum.additions * U,
        };

        // The loss.
        let gap = max - z[y as usize];
        let leading = {
            let r = rest / e[y as usize];
            let spread = if r.is_finite() { r / (1.0 + r) } else { 1.0 };
            let log = if r <= 0.4 { r.ln_1p() * SERIES } else { U + logarithm(1.0 + r).max(LOG_NEAR_ONE) };
            // The label's own exponential is 1 exactly: it is the reference.
            spread * rest_relative + log
        };
        let trailing = (gap + 4.0) * U
            + sum_relative
            + LOG_NEAR_ONE
            + 3.0 * ULP * (sum.ln().abs() + 4.0)
            + U * (gap + sum.ln());
        let cross_entropy = match gap {
            0.0 => leading,
            gap if gap > 4.0 => trailing,
            _ => leading.max(trailing),
        };
        let factor_error = 3.0 * U + weight_error;
        if loss.is_finite() {
            row_losses[row as usize] = factor.abs() * cross_entropy + loss.abs() * factor_error + FLUSHED;
            loss_sum += row_losses[row as usize] + loss.abs() * sum_error;
        }

        // The gradients.
        let grad_out = inputs.grad_out.map_or(1.0, |grad_out| f64::from(grad_out[row as usize]));
        let scale = if d == 0.0 { 0.0 } else { (grad_out * factor / d).abs() };
        let scale_error = factor_error + U + 2.5 * ULP + denominator_error;
        for class in 0..shape.classes {
            let x = z[class as usize];
            let (p, relative) = match class == y {
                true => (rest / sum, rest_relative + sum_relative + 2.5 * ULP),
                false => (e[class as usize] / sum, exponential(far(x)) + sum_relative + 2.5 * ULP),
            };
            let at = shape.index(row, class) as usize;
            // Flushing before and after the scale.
            logit_grads[at] = scale * (p * (relative + scale_error + 2.0 * U) + FLUSHED) + FLUSHED;
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
    }
}

fn sample_weight(config: &Config, inputs: &Inputs<'_>, row: u32) -> f64 {
    crate::cpu::sample_weight(config.spec(), config.shape(), inputs, row)
}

fn clamped(x: f32) -> f64 {
    if x.is_finite() { f64::from(x.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)) } else { f64::from(x) }
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

    /// Compares an output with the oracle's. `got`, `want` and `tolerance` have one length; a missing element counts
    /// as NaN.
    pub fn of(name: &'static str, got: &[f32], want: &[f64], tolerance: &[f64]) -> Self {
        let mut worst = Self { name, elements: want.len(), index: 0, got: 0.0, want: 0.0, tolerance: 0.0 };
        let mut highest = -1.0;
        for (index, (&want, &tolerance)) in want.iter().zip(tolerance).enumerate() {
            let got = got.get(index).copied().map_or(f64::NAN, f64::from);
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
