//! The host layer checks itself: a plan's own pipelines against the oracle.

use crate::config::Config;
use crate::cpu;
use crate::error::HostError;
use crate::inputs::{Inputs, Output};
use crate::plan::CrossEntropy;
use crate::tolerance::{Worst, tolerances};

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
        let mut outputs = vec![
            one("loss", t.loss, w.loss, allowed.loss),
            one("loss_sum", t.loss_sum, w.loss_sum, allowed.loss_sum),
            one("denominator", t.denominator, w.denominator, allowed.denominator),
            one("weight_sum", t.weight_sum, w.weight_sum, allowed.weight_sum),
            one("sample_weight_sum", t.sample_weight_sum, w.sample_weight_sum, allowed.sample_weight_sum),
            Worst::of("row_losses", &got.row_losses, &want.row_losses, &allowed.row_losses),
            Worst::of("logit_grads", &got.logit_grads, &want.logit_grads, &allowed.logit_grads),
            count("valid_rows", t.valid_rows, w.valid_rows),
            count("ignored_rows", t.ignored_rows, w.ignored_rows),
            count("out_of_range_rows", t.out_of_range_rows, w.out_of_range_rows),
            count("nonfinite_rows", t.nonfinite_rows, w.nonfinite_rows),
            count("first_bad_row", t.first_bad_row.unwrap_or(u32::MAX), w.first_bad_row.unwrap_or(u32::MAX)),
            count("correct_rows", t.correct_rows, w.correct_rows),
            count("nonzero_rows", t.nonzero_rows, w.nonzero_rows),
        ];
        if let (Some(want), Some(allowed)) = (&want.class_weights, &allowed.class_weights) {
            let got = got.class_weights.as_deref().unwrap_or_default();
            outputs.push(Worst::of("class_weights", got, want, allowed));
        }
        if let Some(want) = &want.class_counts {
            let got = got.class_counts.as_deref().unwrap_or_default();
            // The first class that differs, or the first of all.
            let at = (0..want.len()).find(|&class| got.get(class) != Some(&want[class])).unwrap_or(0);
            let value = |counts: &[u32]| counts.get(at).map_or(f64::NAN, |&count| f64::from(count));
            outputs.push(Worst {
                name: "class_counts",
                elements: want.len(),
                index: at,
                got: value(got),
                want: value(want),
                tolerance: 0.0,
            });
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
        let got = self.compute(device, queue, inputs).await?;
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
