//! The host layer checks itself: a plan's own pipelines against the oracle.

use crate::config::Config;
use crate::cpu::{self, ClassValues};
use crate::error::HostError;
use crate::inputs::{Inputs, Output};
use crate::plan::CrossEntropy;
use crate::tolerance::{Tolerances, Worst, tolerances};

/// What a comparison with the oracle found: the worst element of each output.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Validation {
    /// One entry an output. Counts have tolerance 0.
    pub outputs: Vec<Worst>,
}

impl Validation {
    /// Compares an output of a device with the oracle's, for the same batch.
    pub fn of(config: &Config, inputs: &Inputs<'_>, got: &Output<f32>, want: &Output<f64>) -> Self {
        let allowed = tolerances(config, inputs, want);
        let (t, w) = (&got.totals, &want.totals);
        let (one, count) = (Worst::one, Worst::count);
        let grads = config.options().dtype.clamped(&want.logit_grads);
        let mut outputs = vec![
            one("loss", t.loss, w.loss, allowed.loss),
            one("loss_sum", t.loss_sum, w.loss_sum, allowed.loss_sum),
            one("denominator", t.denominator, w.denominator, allowed.denominator),
            one("weight_sum", t.weight_sum, w.weight_sum, allowed.weight_sum),
            one("sample_weight_sum", t.sample_weight_sum, w.sample_weight_sum, allowed.sample_weight_sum),
            Worst::of("row_losses", &got.row_losses, &want.row_losses, &allowed.row_losses),
            Worst::of("logit_grads", &got.logit_grads, &grads, &allowed.logit_grads),
            count("valid_rows", t.valid_rows, w.valid_rows),
            count("ignored_rows", t.ignored_rows, w.ignored_rows),
            count("out_of_range_rows", t.out_of_range_rows, w.out_of_range_rows),
            count("nonfinite_rows", t.nonfinite_rows, w.nonfinite_rows),
            count("first_bad_row", t.first_bad_row.unwrap_or(u32::MAX), w.first_bad_row.unwrap_or(u32::MAX)),
            count("correct_rows", t.correct_rows, w.correct_rows),
            count("nonzero_rows", t.nonzero_rows, w.nonzero_rows),
            count("nonfinite_weights", t.nonfinite_weights, w.nonfinite_weights),
        ];
        if let (Some(want), Some(allowed)) = (&want.class_weights, &allowed.class_weights) {
            let got = got.class_weights.as_deref().unwrap_or_default();
            outputs.push(Worst::of("class_weights", got, want, allowed));
        }
        if let (Some(want), Some(allowed)) = (&want.class_mass, &allowed.class_mass) {
            let got = got.class_mass.as_deref().unwrap_or_default();
            outputs.push(Worst::of("class_mass", got, want, allowed));
        }
        if let Some(want) = &want.class_counts {
            let got = got.class_counts.as_deref().unwrap_or_default();
            outputs.push(Worst::counts("class_counts", got, want));
        }
        if config.options().predictions {
            let of = |predictions: &Option<Vec<u32>>| predictions.clone().unwrap_or_default();
            outputs.push(Worst::counts("predictions", &of(&got.predictions), &of(&want.predictions)));
        }
        if config.options().keeps_telemetry() {
            outputs.extend(class_stats(config, inputs, got, want, &allowed));
        }
        Self { outputs }
    }

    /// Whether every element of every output is within its tolerance.
    pub fn passed(&self) -> bool {
        self.outputs.iter().all(Worst::passed)
    }

    /// The outputs that are not.
    pub fn failures(&self) -> impl Iterator<Item = &Worst> {
        self.outputs.iter().filter(|worst| !worst.passed())
    }
}

/// Compares what each class has.
fn class_stats(
    config: &Config,
    inputs: &Inputs<'_>,
    got: &Output<f32>,
    want: &Output<f64>,
    allowed: &Tolerances,
) -> Vec<Worst> {
    let got = got.class_stats.clone().unwrap_or_default();
    let values =
        ClassValues { class_weights: want.class_weights.clone(), logit_bias: want.logit_bias.clone() };
    let predictions = want.predictions.as_deref().unwrap_or_default();
    // The oracle's own output has no confusion counts.
    let confusion = config.options().confusion;
    let want = cpu::class_stats(
        config.spec(),
        config.shape(),
        inputs,
        &values,
        &want.row_losses,
        predictions,
        confusion,
    );
    let mut outputs = vec![
        Worst::counts("class_stats.rows", &got.rows, &want.rows),
        Worst::counts("class_stats.correct", &got.correct, &want.correct),
        Worst::counts("class_stats.unsummed", &got.unsummed, &want.unsummed),
        Worst::of("class_stats.loss", &got.loss, &want.loss, &allowed.class_losses),
        Worst::of("class_stats.weight", &got.weight, &want.weight, &allowed.class_weight_sums),
        Worst::of(
            "class_stats.correct_weight",
            &got.correct_weight,
            &want.correct_weight,
            &allowed.class_weight_sums,
        ),
    ];
    if let Some(want) = &want.confusion {
        let got = got.confusion.as_deref().unwrap_or_default();
        outputs.push(Worst::counts("class_stats.confusion", got, want));
    }
    outputs
}

impl std::fmt::Display for Validation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for worst in &self.outputs {
            let verdict = if worst.passed() { "ok  " } else { "FAIL" };
            writeln!(f, "{verdict} {worst}")?;
        }
        Ok(())
    }
}

impl CrossEntropy {
    /// Runs this plan's own pipelines and the oracle on the same inputs and compares every output.
    ///
    /// # Errors
    /// [`HostError`] where the slices do not fit the plan, or the device fails. A difference is no error: see
    /// [`Validation::passed`].
    pub async fn validate(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        inputs: &Inputs<'_>,
    ) -> Result<Validation, HostError> {
        // A history is put by meanwhile: the oracle knows none, and it is the caller's.
        let history = self.save_history(device, queue).await?;
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.encode_reset(&mut encoder);
        queue.submit([encoder.finish()]);
        let got = self.compute(device, queue, inputs).await;
        if let (Some(history), Some(buffer)) = (history, self.history()) {
            queue.write_buffer(buffer, 0, history.as_bytes());
        }
        let got = got?;
        // The oracle sees what the device sees: logits as they are stored.
        let logits = self.config().options().dtype.round(inputs.logits);
        let inputs = Inputs { logits: &logits, ..*inputs };
        let want = cpu::compute(self.config().spec(), self.config().shape(), &inputs)?;
        Ok(Validation::of(self.config(), &inputs, &got, &want))
    }

    /// [`CrossEntropy::validate`], waiting.
    ///
    /// # Errors
    /// As [`CrossEntropy::validate`].
    #[cfg(not(target_family = "wasm"))]
    pub fn validate_blocking(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        inputs: &Inputs<'_>,
    ) -> Result<Validation, HostError> {
        pollster::block_on(self.validate(device, queue, inputs))
    }
}
