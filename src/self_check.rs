//! A plan checks itself, on the device at hand: its own pipelines on made-up hard batches, against the oracle.

use crate::binary::{BinaryDenominator, BinaryInputs, BinaryReduction, BinaryScores};
use crate::binary_plan::BinaryCrossEntropy;
use crate::config::{Dtype, LabelFormat};
use crate::error::HostError;
use crate::inputs::{Inputs, sample_weights_len};
use crate::plan::CrossEntropy;
use crate::shape::Shape;
use crate::spec::{Denominator, Reduction, Scores, Targets};
use crate::tolerance::Worst;
use crate::validate::Validation;

/// How much a self-check does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfCheckOptions {
    /// About how many logits a made-up batch has, which is what the oracle's time goes with: some 0.2 us each. Rows are
    /// left out to stay below, never classes: the loops over a row have the turns that they have in training.
    pub max_logits: u64,
    /// Of the made-up numbers.
    pub seed: u64,
}

impl Default for SelfCheckOptions {
    fn default() -> Self {
        Self { max_logits: 1 << 20, seed: 1 }
    }
}

/// What a self-check found.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SelfCheck {
    /// Rows of each made-up batch.
    pub rows: u32,
    /// Each batch, and how the device's outputs compare with the oracle's.
    pub batches: Vec<(&'static str, Validation)>,
}

impl SelfCheck {
    /// Whether every output of every batch is within its tolerance.
    pub fn passed(&self) -> bool {
        self.batches.iter().all(|(_, validation)| validation.passed())
    }

    /// The first output that is not, with its batch: where it is worst, what came, what was expected, and the derived
    /// tolerance.
    pub fn first_difference(&self) -> Option<(&'static str, &Worst)> {
        self.batches.iter().find_map(|batch| batch.1.failures().next().map(|worst| (batch.0, worst)))
    }
}

impl std::fmt::Display for SelfCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (batch, validation) in &self.batches {
            write!(f, "{batch}, {} rows\n{validation}", self.rows)?;
        }
        match self.first_difference() {
            None => writeln!(f, "passed"),
            Some((batch, worst)) => writeln!(f, "first difference, {batch}: {worst}"),
        }
    }
}

/// Rows for a made-up batch: at least a few of each kind and at most what the options allow, in whole samples and blocks.
fn rows_of(shape: &Shape, options: &SelfCheckOptions) -> u32 {
    let (inner, steps) = (u64::from(shape.inner), u64::from(shape.steps));
    let unit = inner / gcd(inner, steps) * steps;
    let most = options.max_logits / u64::from(shape.classes);
    let rows = u64::from(shape.rows).max(2 * KINDS).min(most) / unit * unit;
    u32::try_from(rows.max(unit)).unwrap_or(shape.rows)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Kinds of rows.
const KINDS: u64 = 16;

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// Below `n`.
    pub fn below(&mut self, n: u32) -> u32 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u32
    }
}

/// A made-up batch.
struct MadeUp {
    logits: Vec<f32>,
    labels: Vec<i32>,
    second_labels: Option<Vec<i32>>,
    mix: Option<Vec<f32>>,
    target_probs: Option<Vec<f32>>,
    sample_weights: Option<Vec<f32>>,
    grad_out: Option<Vec<f32>>,
    external: Option<f32>,
}

impl MadeUp {
    /// Rows of every kind: unsure, certain, wrong, tied, masked, wide, tiny, huge; labels of the first, the last and any
    /// class, ignored ones, and ones out of range. `hostile` adds rows that are not finite, which make the loss NaN.
    fn new(plan: &CrossEntropy, shape: &Shape, seed: u64, hostile: bool) -> Self {
        let (spec, options) = (plan.config().spec(), plan.config().options());
        let mut noise = Noise(seed);
        let Shape { rows, classes, .. } = *shape;
        // Of larger ones the squares (z_loss) are more than an f32 holds.
        let huge: f32 = if options.dtype == Dtype::F16 { 6e4 } else { 1e15 };
        let mut logits = vec![0.0; shape.logits_len() as usize];
        let mut target_probs = (spec.targets == Targets::Soft).then(|| logits.clone());
        let mut labels = Vec::new();
        for row in 0..rows {
            let label = match noise.below(8) {
                0 => 0,
                1 => classes - 1,
                _ => noise.below(classes),
            };
            let kind = u64::from(row) % KINDS;
            // Where the rest of a row lies, and where its label: scale of the noise, and lead.
            let (scale, lead) = match kind {
                0 => (4.0, 12.0),
                1 => (40.0, -20.0),
                2 => (1.0, 0.0),
                3 => (0.0, 0.0),
                4 => (8.0, 0.0),
                5 => (200.0, 0.0),
                6 => (1e-3, 30.0),
                7 => (0.0, 0.0),
                8 => (huge, 0.0),
                _ => (6.0, 3.0),
            };
            let masked = kind == 4;
            for class in 0..classes {
                let own = class == label;
                let value = (noise.unit() - 0.5) * scale + if own { lead } else { 0.0 };
                // Denormals may be flushed, so all of a row are the same.
                let value = if kind == 7 { 1e-39 } else { value };
                let mask = masked && !own && noise.below(3) == 0;
                logits[shape.index(row, class) as usize] = if mask { f32::NEG_INFINITY } else { value };
                if let Some(probs) = &mut target_probs {
                    probs[shape.index(row, class) as usize] = match kind % 4 {
                        0 => f32::from(u8::from(own)),
                        1 => noise.unit() * 2.0 / classes as f32,
                        2 if class % 2 == 0 && !own => 0.0,
                        _ => noise.unit() / classes as f32 + f32::from(u8::from(own)) * 0.5,
                    };
                }
            }
            if hostile && spec.scores.are_logits() {
                let spoiled = shape.index(row, noise.below(classes)) as usize;
                match kind {
                    9 => logits[spoiled] = f32::NAN,
                    10 => logits[spoiled] = f32::INFINITY,
                    11 => (0..classes)
                        .for_each(|class| logits[shape.index(row, class) as usize] = f32::NEG_INFINITY),
                    _ => {}
                }
            }
            let packed = options.labels != LabelFormat::I32;
            labels.push(match kind {
                12 => spec.ignore_index.filter(|label| !packed || (0..=255).contains(label)).unwrap_or(0),
                13 if packed => (classes as i32).min(255),
                13 => [-7, i32::MIN, classes as i32, i32::MAX][noise.below(4) as usize],
                _ => label as i32,
            });
        }
        if !spec.scores.are_logits() {
            to_probabilities(spec.scores, shape, &mut logits);
        }
        if spec.targets == Targets::Soft {
            labels.clear();
        }
        let two_hot = spec.targets == Targets::TwoHot;
        let second_labels =
            two_hot.then(|| (0..rows).map(|_| noise.below(classes) as i32).collect::<Vec<i32>>());
        let mix = two_hot.then(|| (0..rows).map(|row| [0.0, 1.0, 0.5, 0.3][row as usize % 4]).collect());
        // Among the weights are zeros and tiny ones.
        let weight = |noise: &mut Noise, index: u32| match index % 11 {
            5 => 0.0,
            7 => 1e-30,
            _ => 0.25 + noise.unit(),
        };
        let sample_weights = sample_weights_len(spec, shape)
            .map(|n| (0..n).map(|index| weight(&mut noise, index)).collect::<Vec<f32>>());
        let grad_out = options.grad_out.then(|| (0..rows).map(|_| noise.unit() * 2.0 - 0.7).collect());
        let external = spec.reduction == Reduction::Mean(Denominator::External);
        Self {
            logits,
            labels,
            second_labels,
            mix,
            target_probs,
            sample_weights,
            grad_out,
            external: external.then_some(37.5),
        }
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            logits: &self.logits,
            labels: &self.labels,
            second_labels: self.second_labels.as_deref(),
            mix: self.mix.as_deref(),
            target_probs: self.target_probs.as_deref(),
            sample_weights: self.sample_weights.as_deref(),
            grad_out: self.grad_out.as_deref(),
            external_denominator: self.external,
        }
    }
}

/// Probabilities of made-up logits, or their logarithms.
fn to_probabilities(scores: Scores, shape: &Shape, logits: &mut [f32]) {
    for row in 0..shape.rows {
        let at: Vec<usize> = (0..shape.classes).map(|class| shape.index(row, class) as usize).collect();
        let top = at.iter().map(|&i| logits[i]).fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = at.iter().map(|&i| f64::from(logits[i] - top).exp()).sum();
        for &i in &at {
            let log_p = f64::from(logits[i] - top) - sum.ln();
            logits[i] = if scores == Scores::LogProbs { log_p as f32 } else { log_p.exp() as f32 };
        }
    }
}

impl CrossEntropy {
    /// Checks this plan on this device: its own pipelines run on made-up hard batches, and every output is compared with
    /// the oracle's. Compilers and drivers do err, some without a word; once before a long training, or once on each new
    /// machine, is well spent.
    ///
    /// The batches have the plan's classes, layout and options, and lie in buffers of their own: telemetry, history and
    /// table of the plan are left alone. It waits for the device.
    ///
    /// # Errors
    /// [`HostError`] where the device fails. A difference is no error: see [`SelfCheck::passed`].
    pub async fn self_check(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        options: &SelfCheckOptions,
    ) -> Result<SelfCheck, HostError> {
        let rows = rows_of(self.config().shape(), options);
        let own = self.with_rows(device, rows)?;
        let mut batches = Vec::new();
        for (name, hostile) in [("hard batch", false), ("hostile batch", true)] {
            let made_up = MadeUp::new(&own, own.config().shape(), options.seed, hostile);
            batches.push((name, own.validate(device, queue, &made_up.inputs()).await?));
        }
        Ok(SelfCheck { rows, batches })
    }

    /// [`CrossEntropy::self_check`], waiting.
    ///
    /// # Errors
    /// As [`CrossEntropy::self_check`].
    #[cfg(not(target_family = "wasm"))]
    pub fn self_check_blocking(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        options: &SelfCheckOptions,
    ) -> Result<SelfCheck, HostError> {
        pollster::block_on(self.self_check(device, queue, options))
    }
}

impl BinaryCrossEntropy {
    /// Checks this plan on this device, as [`CrossEntropy::self_check`] does.
    ///
    /// # Errors
    /// [`HostError`] where the device fails. A difference is no error: see [`SelfCheck::passed`].
    pub async fn self_check(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        options: &SelfCheckOptions,
    ) -> Result<SelfCheck, HostError> {
        let rows = rows_of(self.config().shape(), options);
        let own = self.with_rows(device, rows)?;
        let (spec, shape) = (own.config().spec(), own.config().shape());
        let len = shape.logits_len() as usize;
        let huge: f32 = if own.config().options().dtype == Dtype::F16 { 6e4 } else { 1e15 };
        let mut batches = Vec::new();
        for (name, hostile) in [("hard batch", false), ("hostile batch", true)] {
            let mut noise = Noise(options.seed);
            let scores = matches!(spec.scores, BinaryScores::Probs(_));
            let logits: Vec<f32> = (0..len)
                .map(|i| match (scores, i % 13) {
                    (_, 3) if hostile => f32::NAN,
                    (true, 4) => 1.0,
                    (true, 5) => 0.0,
                    (true, _) => noise.unit(),
                    (_, 4) => noise.unit() * 100.0,
                    (_, 5) => noise.unit() * -100.0,
                    (_, 6) => huge,
                    (_, 7) => 1e-39,
                    (_, 8) => -0.0,
                    (_, _) => (noise.unit() - 0.5) * 8.0,
                })
                .collect();
            let targets: Vec<f32> = (0..len)
                .map(|i| match (spec.ignore_value, i % 7) {
                    (Some(value), 3) => value,
                    (_, 4) => noise.unit(),
                    (_, _) => noise.below(2) as f32,
                })
                .collect();
            let mut floats = |wanted: bool, n: usize| {
                wanted.then(|| {
                    let weights = (0..n).map(|i| if i % 11 == 5 { 0.0 } else { 0.25 + noise.unit() });
                    weights.collect::<Vec<f32>>()
                })
            };
            let element_weights = floats(spec.element_weights, len);
            let sample_weights = floats(spec.sample_weights, shape.rows as usize);
            let grad_out = floats(own.config().options().grad_out, len);
            let external = spec.reduction == BinaryReduction::Mean(BinaryDenominator::External);
            let inputs = BinaryInputs {
                logits: &logits,
                targets: &targets,
                element_weights: element_weights.as_deref(),
                sample_weights: sample_weights.as_deref(),
                grad_out: grad_out.as_deref(),
                external_denominator: external.then_some(37.5),
            };
            batches.push((name, own.validate(device, queue, &inputs).await?));
        }
        Ok(SelfCheck { rows, batches })
    }

    /// [`BinaryCrossEntropy::self_check`], waiting.
    ///
    /// # Errors
    /// As [`BinaryCrossEntropy::self_check`].
    #[cfg(not(target_family = "wasm"))]
    pub fn self_check_blocking(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        options: &SelfCheckOptions,
    ) -> Result<SelfCheck, HostError> {
        pollster::block_on(self.self_check(device, queue, options))
    }
}
