//! The gradient with respect to the logits, from the statistics of the forward pass.

use super::{Label, RowStats, logit};
use crate::inputs::Inputs;
use crate::shape::Shape;
use crate::spec::Spec;

/// `grad_out * factor * (p_k - [k == label]) / denominator` in the layout of the logits, 0 in the padding.
///
/// At the label it is `-rest`, never `p - 1`. A denominator of 0 gives 0.
pub fn cross_entropy_backward(
    spec: &Spec,
    shape: &Shape,
    inputs: &Inputs<'_>,
    stats: &[RowStats],
    denominator: f64,
) -> Vec<f64> {
    let mut grads = vec![0.0; inputs.logits.len()];
    for row in 0..shape.rows {
        let i = row as usize;
        let Label::Class(y) = Label::read(spec, shape, inputs.labels[i]) else { continue };
        let RowStats { reference, sum, rest, factor, .. } = stats[i];
        let grad_out = inputs.grad_out.map_or(1.0, |grad_out| f64::from(grad_out[i]));
        let scale = match denominator {
            _ if factor.is_nan() => f64::NAN,
            0.0 => 0.0,
            denominator => grad_out * factor / denominator,
        };
        for class in 0..shape.classes {
            let p = (logit(shape, inputs.logits, row, class) - reference).exp() / sum;
            let slope = if class == y { -rest } else { p };
            grads[shape.index(row, class) as usize] = scale * slope;
        }
    }
    grads
}
