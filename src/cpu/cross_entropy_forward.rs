//! The rows' losses and what the backward pass needs of each row.

use super::{ClassValues, Target, argmax, is_finite_row, row_logits, sample_weight};
use crate::inputs::{Inputs, Totals};
use crate::shape::Shape;
use crate::spec::{ClipOrder, CostMatrix, LOGIT_LIMIT, Scores, Spec, WeightScope};

/// What the backward pass needs of one row. Of scores that are no logits, the factor alone: the others are 0.
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
        let scored = ScoredRow::new(spec.scores, &z);
        if !is_sound(spec, &z, &terms) {
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
        let (base, softmax) = match scored {
            Some(scored) => (scored.base(&terms), RowStats::default()),
            None => {
                let softmax = Softmax::new(&z);
                (softmax.base(&terms), softmax.stats())
            }
        };
        // A row that weighs nothing costs nothing, even where its label was masked with -inf.
        losses[i] = if factor == 0.0 { 0.0 } else { factor * base };
        stats[i] = RowStats { factor, ..softmax };
    }
    (losses, stats)
}

/// Whether a row can be trained on, by its scores and its targets.
pub(super) fn is_sound(spec: &Spec, z: &[f64], terms: &[(u32, f64)]) -> bool {
    let scores = spec.scores == Scores::Logits || ScoredRow::new(spec.scores, z).is_some();
    is_finite_row(z) && scores && terms.iter().all(|(_, t)| t.is_finite())
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

/// The probabilities that a row's loss is made of, exact where a class has nearly all of it.
pub(crate) struct Probabilities {
    /// `p`.
    pub p: Vec<f64>,
    /// `1 - p`, without the cancellation.
    pub q: Vec<f64>,
    /// `-log p`, without the cancellation.
    pub minus_log_p: Vec<f64>,
}

impl Probabilities {
    /// As they came.
    fn given(p: &[f64]) -> Self {
        let q = p.iter().map(|p| 1.0 - p).collect();
        Self { p: p.to_vec(), q, minus_log_p: p.iter().map(|p| -p.ln()).collect() }
    }

    /// `v / sum v`. The largest value is kept out of the sum of the others.
    fn normalized(v: &[f64]) -> (Self, f64) {
        let top = (0..v.len()).fold(0, |best, j| if v[j] > v[best] { j } else { best });
        let others: f64 = (0..v.len()).filter(|&j| j != top).map(|j| v[j]).sum();
        let sum = v[top] + others;
        let p: Vec<f64> = v.iter().map(|v| v / sum).collect();
        let mut q: Vec<f64> = p.iter().map(|p| 1.0 - p).collect();
        let mut minus_log_p: Vec<f64> = p.iter().map(|p| -p.ln()).collect();
        q[top] = others / sum;
        minus_log_p[top] = (others / v[top]).ln_1p();
        (Self { p, q, minus_log_p }, sum)
    }

    /// Kept within `[eps, 1 - eps]`, and whether each was within.
    fn clipped(&self, eps: f64) -> (Self, Vec<bool>) {
        let mut clipped =
            Self { p: self.p.clone(), q: self.q.clone(), minus_log_p: self.minus_log_p.clone() };
        let mut within = vec![true; self.p.len()];
        for (j, within) in within.iter_mut().enumerate() {
            let to = match () {
                () if self.p[j] < eps => (eps, 1.0 - eps, -eps.ln()),
                () if self.q[j] < eps => (1.0 - eps, eps, -(-eps).ln_1p()),
                () => continue,
            };
            *within = false;
            (clipped.p[j], clipped.q[j], clipped.minus_log_p[j]) = to;
        }
        (clipped, within)
    }

    /// `sum_j u_j (1 - p_j)^gamma (-log p_j)`.
    fn loss(&self, terms: &Terms<'_>) -> f64 {
        let mut loss = 0.0;
        for (j, &u) in terms.weighted_targets.iter().enumerate() {
            // A target of 0 counts nothing even where the probability is 0.
            if u != 0.0 {
                loss += u * self.q[j].powf(terms.gamma) * self.minus_log_p[j];
            }
        }
        loss
    }

    /// `g`, the derivative of a term with respect to `log p`: `-u q^gamma (gamma p (-log p) / q + 1)`.
    fn slope(&self, terms: &Terms<'_>, j: usize) -> f64 {
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

/// The sum of all `g` but one's own. The only term is not what is left of the sum after rounding.
fn sums_of_others(g: &[f64]) -> Vec<f64> {
    let sum: f64 = g.iter().sum();
    let only = g.iter().filter(|g| **g != 0.0).count() == 1;
    g.iter().map(|&own| if only && own != 0.0 { 0.0 } else { sum - own }).collect()
}

/// The softmax of one row.
pub(super) struct Softmax {
    reference: f64,
    sum: f64,
    lse: f64,
    of: Probabilities,
}

impl Softmax {
    pub fn new(z: &[f64]) -> Self {
        let top = (0..z.len()).fold(0, |best, j| if z[j] > z[best] { j } else { best });
        let reference = z[top];
        // The top class is exactly 1.
        let e: Vec<f64> = z.iter().map(|x| (x - reference).exp()).collect();
        let (mut of, sum) = Probabilities::normalized(&e);
        // Of the others' sum: of a row that is certain, 1 and that sum are 1 again.
        let log_sum = of.minus_log_p[top];
        for j in (0..z.len()).filter(|&j| j != top) {
            // The exponential may be 0 where its logarithm is still a number.
            of.minus_log_p[j] = (reference - z[j]) + log_sum;
        }
        Self { reference, sum, lse: reference + log_sum, of }
    }

    fn stats(&self) -> RowStats {
        let Self { reference, sum, lse, .. } = *self;
        RowStats { reference, sum, lse, factor: 1.0 }
    }

    /// A row's loss before its factor.
    fn base(&self, terms: &Terms<'_>) -> f64 {
        let expected: f64 = self.of.p.iter().enumerate().map(|(j, p)| terms.cost(j) * p).sum();
        self.of.loss(terms) + terms.z_loss * self.lse * self.lse + expected
    }

    /// The derivative of a row's loss, before its factor, with respect to each `z`.
    ///
    /// That of the focal terms is `g_k q_k - p_k sum_{j != k} g_j`: at a label it is `-u q`, never `p - 1`.
    pub fn slopes(&self, terms: &Terms<'_>) -> Vec<f64> {
        let Probabilities { p, q, .. } = &self.of;
        let g: Vec<f64> = (0..p.len()).map(|j| self.of.slope(terms, j)).collect();
        let others = sums_of_others(&g);
        let expected: f64 = (0..p.len()).map(|j| terms.cost(j) * p[j]).sum();
        (0..p.len())
            .map(|k| {
                let focal = g[k] * q[k] - p[k] * others[k];
                focal + p[k] * (2.0 * terms.z_loss * self.lse + terms.cost(k) - expected)
            })
            .collect()
    }
}

/// A row whose scores are probabilities of some kind: see [`Scores`].
pub(crate) struct ScoredRow {
    /// What the loss is made of.
    pub of: Probabilities,
    /// The probabilities that sum to 1: `of`, but for a clip that comes last.
    pub normalized: Vec<f64>,
    /// 1 less those, without the cancellation.
    pub rest: Vec<f64>,
    /// Whether the clip passes each class's gradient.
    pub within: Vec<bool>,
    /// What was divided by.
    pub sum: f64,
    /// The softmax's own probabilities, where a clip and another sum followed.
    pub inner: Option<Vec<f64>>,
    scores: Scores,
}

impl ScoredRow {
    /// From a row's scores. `None` where they cannot be normalized, or are logits.
    pub fn new(scores: Scores, x: &[f64]) -> Option<Self> {
        let clip = scores.clip().unwrap_or_default();
        let late = clip.order == ClipOrder::AfterNormalizing;
        // What the first sum is of, and whether each was within an earlier clip.
        let (mut of, sum, mut within, inner) = match scores {
            Scores::Logits => return None,
            Scores::LogProbs => {
                let p = x.iter().map(|x| x.exp()).collect();
                // Above 1 there is no probability: nothing is left for the other classes.
                let q = x.iter().map(|x| (-x.exp_m1()).max(0.0)).collect();
                let minus_log_p = x.iter().map(|x| -x).collect();
                (Probabilities { p, q, minus_log_p }, 1.0, vec![true; x.len()], None)
            }
            Scores::SoftmaxProbs(_) if late => (Softmax::new(x).of, 1.0, vec![], None),
            Scores::Probs(_) if late => {
                let (of, sum) = Probabilities::normalized(x);
                (of, sum, vec![], None)
            }
            Scores::SoftmaxProbs(_) => {
                let inner = Softmax::new(x).of;
                let (clipped, within) = inner.clipped(clip.eps);
                let (of, sum) = Probabilities::normalized(&clipped.p);
                (of, sum, within, Some(inner.p))
            }
            Scores::Probs(_) => {
                let (clipped, within) = Probabilities::given(x).clipped(clip.eps);
                let (of, sum) = Probabilities::normalized(&clipped.p);
                (of, sum, within, None)
            }
        };
        if !(sum > 0.0 && sum < f64::from(LOGIT_LIMIT)) {
            return None;
        }
        let (normalized, rest) = (of.p.clone(), of.q.clone());
        if scores.clip().is_some() && late {
            (of, within) = of.clipped(clip.eps);
        }
        Some(Self { of, normalized, rest, within, sum, inner, scores })
    }

    /// A row's loss before its factor.
    fn base(&self, terms: &Terms<'_>) -> f64 {
        self.of.loss(terms)
    }

    /// The derivative of a row's loss, before its factor, with respect to each score.
    ///
    /// With the normalized `n` and their sum `S`, `g` as in a softmax and 0 where a later clip holds it: with respect to
    /// probabilities it is `(g_k (1 - n_k) / n_k - sum_{j != k} g_j) / S`, 0 where an earlier clip holds them; with
    /// respect to a softmax's logits `n_k` times that. Between a softmax and its second normalization the clip takes
    /// something away from all classes: `p_k` times the sum of the gradients that the clip does not pass.
    pub fn slopes(&self, terms: &Terms<'_>) -> Vec<f64> {
        let (p, q) = (&self.normalized, &self.rest);
        let clip = self.scores.clip();
        let late = clip.is_some_and(|clip| clip.order == ClipOrder::AfterNormalizing);
        let slope = |j: usize| if late && !self.within[j] { 0.0 } else { self.of.slope(terms, j) };
        let g: Vec<f64> = (0..p.len()).map(slope).collect();
        if self.scores == Scores::LogProbs {
            return g;
        }
        let others = sums_of_others(&g);
        let passes = |k: usize| late || self.within[k];
        let of_logits = |k: usize| g[k] * q[k] - p[k] * others[k];
        let held: f64 = (0..p.len()).filter(|&k| !passes(k)).map(of_logits).sum();
        (0..p.len())
            .map(|k| match (&self.inner, self.scores) {
                (Some(inner), _) => {
                    // All gradients of a softmax sum to 0: what passes is the opposite of what is held.
                    let own = if passes(k) { of_logits(k) } else { 0.0 };
                    own + inner[k] * held
                }
                (None, Scores::Probs(_)) if !passes(k) => 0.0,
                // A clipped class has no term of its own, and may have no probability.
                (None, Scores::Probs(_)) if g[k] == 0.0 => -others[k] / self.sum,
                (None, Scores::Probs(_)) => (g[k] * q[k] / p[k] - others[k]) / self.sum,
                (None, _) => of_logits(k),
            })
            .collect()
    }
}
