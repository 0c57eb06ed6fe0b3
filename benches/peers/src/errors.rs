//! How far a peer's answer is from the oracle's, and how far it may be.

use wgpu_cross_entropy::{Output, Shape};

use crate::measure::Failure;

/// How far gradients may be off, of the largest, before sums over classes are counted: some hundred roundings.
const GRADS: f64 = 1e-5;
/// How far the loss may be off, of itself, before sums over rows are counted.
const LOSS: f64 = 1e-5;

/// Distances from the oracle, which computes in `f64`.
#[derive(Clone, Copy, Debug)]
pub struct Errors {
    /// Of the loss, as a share of it.
    pub loss: f64,
    /// Of the worst gradient, as a share of the largest one.
    pub grads: f64,
}

impl Errors {
    /// Of an answer.
    pub fn of(loss: f64, grads: &[f32], oracle: &Output<f64>) -> Self {
        let want = oracle.totals.loss;
        let largest = oracle.logit_grads.iter().fold(0.0f64, |largest, grad| largest.max(grad.abs()));
        let mut worst = 0.0f64;
        for (got, want) in grads.iter().zip(&oracle.logit_grads) {
            let off = (f64::from(*got) - want).abs();
            // A NaN is no agreement, and `max` would drop it.
            worst = if off.is_nan() { f64::INFINITY } else { worst.max(off) };
        }
        if grads.len() != oracle.logit_grads.len() {
            worst = f64::INFINITY;
        }
        let loss = (loss - want).abs() / want.abs();
        Self { loss: if loss.is_nan() { f64::INFINITY } else { loss }, grads: worst / largest }
    }

    /// Refuses what is wrong rather than rounded.
    ///
    /// # Errors
    /// The distance and the bound.
    pub fn check(&self, shape: &Shape) -> Result<(), Failure> {
        // Added up in `f32` one after the other, so many losses, or terms of a softmax, are off by at most this share. The
        // weights, by whose sum gradients are divided, are whole numbers: their sum is exact in any order.
        let of_sum = |terms: u32| f64::from(terms) * f64::from(f32::EPSILON) / 2.0;
        let (loss, grads) = (LOSS + of_sum(shape.rows), GRADS + of_sum(shape.classes));
        let refused = |what, off: f64, bound: f64| {
            Err(format!("{what} is off by {off:.1e} of the oracle's; rounding explains {bound:.1e}").into())
        };
        match (self.loss, self.grads) {
            (off, _) if off > loss => refused("the loss", off, loss),
            (_, off) if off > grads => refused("a gradient", off, grads),
            _ => Ok(()),
        }
    }
}
