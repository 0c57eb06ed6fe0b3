//! Forward and backward in one: what the fused kernel computes.

use super::{ClassValues, cross_entropy_backward, cross_entropy_forward};
use crate::inputs::{Inputs, Totals};
use crate::shape::Shape;
use crate::spec::Spec;

/// Row losses before the denominator, and gradients after it. Counts into `totals` as the forward pass does.
pub fn cross_entropy(
    spec: &Spec,
    shape: &Shape,
    inputs: &Inputs<'_>,
    values: &ClassValues,
    denominator: f64,
    totals: &mut Totals<f64>,
) -> (Vec<f64>, Vec<f64>) {
    let (losses, stats) = cross_entropy_forward(spec, shape, inputs, values, totals);
    let grads = cross_entropy_backward(spec, shape, inputs, values, &stats, denominator);
    (losses, grads)
}
