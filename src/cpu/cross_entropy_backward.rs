//! The gradient with respect to the scores.

use super::cross_entropy_forward::{ScoredRow, Softmax, Terms};
use super::{ClassValues, RowStats, Target, row_logits};
use crate::inputs::Inputs;
use crate::shape::Shape;
use crate::spec::Spec;

/// `grad_out * factor * logit_scale / denominator * d base / d z` in the layout of the logits, 0 in the padding.
///
/// A denominator of 0 gives 0.
pub fn cross_entropy_backward(
    spec: &Spec,
    shape: &Shape,
    inputs: &Inputs<'_>,
    values: &ClassValues,
    stats: &[RowStats],
    denominator: f64,
) -> Vec<f64> {
    let mut grads = vec![0.0; inputs.logits.len()];
    for row in 0..shape.rows {
        let i = row as usize;
        let Target::Counts { class: y, terms } = Target::read(spec, shape, inputs, row) else { continue };
        let factor = stats[i].factor;
        let grad_out = inputs.grad_out.map_or(1.0, |grad_out| f64::from(grad_out[i]));
        let scale = match denominator {
            _ if factor.is_nan() => f64::NAN,
            0.0 => 0.0,
            denominator => grad_out * factor * f64::from(spec.logit_scale) / denominator,
        };
        let slopes = match factor.is_nan() {
            true => vec![f64::NAN; shape.classes as usize],
            false => {
                let z = row_logits(spec, shape, inputs, values, row);
                let terms = Terms::new(spec, values, y, &terms, z.len());
                match ScoredRow::new(spec.scores, &z) {
                    Some(scored) => scored.slopes(&terms),
                    None => Softmax::new(&z).slopes(&terms),
                }
            }
        };
        for (class, slope) in (0..).zip(slopes) {
            grads[shape.index(row, class) as usize] = scale * slope;
        }
    }
    grads
}
