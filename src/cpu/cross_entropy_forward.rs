//! The rows' losses and what the backward pass needs of each row.

use super::{Label, argmax, cost_gather, is_finite_row, row_logits, sample_weight};
use crate::inputs::{Inputs, Totals};
use crate::shape::Shape;
use crate::spec::Spec;

/// What the backward pass needs of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowStats {
    /// The largest logit.
    pub reference: f64,
    /// `sum_j exp(z_j - reference)`, from 1 to the number of classes. Probabilities come from these two: `lse`
    /// cannot hold both where logits are huge.
    pub sum: f64,
    /// `log sum_j exp(z_j)`.
    pub lse: f64,
    /// `sum of p_j over j != label`: 1 minus the probability of the label, without the cancellation.
    pub rest: f64,
    /// The row factor `v s k w`; NaN in a row that is not finite.
    pub factor: f64,
}

/// Losses before the denominator and statistics: `[rows]` each. Counts `nonfinite_rows`, `correct_rows` and
/// `first_bad_row` into `totals`.
pub fn cross_entropy_forward(
    spec: &Spec,
    shape: &Shape,
    inputs: &Inputs<'_>,
    class_weights: Option<&[f64]>,
    totals: &mut Totals<f64>,
) -> (Vec<f64>, Vec<RowStats>) {
    let costs = cost_gather(spec, shape, inputs.logits, inputs.labels);
    let mut losses = vec![0.0; shape.rows as usize];
    let mut stats = vec![RowStats::default(); shape.rows as usize];
    for row in 0..shape.rows {
        let i = row as usize;
        let Label::Class(y) = Label::read(spec, shape, inputs.labels[i]) else { continue };
        let z = row_logits(shape, inputs.logits, row);
        if !is_finite_row(&z) {
            totals.nonfinite_rows += 1;
            totals.first_bad_row = Some(totals.first_bad_row.map_or(row, |first| first.min(row)));
            losses[i] = f64::NAN;
            let nan = f64::NAN;
            stats[i] = RowStats { reference: nan, sum: nan, lse: nan, rest: nan, factor: nan };
            continue;
        }
        totals.correct_rows += u32::from(argmax(shape, inputs.logits, row) == y);
        let (reference, sum, rest) = sums(&z, y as usize);
        let s = sample_weight(spec, shape, inputs, row);
        let w = class_weights.map_or(1.0, |weights| weights[y as usize]);
        let factor = s * w * costs[i].cost;
        // A row that weighs nothing costs nothing, even where its label was masked with -inf.
        losses[i] = if factor == 0.0 { 0.0 } else { factor * cross_entropy_of(&z, y as usize) };
        stats[i] = RowStats { reference, sum, lse: reference + sum.ln(), rest, factor };
    }
    (losses, stats)
}

/// `reference`, `sum` and `rest` of [`RowStats`].
fn sums(z: &[f64], y: usize) -> (f64, f64, f64) {
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = z.iter().map(|x| (x - max).exp()).sum();
    let rest: f64 = others(z, y).map(|x| (x - max).exp()).sum();
    (max, sum, rest / sum)
}

/// `-log p_y = log(1 + sum_{j != y} exp(z_j - z_y))`, exact to `f64` for confident rows as well.
fn cross_entropy_of(z: &[f64], y: usize) -> f64 {
    let max = others(z, y).fold(f64::NEG_INFINITY, f64::max);
    if z[y] >= max {
        return others(z, y).map(|x| (x - z[y]).exp()).sum::<f64>().ln_1p();
    }
    let sum: f64 = others(z, y).map(|x| (x - max).exp()).sum();
    (max - z[y]) + (sum + (z[y] - max).exp()).ln()
}

fn others(z: &[f64], y: usize) -> impl Iterator<Item = f64> + '_ {
    z.iter().enumerate().filter(move |(j, _)| *j != y).map(|(_, x)| *x)
}
