//! What a mean divides by, and every count that labels and weights alone decide.

use super::{ClassValues, Target, sample_weight};
use crate::inputs::{Inputs, Totals};
use crate::shape::Shape;
use crate::spec::{Denominator, Reduction, Spec, WeightScope};

/// Fills the fields of [`Totals`] that need no logit.
///
/// The cost factor is in no denominator: it depends on the predictions and would cancel the penalty. Smoothing is in
/// none either. A row's weight is `sum_j w_j t_j`, or `w_y` where weights are per row.
pub fn denominator(spec: &Spec, shape: &Shape, inputs: &Inputs<'_>, values: &ClassValues) -> Totals<f64> {
    let mut totals = Totals::default();
    for row in 0..shape.rows {
        let (class, terms) = match Target::read(spec, shape, inputs, row) {
            Target::Counts { class, terms } => (class, terms),
            Target::Ignored => {
                totals.ignored_rows += 1;
                continue;
            }
            Target::OutOfRange => {
                totals.out_of_range_rows += 1;
                totals.first_bad_row.get_or_insert(row);
                continue;
            }
        };
        let s = sample_weight(spec, shape, inputs, row);
        let w = match spec.weight_scope {
            WeightScope::PerTerm => terms.iter().map(|(class, t)| values.weight(*class) * t).sum(),
            WeightScope::PerRow => values.weight(class),
        };
        totals.valid_rows += 1;
        if !s.is_finite() {
            totals.nonfinite_weights += 1;
            totals.first_bad_row.get_or_insert(row);
        }
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
