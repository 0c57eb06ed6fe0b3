//! How closely the GPU's training follows the CPU oracle's: the losses of the first steps of both, and how far
//! apart `f32` allows them to be.
//!
//! The oracle's network computes in `f64`. With the same parameters, the GPU's loss differs by what `f32`
//! rounds in one forward pass. A rounding is off by at most `U = 2^-24` of its result. Taken as independent, as
//! Higham and Mary do (2019), the roundings in a sum of `n` products `x w` and a bias have a variance of at most
//! `(n + 2) (U (sum |x w| + |b|))^2`, in whatever order it is added, and inputs of variance `v` add
//! `sum w^2 v`. Six standard deviations of a row's worst logit, twice over, bound what its loss is off by; the
//! loss kernels add `LOSS` of the row's loss and of its largest logit. What the rows are off by is averaged as
//! their losses are, as if all erred to the same side.
//!
//! The parameters are the same in the first step only. After it they differ where the gradients were rounded:
//! Adam's step changes by about `rate` times the relative error of a gradient, and the loss by the gradient
//! times that, so by `rate` times the gradients' absolute error, all parameters together. With rates around
//! 1e-3, ten steps of that are less than what one forward pass rounds. So every step is allowed twice the bound
//! of one pass.

use std::error::Error;

use crate::cpu_trainer::CpuTrainer;
use crate::data::Data;
use crate::model::{Layer, Training};
use crate::runs::Run;

/// Steps that are compared.
pub const STEPS: usize = 10;

/// Half a unit in the last place of an `f32`, relative.
const U: f64 = 1.0 / (1 << 24) as f64;

/// What the crate's kernels may add to a row's loss, relative to it and to the largest logit: WGSL's `exp` and
/// `log` are good to some units in the last place, and the sums round.
const LOSS: f64 = 64.0 * U;

/// One step's losses.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub gpu: f64,
    pub oracle: f64,
    /// How far apart they may be.
    pub bound: f64,
}

impl Step {
    pub fn relative_difference(&self) -> f64 {
        (self.gpu - self.oracle).abs() / self.oracle.abs()
    }
}

/// Trains the first steps of a run on the oracle, next to the losses that the GPU had.
pub fn first_steps(
    data: &Data,
    training: &Training,
    run: &Run,
    gpu_losses: &[f64],
) -> Result<Vec<Step>, Box<dyn Error>> {
    let mut oracle = CpuTrainer::new(data, training, &run.spec, run.sample_weights(data));
    let rows = data.train.rows();
    let orders = (0..training.epochs).map(|epoch| training.order(epoch, rows));
    let batches =
        orders.flat_map(|order| order.chunks_exact(training.batch).map(<[u32]>::to_vec).collect::<Vec<_>>());
    let mut steps = Vec::new();
    for (batch, &gpu) in batches.zip(gpu_losses).take(STEPS) {
        let rows = row_errors(oracle.parameters(), &training.layers(), data, &batch);
        let output = oracle.step(&batch)?;
        // The row's factor is its loss with all its weights over its loss without; no loss, no error.
        let factor = |loss: f64, row: &Row| if row.loss > 0.0 { loss / row.loss } else { 0.0 };
        let errors = output.row_losses.iter().zip(&rows).map(|(&loss, row)| factor(loss, row) * row.error);
        let one_pass = errors.sum::<f64>() / output.totals.denominator;
        steps.push(Step { gpu, oracle: output.totals.loss, bound: 2.0 * one_pass });
    }
    Ok(steps)
}

/// A row's loss without weights, and how far off one forward pass in `f32` may have it.
struct Row {
    loss: f64,
    error: f64,
}

fn row_errors(parameters: &[f64], layers: &[Layer], data: &Data, batch: &[u32]) -> Vec<Row> {
    let part = data.train.select(batch);
    let row = |(x, &label): (&[f32], &i32)| {
        // Each value and the variance of its error.
        let mut values: Vec<(f64, f64)> = x.iter().map(|&x| (f64::from(x), 0.0)).collect();
        for layer in layers {
            let parameters = &parameters[layer.first_parameter..][..layer.parameters()];
            let (weights, biases) = parameters.split_at(layer.inputs * layer.outputs);
            let output = |o: usize| {
                let (mut sum, mut size, mut variance) = (biases[o], biases[o].abs(), 0.0);
                for (&(x, v), weights) in values.iter().zip(weights.chunks_exact(layer.outputs)) {
                    sum += x * weights[o];
                    size += (x * weights[o]).abs();
                    variance += v * weights[o].powi(2);
                }
                let value = if layer.relu { sum.max(0.0) } else { sum };
                (value, variance + (layer.inputs + 2) as f64 * (U * size).powi(2))
            };
            values = (0..layer.outputs).map(output).collect();
        }
        let largest =
            |of: &dyn Fn(f64, f64) -> f64| values.iter().map(|&(z, v)| of(z, v)).fold(0.0, f64::max);
        let (largest_logit, deviation) = (largest(&|z, _| z.abs()), largest(&|_, v| v.sqrt()));
        let own = values[label as usize].0;
        let others = values.iter().enumerate().filter(|(class, _)| *class != label as usize);
        let loss = others.map(|(_, &(z, _))| (z - own).exp()).sum::<f64>().ln_1p();
        Row { loss, error: 2.0 * 6.0 * deviation + LOSS * (loss + largest_logit) }
    };
    part.x.chunks_exact(data.features).zip(&part.y).map(row).collect()
}
