//! The loss as one number.

use crate::inputs::Totals;

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
