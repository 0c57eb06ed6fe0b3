//! The crate's rules for one batch, written down a second time: what replaces a framework's values where the crate means
//! something else on purpose ([`Deviation`]).

use std::collections::BTreeMap;

use wgpu_cross_entropy::cpu::{self, Target};
use wgpu_cross_entropy::{
    ClassWeights, Clip, ClipOrder, Denominator, LOGIT_LIMIT, Reduction, SampleWeights, Scores, WeightScope,
};

use crate::cases::Stop;
use crate::work::{Deviation, Loss};

/// Expected outputs by name.
pub type Expected = BTreeMap<String, Vec<f64>>;

/// Notes a deviation, once.
pub fn deviate(deviations: &mut Vec<Deviation>, deviation: Deviation) {
    if !deviations.contains(&deviation) {
        deviations.push(deviation);
    }
}

/// What the cases call the gradient.
pub fn gradient_name(scores: Scores) -> &'static str {
    match scores {
        Scores::Logits | Scores::SoftmaxProbs(_) => "grad_logits",
        Scores::LogProbs => "grad_input",
        Scores::Probs(_) => "grad_probs",
    }
}

/// The label of a row of targets that are all 0.
pub const PADDING: i32 = -1;

/// The logits of a row.
pub fn row_logits(loss: &Loss, row: u32) -> Vec<f64> {
    (0..loss.shape.classes)
        .map(|class| f64::from(loss.logits[loss.shape.index(row, class) as usize]))
        .collect()
}

/// The first of the largest.
pub fn argmax(values: &[f64]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// Whether a row is NaN as a whole.
pub fn is_bad(z: &[f64]) -> bool {
    z.iter().any(|x| x.is_nan() || *x == f64::INFINITY) || z.iter().all(|x| *x == f64::NEG_INFINITY)
}

/// `-log p` and `p`.
pub fn softmax(z: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let largest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = z.iter().map(|x| (x - largest).exp()).sum();
    let cost: Vec<f64> = z.iter().map(|x| (largest - x) + sum.ln()).collect();
    let p = cost.iter().map(|cost| (-cost).exp()).collect();
    (cost, p)
}

/// `-log c` and `c` of a row's scores: the formulas of `Scores`, one after the other.
pub fn probabilities(scores: Scores, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let log = |p: Vec<f64>| (p.iter().map(|p| -p.ln()).collect(), p);
    let normalize = |p: Vec<f64>| {
        let sum: f64 = p.iter().sum();
        p.into_iter().map(|p| p / sum).collect::<Vec<f64>>()
    };
    let p = match scores {
        Scores::Logits => return softmax(x),
        Scores::LogProbs => return (x.iter().map(|x| -x).collect(), x.iter().map(|x| x.exp()).collect()),
        Scores::Probs(_) => x.to_vec(),
        Scores::SoftmaxProbs(_) => softmax(x).1,
    };
    let Some(Clip { eps, order }) = scores.clip() else { return log(p) };
    let clip = |p: Vec<f64>| p.into_iter().map(|p| p.clamp(eps, 1.0 - eps)).collect::<Vec<f64>>();
    log(match order {
        ClipOrder::AfterNormalizing => clip(normalize(p)),
        ClipOrder::BeforeNormalizing => normalize(clip(p)),
    })
}

/// The class that stands for a row; `None` where the row does not count.
pub fn class_of(loss: &Loss, row: u32) -> Option<u32> {
    match Target::read(&loss.spec, &loss.shape, &loss.inputs(), row) {
        Target::Counts { class, .. } => Some(class),
        Target::Ignored | Target::OutOfRange => None,
    }
}

/// The sample weight of a row, broadcast.
pub fn sample_weight(loss: &Loss, row: u32) -> f64 {
    let Some(weights) = &loss.sample_weights else { return 1.0 };
    let index = match loss.spec.sample_weights {
        SampleWeights::None => return 1.0,
        SampleWeights::PerRow => row,
        SampleWeights::PerSample => row / loss.shape.steps,
        SampleWeights::PerStep => row % loss.shape.steps,
    };
    f64::from(weights[index as usize])
}

/// The weight of a class, where weights are given.
pub fn class_weight(loss: &Loss, class: u32) -> f64 {
    match &loss.spec.class_weights {
        ClassWeights::Given(weights) => f64::from(weights[class as usize]),
        ClassWeights::None | ClassWeights::Live(_) => 1.0,
    }
}

/// Rows of targets that are all 0 are ignored.
pub fn empty_targets(loss: &Loss, expected: &mut Expected) {
    let unreduced = loss.spec.reduction == Reduction::None;
    let rows = || (0..loss.shape.rows).filter(|&row| loss.labels[row as usize] == PADDING);
    let mut poisoned = false;
    for (name, values) in expected.iter_mut() {
        for row in rows() {
            match name.as_str() {
                "grad_logits" => (0..loss.shape.classes).for_each(|class| {
                    if let Some(value) = values.get_mut(loss.shape.index(row, class) as usize) {
                        *value = 0.0;
                    }
                }),
                "per_sample" | "loss" if unreduced || name == "per_sample" => {
                    if let Some(value) = values.get_mut(row as usize) {
                        poisoned |= value.is_nan();
                        *value = 0.0;
                    }
                }
                _ => {}
            }
        }
    }
    // What such a row did to the mean is taken out of it.
    if poisoned && !unreduced {
        let sum: Option<f64> = expected.get("per_sample").map(|losses| losses.iter().sum());
        if let (Some(sum), Some(loss_value)) = (sum, expected.get_mut("loss")) {
            let by = match loss.spec.reduction {
                Reduction::Mean(Denominator::Rows) => f64::from(loss.shape.rows),
                _ => 1.0,
            };
            *loss_value = vec![sum / by];
        }
    }
}

/// The crate's rules for one batch, written down a second time: what replaces the framework's values.
pub struct Rules<'a> {
    loss: &'a Loss,
    /// What the crate divides by.
    denominator: f64,
}

impl<'a> Rules<'a> {
    /// Works out the denominator.
    pub fn new(loss: &'a Loss) -> Self {
        let counts = match loss.spec.needs_counts() {
            true => {
                cpu::class_counts(&loss.spec, &loss.shape, &loss.labels).into_iter().map(f64::from).collect()
            }
            false => Vec::new(),
        };
        let values = cpu::ClassValues::new(&loss.spec, &counts);
        let totals = cpu::denominator(&loss.spec, &loss.shape, &loss.inputs(), &values);
        Self { loss, denominator: loss.external.unwrap_or(totals.denominator) }
    }

    fn row(&self, row: u32) -> impl Iterator<Item = usize> + use<> {
        let shape = self.loss.shape;
        (0..shape.classes).map(move |class| shape.index(row, class) as usize)
    }

    /// The targets after smoothing.
    fn smoothed(&self, row: u32) -> Vec<f64> {
        let (loss, classes) = (self.loss, f64::from(self.loss.shape.classes));
        let mut targets = vec![loss.label_smoothing / classes; loss.shape.classes as usize];
        if let Target::Counts { terms, .. } = Target::read(&loss.spec, &loss.shape, &loss.inputs(), row) {
            for (class, t) in terms {
                targets[class as usize] += (1.0 - loss.label_smoothing) * t;
            }
        }
        targets
    }

    /// The factor of a whole row, the gathered cost included.
    fn factor(&self, row: u32) -> f64 {
        let loss = self.loss;
        let Some(class) = class_of(loss, row) else { return 0.0 };
        let weight = match loss.spec.weight_scope {
            WeightScope::PerRow => class_weight(loss, class),
            WeightScope::PerTerm => 1.0,
        };
        let cost = loss
            .spec
            .cost_matrix
            .as_ref()
            .map_or(1.0, |matrix| f64::from(matrix.cost(class, argmax(&row_logits(loss, row)) as u32)));
        sample_weight(loss, row) * weight * cost * loss.weight_scale
    }

    /// Clamped logits; target by target, 0 where the target or its weight is.
    fn row_loss(&self, row: u32) -> f64 {
        let (loss, limit) = (self.loss, f64::from(LOGIT_LIMIT));
        if class_of(loss, row).is_none() {
            return 0.0;
        }
        let clamp = |x: &f64| if x.is_finite() { x.clamp(-limit, limit) } else { *x };
        let z: Vec<f64> = row_logits(loss, row).iter().map(clamp).collect();
        if is_bad(&z) {
            return f64::NAN;
        }
        let (cost, p) = probabilities(loss.spec.scores, &z);
        let mut base = 0.0;
        for (class, t) in (0..).zip(self.smoothed(row)) {
            let weight = match loss.spec.weight_scope {
                WeightScope::PerTerm => class_weight(loss, class),
                WeightScope::PerRow => 1.0,
            };
            let (u, j) = (weight * t, class as usize);
            if u != 0.0 {
                base += u * (1.0 - p[j]).powf(loss.focal_gamma) * cost[j];
            }
        }
        let factor = self.factor(row);
        if factor == 0.0 { 0.0 } else { factor * base }
    }

    /// From `scale (p - t)` to `scale (p sum(t) - t)`: `p = g / scale + t`.
    ///
    /// # Errors
    /// Where there are not as many gradients as logits.
    pub fn true_derivative(
        &self,
        expected: &mut Expected,
        deviations: &mut Vec<Deviation>,
    ) -> Result<(), Stop> {
        let loss = self.loss;
        let Some(grads) = expected.get_mut("grad_logits") else { return Ok(()) };
        if grads.len() as u64 != loss.shape.logits_len() {
            return Err(Stop::Malformed("grad_logits is not of the logits' shape".into()));
        }
        for row in 0..loss.shape.rows {
            let targets = self.smoothed(row);
            let sum: f64 = targets.iter().sum();
            let upstream = loss.grad_out.as_ref().map_or(1.0, |grads| f64::from(grads[row as usize]));
            let scale = match self.denominator {
                0.0 => 0.0,
                denominator => upstream * loss.grad_scale * self.factor(row) / denominator,
            };
            if (sum - 1.0).abs() > 1e-6 {
                deviate(deviations, Deviation::TrueDerivative);
            }
            for (index, t) in self.row(row).zip(targets) {
                grads[index] = sum * grads[index] + scale * t * (sum - 1.0);
            }
        }
        Ok(())
    }

    /// Everything but the gradient of targets that do not sum to 1.
    pub fn apply(&self, expected: &mut Expected, deviations: &mut Vec<Deviation>) {
        let loss = self.loss;
        let mean = matches!(loss.spec.reduction, Reduction::Mean(_));
        let unreduced = loss.spec.reduction == Reduction::None;
        let empty = mean && self.denominator == 0.0;
        let bad = |row: u32| class_of(loss, row).is_some() && is_bad(&row_logits(loss, row));
        let beyond = |row: u32| {
            loss.spec.scores.are_logits()
                && class_of(loss, row).is_some()
                && row_logits(loss, row).iter().any(|x| x.is_finite() && x.abs() > f64::from(LOGIT_LIMIT))
        };
        let any_bad = (0..loss.shape.rows).any(bad);

        if let Some(grads) = expected.get_mut(gradient_name(loss.spec.scores)) {
            for row in 0..loss.shape.rows {
                let (want, deviation) = match class_of(loss, row) {
                    None => (0.0, Deviation::IgnoredRow),
                    Some(_) if bad(row) => (f64::NAN, Deviation::NotFinite),
                    Some(_) if empty => (0.0, Deviation::EmptyMean),
                    Some(_) => continue,
                };
                for index in self.row(row) {
                    let Some(grad) = grads.get_mut(index) else { continue };
                    if grad.is_nan() != want.is_nan() {
                        deviate(deviations, deviation);
                        *grad = want;
                    }
                }
            }
        }
        // The rows' losses, by name: unreduced, the loss is those.
        let mut recomputed = false;
        for name in ["per_sample", "loss"] {
            let Some(values) = expected.get_mut(name).filter(|_| unreduced || name == "per_sample") else {
                continue;
            };
            for row in 0..loss.shape.rows {
                let Some(value) = values.get_mut(row as usize) else { continue };
                let rule = || self.row_loss(row);
                match () {
                    () if beyond(row) => {
                        let rule = rule();
                        if *value != rule {
                            deviate(deviations, Deviation::LogitLimit);
                            (*value, recomputed) = (rule, true);
                        }
                    }
                    () if bad(row) && !value.is_nan() => {
                        deviate(deviations, Deviation::NotFinite);
                        *value = f64::NAN;
                    }
                    () if value.is_nan() && !bad(row) => {
                        let deviation = match class_of(loss, row) {
                            None => Deviation::IgnoredRow,
                            Some(_) => Deviation::ZeroTimesInfinity,
                        };
                        deviate(deviations, deviation);
                        (*value, recomputed) = (rule(), true);
                    }
                    () => {}
                }
            }
        }
        // The reduced loss.
        let Some(value) =
            expected.get_mut("loss").filter(|_| !unreduced).and_then(|values| values.first_mut())
        else {
            return;
        };
        let reduced = || (0..loss.shape.rows).map(|row| self.row_loss(row)).sum::<f64>() / self.denominator;
        match () {
            () if any_bad => {
                if !value.is_nan() {
                    deviate(deviations, Deviation::NotFinite);
                    *value = f64::NAN;
                }
            }
            () if empty => {
                if value.is_nan() {
                    deviate(deviations, Deviation::EmptyMean);
                    *value = 0.0;
                }
            }
            () if recomputed || value.is_nan() => {
                deviate(deviations, Deviation::ZeroTimesInfinity);
                *value = reduced();
            }
            () => {}
        }
    }
}
