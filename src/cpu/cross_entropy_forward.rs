//! The rows' losses and what the backward pass needs of each row.

use super::{ClassValues, Target, argmax, is_finite_row, row_logits, sample_weight};
use crate::inputs::{Inputs, Totals};
use crate::shape::Shape;
use crate::spec::{CostMatrix, Spec, WeightScope};

/// What the backward pass needs of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowStats {
    /// The largest logit, scaled and with its bias.
    pub reference: f64,
    /// `sum_j exp(z_j - reference)`, from 1 to the number of classes. Probabilities come from these two: `lse`
    /// cannot hold both where logits are huge.
    pub sum: f64,
    /// `log sum_j exp(z_j)`.
    pub lse: f64,
    /// The row factor: `v s`, the gathered cost, and the label's weight where weights are per row. NaN in a row that
    /// is not finite.
    pub factor: f64,
}

/// Losses before the denominator and statistics: `[rows]` each. Counts `nonfinite_rows`, `correct_rows` and
/// `first_bad_row` into `totals`.
pub fn cross_entropy_forward(
    spec: &Spec,
    shape: &Shape,
    inputs: &Inputs<'_>,
    values: &ClassValues,
    totals: &mut Totals<f64>,
) -> (Vec<f64>, Vec<RowStats>) {
    let mut losses = vec![0.0; shape.rows as usize];
    let mut stats = vec![RowStats::default(); shape.rows as usize];
    for row in 0..shape.rows {
        let i = row as usize;
        let Target::Counts { class: y, terms } = Target::read(spec, shape, inputs, row) else { continue };
        let z = row_logits(spec, shape, inputs, values, row);
        if !is_finite_row(&z) || terms.iter().any(|(_, t)| !t.is_finite()) {
            totals.nonfinite_rows += 1;
            totals.first_bad_row = Some(totals.first_bad_row.map_or(row, |first| first.min(row)));
            losses[i] = f64::NAN;
            stats[i] = RowStats { reference: f64::NAN, sum: f64::NAN, lse: f64::NAN, factor: f64::NAN };
            continue;
        }
        let predicted = argmax(shape, inputs.logits, row);
        totals.correct_rows += u32::from(predicted == y);
        let gathered = match &spec.cost_matrix {
            Some(matrix) if spec.cost_gather => f64::from(matrix.cost(y, predicted)),
            _ => 1.0,
        };
        let weight = match spec.weight_scope {
            WeightScope::PerTerm => 1.0,
            WeightScope::PerRow => values.weight(y),
        };
        let factor = sample_weight(spec, shape, inputs, row) * weight * gathered;
        let terms = Terms::new(spec, values, y, &terms, z.len());
        let row_softmax = Softmax::new(&z);
        // A row that weighs nothing costs nothing, even where its label was masked with -inf.
        losses[i] = if factor == 0.0 { 0.0 } else { factor * row_softmax.base(&terms) };
        let Softmax { reference, sum, lse, .. } = row_softmax;
        stats[i] = RowStats { reference, sum, lse, factor };
    }
    (losses, stats)
}

/// The terms of one row's loss.
pub(crate) struct Terms<'a> {
    /// `u`: `[classes]`.
    pub weighted_targets: Vec<f64>,
    pub gamma: f64,
    pub z_loss: f64,
    /// `cost_lambda * cost[y]`: `[classes]`.
    expected: Option<(f64, u32, &'a CostMatrix)>,
}

impl<'a> Terms<'a> {
    pub fn new(spec: &'a Spec, values: &ClassValues, y: u32, targets: &[(u32, f64)], classes: usize) -> Self {
        let smoothing = f64::from(spec.label_smoothing);
        let mut u = vec![smoothing / classes as f64; classes];
        for (class, t) in targets {
            u[*class as usize] += (1.0 - smoothing) * t;
        }
        if spec.weight_scope == WeightScope::PerTerm {
            (0..).zip(&mut u).for_each(|(class, u)| *u *= values.weight(class));
        }
        let lambda = f64::from(spec.cost_lambda);
        let expected = spec.cost_matrix.as_ref().filter(|_| lambda != 0.0).map(|matrix| (lambda, y, matrix));
        Self { weighted_targets: u, gamma: spec.focal_gamma.into(), z_loss: spec.z_loss.into(), expected }
    }

    pub fn cost(&self, class: usize) -> f64 {
        self.expected.map_or(0.0, |(lambda, y, matrix)| lambda * f64::from(matrix.cost(y, class as u32)))
    }
}

/// The softmax of one row, exact where a class has nearly all of it.
pub(super) struct Softmax {
    reference: f64,
    sum: f64,
    lse: f64,
    /// `p`.
    pub p: Vec<f64>,
    /// `1 - p`, without the cancellation.
    q: Vec<f64>,
    /// `-log p`, without the cancellation.
    minus_log_p: Vec<f64>,
}

impl Softmax {
    pub fn new(z: &[f64]) -> Self {
        let top = (0..z.len()).fold(0, |best, j| if z[j] > z[best] { j } else { best });
        let reference = z[top];
        // All but the top class; the top class adds exactly 1.
        let rest: f64 = (0..z.len()).filter(|&j| j != top).map(|j| (z[j] - reference).exp()).sum();
        let sum = 1.0 + rest;
        let p: Vec<f64> = z.iter().map(|x| (x - reference).exp() / sum).collect();
        let mut q: Vec<f64> = p.iter().map(|p| 1.0 - p).collect();
        let mut minus_log_p: Vec<f64> = z.iter().map(|x| (reference - x) + sum.ln()).collect();
        q[top] = rest / sum;
        minus_log_p[top] = rest.ln_1p();
        Self { reference, sum, lse: reference + sum.ln(), p, q, minus_log_p }
    }

    /// A row's loss before its factor.
    fn base(&self, terms: &Terms<'_>) -> f64 {
        let mut base = terms.z_loss * self.lse * self.lse;
        for (j, &u) in terms.weighted_targets.iter().enumerate() {
            // A target of 0 counts nothing even where the probability is 0.
            if u != 0.0 {
                base += u * self.q[j].powf(terms.gamma) * self.minus_log_p[j];
            }
            base += terms.cost(j) * self.p[j];
        }
        base
    }

    /// The derivative of a row's loss, before its factor, with respect to each `z`.
    ///
    /// With `g_j = -u_j q_j^gamma (gamma p_j (-log p_j) / q_j + 1)`, the derivative of the focal terms is
    /// `g_k q_k - p_k sum_{j != k} g_j`: at a label it is `-u q`, never `p - 1`.
    pub fn slopes(&self, terms: &Terms<'_>) -> Vec<f64> {
        let g: Vec<f64> = (0..self.p.len()).map(|j| self.focal_slope(terms, j)).collect();
        let sum: f64 = g.iter().sum();
        let nonzero = g.iter().filter(|g| **g != 0.0).count();
        let expected: f64 = (0..self.p.len()).map(|j| terms.cost(j) * self.p[j]).sum();
        (0..self.p.len())
            .map(|k| {
                // The only term is not what is left of the sum after rounding.
                let others = if nonzero == 1 && g[k] != 0.0 { 0.0 } else { sum - g[k] };
                let focal = g[k] * self.q[k] - self.p[k] * others;
                focal + self.p[k] * (2.0 * terms.z_loss * self.lse + terms.cost(k) - expected)
            })
            .collect()
    }

    fn focal_slope(&self, terms: &Terms<'_>, j: usize) -> f64 {
        let (u, p, q, gamma) = (terms.weighted_targets[j], self.p[j], self.q[j], terms.gamma);
        if u == 0.0 {
            return 0.0;
        }
        // -log p / q goes to 1 as q goes to 0, and p log p to 0 as p goes to 0.
        let ratio = match () {
            () if q == 0.0 => 1.0,
            () if p == 0.0 => 0.0,
            () => p * self.minus_log_p[j] / q,
        };
        -u * q.powf(gamma) * (gamma * ratio + 1.0)
    }
}
