//! A sigmoid loss as a golden case asks for it: see `work.rs`.

use wgpu_cross_entropy::error::InputError;
use wgpu_cross_entropy::{BinaryInputs, BinaryOutput, BinarySpec, Shape, cpu};

use super::{Answer, Number, Numbers};

/// A sigmoid loss and its gradient, with the settings of the reference beside the crate's, as in `Loss`.
#[derive(Clone, Debug)]
pub struct BinaryLoss {
    /// What to compute.
    pub spec: BinarySpec,
    /// The shape.
    pub shape: Shape,
    /// Logits or probabilities.
    pub scores: Vec<f32>,
    /// As many.
    pub targets: Vec<f32>,
    /// As many, as the spec says.
    pub element_weights: Option<Vec<f32>>,
    /// `[rows]`, as the spec says.
    pub sample_weights: Option<Vec<f32>>,
    /// As many as scores.
    pub grad_out: Option<Vec<f32>>,
    /// The denominator, handed over as an `f32`.
    pub external: Option<f64>,
    /// The label smoothing of the reference.
    pub label_smoothing: f64,
    /// The focusing exponent of the reference.
    pub focal_gamma: f64,
    /// The alpha of the reference.
    pub focal_alpha: Option<f64>,
    /// The upstream gradient of the reference over `grad_out`.
    pub grad_scale: f64,
}

/// Gives a spec another value of a setting.
type Set = fn(&mut BinarySpec, f32);

impl BinaryLoss {
    /// Without weights or an upstream gradient.
    pub fn new(spec: BinarySpec, shape: Shape, scores: Vec<f32>, targets: Vec<f32>) -> Self {
        Self {
            spec,
            shape,
            scores,
            targets,
            element_weights: None,
            sample_weights: None,
            grad_out: None,
            external: None,
            label_smoothing: 0.0,
            focal_gamma: 0.0,
            focal_alpha: None,
            grad_scale: 1.0,
        }
    }

    /// The batch as the crate takes it.
    pub fn inputs(&self) -> BinaryInputs<'_> {
        BinaryInputs {
            logits: &self.scores,
            targets: &self.targets,
            element_weights: self.element_weights.as_deref(),
            sample_weights: self.sample_weights.as_deref(),
            grad_out: self.grad_out.as_deref(),
            external_denominator: self.external.map(|denominator| denominator as f32),
        }
    }

    /// The oracle's output for the crate's settings, and its answer for those of the reference.
    ///
    /// # Errors
    /// [`InputError`] where the slices do not fit.
    pub fn solve(&self) -> Result<(BinaryOutput<f64>, Answer), InputError> {
        let raw = cpu::compute_binary(&self.spec, &self.shape, &self.inputs())?;
        let BinaryOutput { totals, element_losses, logit_grads, binary_counts, factors } =
            self.exact(&raw)?;
        let numbers = |values: Vec<f64>| Numbers { values, errors: Vec::new() };
        let answer = Answer {
            loss: Number::exact(totals.loss),
            loss_sum: Number::exact(totals.loss_sum),
            denominator: Number::exact(totals.denominator),
            element_losses: numbers(element_losses.unwrap_or_default()),
            logit_grads: numbers(logit_grads),
            binary_counts: numbers(binary_counts.unwrap_or_default()),
            factors: numbers(factors.unwrap_or_default()),
            sample_weight_sum: Number::exact(totals.sample_weight_sum),
            correct_weight: Number::exact(totals.correct_weight),
            correct_rows: totals.correct,
            valid_rows: totals.valid,
            ..Answer::default()
        };
        Ok((raw, answer))
    }

    /// What the oracle would give if its settings were `f64`: each setting moves by the rounding of an `f32` along a
    /// central difference, whose relative error is below 1e-4.
    fn exact(&self, raw: &BinaryOutput<f64>) -> Result<BinaryOutput<f64>, InputError> {
        let mut output = raw.clone();
        let spec = &self.spec;
        let settings: [(f32, f64, f32, Set); 3] = [
            (spec.label_smoothing, self.label_smoothing, 1.0, |spec, value| spec.label_smoothing = value),
            (spec.focal_gamma, self.focal_gamma, f32::MAX, |spec, value| spec.focal_gamma = value),
            (spec.focal_alpha.unwrap_or(0.0), self.focal_alpha.unwrap_or(0.0), 1.0, |spec, value| {
                spec.focal_alpha = Some(value)
            }),
        ];
        for (value, reference, most, set) in settings {
            if f64::from(value) == reference {
                continue;
            }
            let step = (value / 2.0).min((most - value) / 2.0).min(1.0 / 128.0);
            let (low, high) = (value - step, value + step);
            let with = |value: f32| {
                let mut spec = spec.clone();
                set(&mut spec, value);
                cpu::compute_binary(&spec, &self.shape, &self.inputs())
            };
            let by = (reference - f64::from(value)) / (f64::from(high) - f64::from(low));
            add_slope(&mut output, &with(high)?, &with(low)?, by);
        }
        let denominator = match self.external {
            Some(exact) if exact != 0.0 => {
                output.totals.denominator = exact;
                f64::from(exact as f32) / exact
            }
            _ => 1.0,
        };
        output.logit_grads.iter_mut().for_each(|grad| *grad *= self.grad_scale * denominator);
        output.totals.loss *= denominator;
        Ok(output)
    }
}

/// `to += (a - b) * by`, where the difference is finite.
fn add_slope(to: &mut BinaryOutput<f64>, a: &BinaryOutput<f64>, b: &BinaryOutput<f64>, by: f64) {
    let add = |to: &mut f64, a: f64, b: f64| {
        if (a - b).is_finite() {
            *to += (a - b) * by;
        }
    };
    let add_all = |to: &mut [f64], a: &[f64], b: &[f64]| {
        to.iter_mut().zip(a.iter().zip(b)).for_each(|(to, (a, b))| add(to, *a, *b));
    };
    if let (Some(to), Some(a), Some(b)) = (&mut to.element_losses, &a.element_losses, &b.element_losses) {
        add_all(to, a, b);
    }
    add_all(&mut to.logit_grads, &a.logit_grads, &b.logit_grads);
    add(&mut to.totals.loss, a.totals.loss, b.totals.loss);
    add(&mut to.totals.loss_sum, a.totals.loss_sum, b.totals.loss_sum);
}
