//! Adapters, made-up batches, poisoned buffers.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use wgpu_cross_entropy::{
    ClassWeights, CostMatrix, Denominator, DeviceOptions, Dtype, Gpu, Inputs, LabelFormat, Reduction,
    SampleWeights, Scores, Shape, Spec, Targets, sample_weights_len,
};

/// Every adapter of this machine in turn. While a GL one has its turn no other test has it: wgpu gives up on GL's one
/// context where another thread compiles a long shader in it for seconds.
pub fn gpus() -> Turns {
    Turns { left: all_gpus().iter(), turn: None }
}

/// See [`gpus`].
pub struct Turns {
    left: std::slice::Iter<'static, Gpu>,
    turn: Option<MutexGuard<'static, ()>>,
}

impl Iterator for Turns {
    type Item = &'static Gpu;

    fn next(&mut self) -> Option<&'static Gpu> {
        static GL: Mutex<()> = Mutex::new(());
        self.turn = None;
        let gpu = self.left.next()?;
        if gpu.info.backend == wgpu::Backend::Gl {
            // A test that failed in its turn has done the others no harm.
            self.turn = Some(GL.lock().unwrap_or_else(PoisonError::into_inner));
        }
        Some(gpu)
    }
}

/// Every adapter, opened once: drivers dislike many devices in one process.
pub fn all_gpus() -> &'static [Gpu] {
    static GPUS: OnceLock<Vec<Gpu>> = OnceLock::new();
    let gpus = GPUS.get_or_init(|| pollster::block_on(Gpu::all(&DeviceOptions::default())));
    let expected: usize =
        std::env::var("WGPU_CROSS_ENTROPY_ADAPTERS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let names: Vec<String> = gpus.iter().map(Gpu::describe).collect();
    assert!(gpus.len() >= expected.max(1), "{} adapter(s) found, {expected} expected: {names:?}", gpus.len());
    if let Some(ledger) = std::env::var_os("WGPU_CROSS_ENTROPY_LEDGER") {
        enter(gpus, std::path::Path::new(&ledger));
    }
    gpus
}

/// Tells `tests/run.sh` which test had which adapters.
fn enter(gpus: &[Gpu], ledger: &std::path::Path) {
    use std::io::Write;
    let mut lines = String::new();
    for gpu in gpus {
        lines += &format!("adapter\t{}\t{}\n", gpu.describe(), tier(gpu));
    }
    // The test harness names its threads after the tests.
    if let Some(test) = std::thread::current().name() {
        lines += &format!("test\t{test}\n");
    }
    // One write, at the end of the file, whoever else writes.
    let file = std::fs::OpenOptions::new().append(true).create(true).open(ledger);
    file.and_then(|mut file| file.write_all(lines.as_bytes()))
        .expect("the ledger of tests/run.sh can be written");
}

/// What an adapter can do, as far as the kernels care.
pub fn tier(gpu: &Gpu) -> String {
    let (features, limits) = (gpu.device.features(), gpu.device.limits());
    let subgroups = match features.contains(wgpu::Features::SUBGROUP) {
        true => format!("subgroups of {} to {}", gpu.info.subgroup_min_size, gpu.info.subgroup_max_size),
        false => "no subgroups".to_owned(),
    };
    format!(
        "{subgroups}, {}, bindings of {} MiB at multiples of {}, workgroups of {}",
        if features.contains(wgpu::Features::SHADER_F16) { "f16" } else { "no f16" },
        limits.max_storage_buffer_binding_size >> 20,
        limits.min_storage_buffer_offset_alignment,
        limits.max_compute_invocations_per_workgroup,
    )
}

/// A word that no kernel writes: what was not written, or was written outside, shows.
pub const POISON: u32 = 0xffff_ffff;

/// A batch that the batch's spec and shape fit.
#[derive(Clone, Debug)]
pub struct Batch {
    pub spec: Spec,
    pub shape: Shape,
    pub logits: Vec<f32>,
    pub labels: Vec<i32>,
    pub second_labels: Option<Vec<i32>>,
    pub mix: Option<Vec<f32>>,
    pub target_probs: Option<Vec<f32>>,
    pub sample_weights: Option<Vec<f32>>,
    pub grad_out: Option<Vec<f32>>,
    pub external: Option<f32>,
}

impl Batch {
    /// Random logits with a few rows of each kind: unsure, confident (right and wrong), masked with -inf. Padding is
    /// NaN. Labels: mostly classes, skewed to the low ones, some ignored, a few out of range.
    pub fn random(seed: u64, spec: &Spec, shape: Shape) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let Shape { rows, classes, .. } = shape;
        let mut logits = vec![f32::from_bits(POISON); shape.logits_len() as usize];
        let mut labels = Vec::new();
        for row in 0..rows {
            let skewed = rng.random::<f32>() * rng.random::<f32>();
            let label = ((skewed * classes as f32) as u32).min(classes - 1);
            // Uniform noise alone leaves every probability near zero, where errors hide.
            let (scale, lead) = match row % 8 {
                0 => (1.0, 0.0),
                1 => (2.0, 20.0),
                2 => (5.0, -20.0),
                3 => (40.0, 0.0),
                _ => (4.0, 2.0),
            };
            let masked = row % 16 == 7;
            for class in 0..classes {
                let noise = (rng.random::<f32>() - 0.5) * scale;
                let value = if class == label { noise + lead } else { noise };
                let mask = masked && class != label && class % 3 != 0;
                logits[shape.index(row, class) as usize] = if mask { f32::NEG_INFINITY } else { value };
            }
            labels.push(match row % 23 {
                5 => spec.ignore_index.unwrap_or(0),
                11 => -7,
                17 => classes as i32,
                _ => label as i32,
            });
        }
        if !spec.scores.are_logits() {
            to_probabilities(spec.scores, &shape, &mut logits);
        }
        let mut target_probs = None;
        let mut second_labels = None;
        let mut mix = None;
        match spec.targets {
            Targets::Labels => {}
            Targets::TwoHot => {
                // Now and then the same label twice, an ignored or an impossible one; shares of 0, 1/2 and 1 as well.
                let second = |row: usize| match row % 19 {
                    3 => labels[row],
                    4 => spec.ignore_index.unwrap_or(1),
                    5 => classes as i32 + 3,
                    _ => (row as u32 * 7 % classes) as i32,
                };
                second_labels = Some((0..rows as usize).map(second).collect::<Vec<i32>>());
                let share = |row| [0.0, 0.5, 1.0, 0.25, 0.7, 0.31][row % 6];
                mix = Some((0..rows as usize).map(share).collect::<Vec<f32>>());
            }
            Targets::Soft => {
                // Rows that sum to 1, one-hot rows, rows with zeros, rows that sum to something else.
                let mut probs = vec![f32::from_bits(POISON); shape.logits_len() as usize];
                for row in 0..rows {
                    for class in 0..classes {
                        let label = labels[row as usize] == class as i32;
                        let value = match row % 4 {
                            0 => f32::from(u8::from(label)),
                            1 => rng.random::<f32>() / classes as f32 * 2.0,
                            2 if class % 2 == 0 => 0.0,
                            _ => {
                                rng.random::<f32>() * 3.0 / classes as f32 + f32::from(u8::from(label)) * 0.5
                            }
                        };
                        probs[shape.index(row, class) as usize] = value;
                    }
                }
                target_probs = Some(probs);
                labels.clear();
            }
        }
        let mut floats = |n: u32| (0..n).map(|_| 0.25 + rng.random::<f32>()).collect::<Vec<f32>>();
        let sample_weights = sample_weights_len(spec, &shape).map(&mut floats);
        let grad_out = Some(floats(rows).into_iter().map(|x| x - 0.7).collect());
        let external = (spec.reduction == Reduction::Mean(Denominator::External)).then_some(37.5);
        Self {
            spec: spec.clone(),
            shape,
            logits,
            labels,
            second_labels,
            mix,
            target_probs,
            sample_weights,
            grad_out,
            external,
        }
    }

    /// The same without an upstream gradient.
    pub fn without_grad_out(self) -> Self {
        Self { grad_out: None, ..self }
    }

    /// The targets as a buffer holds them.
    pub fn targets(&self, gpu: &Gpu, at: usize) -> Guarded {
        self.targets_as(gpu, at, LabelFormat::I32)
    }

    /// The same with labels in a format.
    pub fn targets_as(&self, gpu: &Gpu, at: usize, format: LabelFormat) -> Guarded {
        match (&self.second_labels, &self.mix, &self.target_probs) {
            (Some(second), Some(mix), _) => {
                let rows = self.labels.iter().zip(second).zip(mix);
                let words: Vec<u32> =
                    rows.flat_map(|((a, b), mix)| [*a as u32, *b as u32, mix.to_bits()]).collect();
                Guarded::new(gpu, at, &words)
            }
            (_, _, Some(probs)) => Guarded::floats(gpu, at, probs),
            _ => Guarded::packed_labels(gpu, at, format, &self.labels),
        }
    }

    pub fn inputs(&self) -> Inputs<'_> {
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

/// Makes probabilities of logits: sums other than 1 in every third row, a few zeros and ones, and a few that are none.
fn to_probabilities(scores: Scores, shape: &Shape, logits: &mut [f32]) {
    for row in 0..shape.rows {
        let at: Vec<usize> = (0..shape.classes).map(|class| shape.index(row, class) as usize).collect();
        let top = at.iter().map(|&i| logits[i]).fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = at.iter().map(|&i| f64::from(logits[i] - top).exp()).sum();
        let by = if row % 3 == 1 { 1.25 } else { 1.0 };
        for (class, &i) in at.iter().enumerate() {
            let log_p = f64::from(logits[i] - top) - sum.ln();
            logits[i] = match scores {
                Scores::LogProbs => log_p as f32 / by,
                // Beyond the ends: clipped, or a log-probability of nothing.
                _ if row % 13 == 9 && class % 4 == 1 => [-0.125, 1.5][class / 4 % 2],
                _ => log_p.exp() as f32 * by,
            };
        }
    }
}

/// A cost matrix without symmetry, so that swapped axes show.
pub fn cost_matrix(classes: u32) -> CostMatrix {
    let cost = |t: u32, p: u32| 1.0 + (t * 3 + p * 7) as f32 % 11.0 / 4.0;
    let values = (0..classes).flat_map(|t| (0..classes).map(move |p| cost(t, p))).collect();
    CostMatrix::from_true_predicted(classes, values).expect("finite costs")
}

/// Class weights, one of them zero.
pub fn given_weights(classes: u32) -> ClassWeights {
    ClassWeights::Given((0..classes).map(|c| if c % 5 == 3 { 0.0 } else { 0.5 + c as f32 % 4.0 }).collect())
}

/// Everything at once.
pub fn full_spec(classes: u32) -> Spec {
    Spec {
        ignore_index: Some(-100),
        class_weights: given_weights(classes),
        sample_weights: SampleWeights::PerRow,
        cost_matrix: (classes <= 512).then(|| cost_matrix(classes)),
        reduction: Reduction::Mean(Denominator::WeightSum),
        ..Spec::default()
    }
}

/// A buffer with poison on both sides of its contents.
pub struct Guarded {
    pub buffer: wgpu::Buffer,
    offset: u64,
    bytes: u64,
}

impl Guarded {
    /// `words` at word `at` of a larger buffer, everything else poisoned.
    pub fn new(gpu: &Gpu, at: usize, words: &[u32]) -> Self {
        let mut contents = vec![POISON; at];
        contents.extend_from_slice(words);
        contents.extend([POISON; 64]);
        let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("guarded"),
            size: contents.len() as u64 * 4,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: true,
        });
        buffer
            .get_mapped_range_mut(..)
            .expect("mapped at creation")
            .copy_from_slice(bytemuck::cast_slice(&contents));
        buffer.unmap();
        Self { buffer, offset: at as u64 * 4, bytes: words.len() as u64 * 4 }
    }

    /// A poisoned output of so many words.
    pub fn output(gpu: &Gpu, at: usize, words: usize) -> Self {
        Self::new(gpu, at, &vec![POISON; words])
    }

    pub fn floats(gpu: &Gpu, at: usize, floats: &[f32]) -> Self {
        Self::new(gpu, at, bytemuck::cast_slice(floats))
    }

    /// Logits as a buffer holds them: 16-bit ones lie two to a word.
    pub fn elements(gpu: &Gpu, at: usize, dtype: Dtype, values: &[f32]) -> Self {
        Self::new(gpu, at, &bytemuck::pod_collect_to_vec::<u8, u32>(&dtype.encode(values)))
    }

    pub fn labels(gpu: &Gpu, at: usize, labels: &[i32]) -> Self {
        Self::new(gpu, at, bytemuck::cast_slice(labels))
    }

    /// Packed labels, with poison in what is left of their last word.
    pub fn packed_labels(gpu: &Gpu, at: usize, format: LabelFormat, labels: &[i32]) -> Self {
        let mut bytes = format.encode(labels).expect("labels that the format holds");
        bytes[labels.len() * format.bytes() as usize..].fill(0xff);
        Self::new(gpu, at, &bytemuck::pod_collect_to_vec::<u8, u32>(&bytes))
    }

    pub fn binding(&self) -> wgpu::BufferBinding<'_> {
        // A binding without bytes has no size; the rest of the buffer will do.
        wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: self.offset,
            size: wgpu::BufferSize::new(self.bytes),
        }
    }

    /// The contents, after checking that nothing was written around them.
    pub fn read(&self, gpu: &Gpu) -> Vec<u32> {
        let size = self.buffer.size();
        let read = wgpu_cross_entropy::read(&gpu.device, &gpu.queue, "guarded", &self.buffer, size);
        let bytes = pollster::block_on(read).expect("read");
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
        let (at, end) = ((self.offset / 4) as usize, ((self.offset + self.bytes) / 4) as usize);
        assert!(
            words[..at].iter().chain(&words[end..]).all(|word| *word == POISON),
            "written outside of the binding"
        );
        words[at..end].to_vec()
    }

    /// So many values of [`Guarded::elements`].
    pub fn read_elements(&self, gpu: &Gpu, dtype: Dtype, len: usize) -> Vec<f32> {
        let mut values = dtype.decode(bytemuck::cast_slice(&self.read(gpu)));
        values.truncate(len);
        values
    }

    pub fn read_floats(&self, gpu: &Gpu) -> Vec<f32> {
        self.read(gpu).into_iter().map(f32::from_bits).collect()
    }
}

/// Records into a compute pass of its own, submits.
pub fn run(gpu: &Gpu, encode: impl FnOnce(&mut wgpu::ComputePass<'_>)) {
    record(gpu, |encoder| encode(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default())));
}

/// Records into an encoder of its own, submits.
pub fn record(gpu: &Gpu, encode: impl FnOnce(&mut wgpu::CommandEncoder)) {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encode(&mut encoder);
    gpu.queue.submit([encoder.finish()]);
}

/// Sums and counts of row kernels: no row, one, tails of 0, 1, 2 and w - 1 around the workgroup (64) and the group of
/// rows (4096), several groups.
pub const ROWS: [u32; 11] = [0, 1, 2, 63, 64, 65, 4095, 4096, 4097, 8191, 70_000];
