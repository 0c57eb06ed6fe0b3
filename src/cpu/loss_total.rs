//! The loss as one number, and what the rows say of their classes.

use super::cross_entropy_forward::is_sound;
use super::{ClassValues, Target, argmax, row_logits, sample_weight};
use crate::inputs::{Inputs, Totals};
use crate::shape::Shape;
use crate::spec::Spec;
use crate::stats::{ClassStats, NO_CLASS};

/// Fills `loss_sum` and `loss`: the sum of the rows' losses, and that divided by `totals.denominator` (0 where
/// it is 0). NaN if any row was not finite, whatever the denominator: nothing may look trained.
pub fn loss_total(row_losses: &[f64], totals: &mut Totals<f64>) {
    totals.loss_sum = row_losses.iter().fold(0.0, |sum, loss| sum + loss);
    totals.loss = match totals.denominator {
        _ if totals.loss_sum.is_nan() => f64::NAN,
        0.0 => 0.0,
        denominator => totals.loss_sum / denominator,
    };
}

/// The class with each row's largest logit, the lowest on ties: `[rows]`. [`NO_CLASS`] where a row does not count or is
/// not finite.
pub fn predictions(spec: &Spec, shape: &Shape, inputs: &Inputs<'_>, values: &ClassValues) -> Vec<u32> {
    let predict = |row| match Target::read(spec, shape, inputs, row) {
        Target::Counts { terms, .. }
            if is_sound(spec, &row_logits(spec, shape, inputs, values, row), &terms) =>
        {
            argmax(shape, inputs.logits, row)
        }
        _ => NO_CLASS,
    };
    (0..shape.rows).map(predict).collect()
}

/// What each class has of a batch whose losses and predictions are known.
pub fn class_stats(
    spec: &Spec,
    shape: &Shape,
    inputs: &Inputs<'_>,
    values: &ClassValues,
    row_losses: &[f64],
    predictions: &[u32],
    confusion: bool,
) -> ClassStats {
    let mut stats = ClassStats::new(shape.classes, confusion);
    let can_be_summed = |x: f64| x.abs() < f64::from(ClassStats::SUM_LIMIT);
    for row in 0..shape.rows {
        let (class, terms) = match Target::read(spec, shape, inputs, row) {
            Target::Counts { class, terms } => (class, terms),
            Target::Ignored | Target::OutOfRange => continue,
        };
        if terms.iter().any(|(_, t)| !t.is_finite()) {
            continue;
        }
        let (c, prediction) = (class as usize, predictions[row as usize]);
        let (loss, weight) =
            (row_losses[row as usize], sample_weight(spec, shape, inputs, row) * values.weight(class));
        let correct = prediction == class;
        stats.rows[c] += 1;
        stats.correct[c] += u64::from(correct);
        stats.unsummed[c] += u64::from(!can_be_summed(loss) || !can_be_summed(weight));
        if can_be_summed(loss) {
            stats.loss[c] += loss;
        }
        if can_be_summed(weight) {
            stats.weight[c] += weight;
            stats.correct_weight[c] += if correct { weight } else { 0.0 };
        }
        if let Some(confusion) = stats.confusion.as_mut().filter(|_| prediction != NO_CLASS) {
            confusion[c * shape.classes as usize + prediction as usize] += 1;
        }
    }
    stats
}
