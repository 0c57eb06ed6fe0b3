//! Class weights from class counts.

use crate::spec::{LiveWeights, WeightScheme};

/// The weight of each class: the formulas of [`WeightScheme`], and `absent_weight` where the count is 0.
pub fn class_weights(live: &LiveWeights, counts: &[u32]) -> Vec<f64> {
    let rows: f64 = counts.iter().map(|&count| f64::from(count)).sum();
    let present = counts.iter().filter(|&&count| count > 0).count() as f64;
    let weight = |count: f64| match live.scheme {
        WeightScheme::Balanced => rows / (present * count),
        WeightScheme::Inverse => 1.0 / count,
    };
    counts
        .iter()
        .map(|&count| match count {
            0 => f64::from(live.absent_weight),
            _ => weight(f64::from(count)),
        })
        .collect()
}

/// `tau log((n_c + smoothing) / sum_j (n_j + smoothing))`: a [`LogitBias`](crate::LogitBias).
pub fn log_prior(tau: f64, smoothing: f64, counts: &[u32]) -> Vec<f64> {
    let sum: f64 = counts.iter().map(|&count| f64::from(count) + smoothing).sum();
    counts.iter().map(|&count| tau * ((f64::from(count) + smoothing) / sum).ln()).collect()
}
