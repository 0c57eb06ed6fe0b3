//! Class weights from class counts, and the counts of many batches.

use crate::spec::{ClassesOver, CountsOver, LiveWeights, WeightScheme};

/// The weight of each class: the formulas of [`WeightScheme`], and `absent_weight` where the count, or the mass, is not
/// above 0.
pub fn class_weights<N: Copy + Into<f64>>(live: &LiveWeights, counts: &[N]) -> Vec<f64> {
    let counts: Vec<f64> = counts.iter().map(|&count| count.into()).collect();
    let smoothing = f64::from(live.smoothing);
    let mut present: Vec<f64> =
        counts.iter().filter(|&&count| count > 0.0).map(|&count| count + smoothing).collect();
    let rows: f64 = present.iter().sum();
    let classes = match live.over {
        ClassesOver::Present => present.len(),
        ClassesOver::All => counts.len(),
    } as f64;
    // Powers are of what a class has over the rarest one, so that they stay within `f64`.
    let least = present.iter().copied().fold(f64::INFINITY, f64::min);
    // Before the scale that makes the weights sum to what the scheme says.
    let raw = |n: f64| match live.scheme {
        WeightScheme::Balanced => rows / (classes * n),
        WeightScheme::Inverse => 1.0 / n,
        WeightScheme::InversePower(p) => (n / least).powf(-f64::from(p)),
        WeightScheme::InverseFrequency(p) => (rows / n).powf(p.into()),
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
        .map(|&count| match count > 0.0 {
            true => weight(count + smoothing),
            false => f64::from(live.absent_weight),
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
/// A mass below 0 is none.
pub fn log_prior<N: Copy + Into<f64>>(tau: f64, smoothing: f64, counts: &[N]) -> Vec<f64> {
    let smoothed = || counts.iter().map(|&count| count.into().max(0.0) + smoothing);
    let sum: f64 = smoothed().sum();
    smoothed().map(|count| tau * (count / sum).ln()).collect()
}

/// The counts of many batches, as [`CountsOver`] says: what [`CountHistory`](crate::CountHistory) is on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct CountState {
    over: CountsOver,
    /// Batches seen.
    pub steps: u64,
    /// `[classes]`: the moving average before its bias is corrected, or the sum.
    pub counts: Vec<f64>,
}

impl CountState {
    /// Before the first batch.
    pub fn new(over: CountsOver, classes: u32) -> Self {
        Self { over, steps: 0, counts: vec![0.0; classes as usize] }
    }

    /// Takes the counts of one more batch, and gives those that the formulas take.
    pub fn update<N: Copy + Into<f64>>(&mut self, batch: &[N]) -> Vec<f64> {
        self.steps += 1;
        let steps = self.counts.iter_mut().zip(batch.iter().map(|&count| count.into()));
        match self.over {
            CountsOver::Batch => steps.for_each(|(kept, count)| *kept = count),
            CountsOver::Cumulative => steps.for_each(|(kept, count)| *kept += count),
            CountsOver::Ema { momentum } => steps.for_each(|(kept, count)| {
                let moved = f64::from(momentum) * *kept + (1.0 - f64::from(momentum)) * count;
                *kept = if moved.abs() < LEAST_MOVING { 0.0 } else { moved };
            }),
        }
        let unbiased = match self.over {
            // 1 - momentum^steps.
            CountsOver::Ema { momentum } => -(f64::from(momentum).ln() * self.steps as f64).exp_m1(),
            CountsOver::Batch | CountsOver::Cumulative => 1.0,
        };
        self.counts.iter().map(|kept| kept / unbiased).collect()
    }
}

/// What a moving average is 0 below: 2^-64 rows.
const LEAST_MOVING: f64 = 1.0 / (1u128 << 64) as f64;
