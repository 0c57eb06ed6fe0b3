//! The prediction of each row and what it costs.

use super::{Label, argmax, is_finite_row, logit};
use crate::shape::Shape;
use crate::spec::Spec;

/// What [`cost_gather`] says of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CostGather {
    /// The class with the largest logit, the lowest on ties; 0 in a row that is not finite.
    pub prediction: u32,
    /// `cost[label][prediction]`; 1 without a cost matrix; 0 where the row is ignored, out of range or not finite.
    pub cost: f64,
}

/// Predictions and costs: `[rows]`.
pub fn cost_gather(spec: &Spec, shape: &Shape, logits: &[f32], labels: &[i32]) -> Vec<CostGather> {
    (0..shape.rows)
        .map(|row| {
            let x: Vec<f64> = (0..shape.classes).map(|class| logit(shape, logits, row, class)).collect();
            if !is_finite_row(&x) {
                return CostGather::default();
            }
            let prediction = argmax(shape, logits, row);
            let cost = match Label::read(spec, shape, labels[row as usize]) {
                Label::Class(class) => {
                    spec.cost_matrix.as_ref().map_or(1.0, |matrix| f64::from(matrix.cost(class, prediction)))
                }
                Label::Ignored | Label::OutOfRange => 0.0,
            };
            CostGather { prediction, cost }
        })
        .collect()
}
