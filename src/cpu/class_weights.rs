//! Class weights from class counts.

use crate::spec::{ClassesOver, LiveWeights, WeightScheme};

/// The weight of each class: the formulas of [`WeightScheme`], and `absent_weight` where the count is 0.
pub fn class_weights(live: &LiveWeights, counts: &[u32]) -> Vec<f64> {
    let smoothing = f64::from(live.smoothing);
    let mut present: Vec<f64> =
        counts.iter().filter(|&&count| count > 0).map(|&count| f64::from(count) + smoothing).collect();
    let rows: f64 = present.iter().sum();
    let classes = match live.over {
        ClassesOver::Present => present.len(),
        ClassesOver::All => counts.len(),
    } as f64;
    // Before the scale that makes the weights sum to what the scheme says.
    let raw = |n: f64| match live.scheme {
        WeightScheme::Balanced => rows / (classes * n),
        WeightScheme::Inverse => 1.0 / n,
        WeightScheme::InversePower(p) => n.powf(-f64::from(p)),
        // 1 - beta^n; with beta 0 every class has one effective row.
        WeightScheme::EffectiveNumber(beta) => (1.0 - beta) / -(n * beta.ln()).exp_m1(),
        WeightScheme::MedianFrequency => 1.0 / n,
        WeightScheme::LogFrequency(a) => 1.0 / (f64::from(a) + n / rows).ln(),
    };
    let scale = match live.scheme {
        WeightScheme::InversePower(_) => rows / present.iter().map(|&n| n * raw(n)).sum::<f64>(),
        WeightScheme::EffectiveNumber(_) => classes / present.iter().map(|&n| raw(n)).sum::<f64>(),
        WeightScheme::MedianFrequency => median(&mut present),
        _ => 1.0,
    };
    let (min, max) = (f64::from(live.min), f64::from(live.max));
    let weight = |n: f64| (scale * raw(n)).clamp(min, max);
    counts
        .iter()
        .map(|&count| match count {
            0 => f64::from(live.absent_weight),
            _ => weight(f64::from(count) + smoothing),
        })
        .collect()
}

/// The middle value, or the mean of the two in the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// `tau log((n_c + smoothing) / sum_j (n_j + smoothing))`: a [`LogitBias`](crate::LogitBias).
pub fn log_prior(tau: f64, smoothing: f64, counts: &[u32]) -> Vec<f64> {
    let sum: f64 = counts.iter().map(|&count| f64::from(count) + smoothing).sum();
    counts.iter().map(|&count| tau * ((f64::from(count) + smoothing) / sum).ln()).collect()
}
