//! What a mean divides by, and every count that labels and weights alone decide.

use super::{Label, sample_weight};
use crate::inputs::{Inputs, Totals};
use crate::shape::Shape;
use crate::spec::{Denominator, Reduction, Spec};

/// Fills the fields of [`Totals`] that need no logit. `class_weights` is `[classes]`, all 1 where `None`.
///
/// The cost factor is in no denominator: it depends on the predictions and would cancel the penalty.
pub fn denominator(
    spec: &Spec,
    shape: &Shape,
    inputs: &Inputs<'_>,
    class_weights: Option<&[f64]>,
) -> Totals<f64> {
    let mut totals = Totals::default();
    for row in 0..shape.rows {
        let class = match Label::read(spec, shape, inputs.labels[row as usize]) {
            Label::Class(class) => class,
            Label::Ignored => {
                totals.ignored_rows += 1;
                continue;
            }
            Label::OutOfRange => {
                totals.out_of_range_rows += 1;
                totals.first_bad_row.get_or_insert(row);
                continue;
            }
        };
        let s = sample_weight(spec, shape, inputs, row);
        let w = class_weights.map_or(1.0, |weights| weights[class as usize]);
        totals.valid_rows += 1;
        totals.sample_weight_sum += s;
        totals.weight_sum += s * w;
        totals.nonzero_rows += u32::from(s * w != 0.0);
    }
    totals.denominator = match spec.reduction {
        Reduction::None | Reduction::Sum => 1.0,
        Reduction::Mean(Denominator::WeightSum) => totals.weight_sum,
        Reduction::Mean(Denominator::ValidRows) => f64::from(totals.valid_rows),
        Reduction::Mean(Denominator::SampleWeightSum) => totals.sample_weight_sum,
        Reduction::Mean(Denominator::NonZeroWeights) => f64::from(totals.nonzero_rows),
        Reduction::Mean(Denominator::Rows) => f64::from(shape.rows),
        Reduction::Mean(Denominator::External) => inputs.external_denominator.map_or(0.0, f64::from),
    };
    totals
}
