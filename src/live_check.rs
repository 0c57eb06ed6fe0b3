//! A plan watches itself: now and then some rows of the live batch are copied aside, and compared with the oracle later.

use crate::binary::{BinaryInputs, BinaryOutput, BinaryTotals};
use crate::binary_config::BinaryConfig;
use crate::binary_plan::{BinaryBatch, BinaryCrossEntropy, BoundBinaryStep};
use crate::binary_tolerance::binary_tolerances;
use crate::config::{Config, Dtype, LabelFormat};
use crate::cpu::{self, ClassValues};
use crate::error::{BindError, HostError};
use crate::inputs::{Inputs, Output, Totals, sample_weights_len};
use crate::kernels::{BinaryTableLayout, TableLayout};
use crate::pipeline::create_buffer;
use crate::plan::{Batch, BoundStep, CrossEntropy};
use crate::self_check::Noise;
use crate::shape::Shape;
use crate::spec::{ClassWeights, LogitBias, SampleWeights, Targets};
use crate::stats::RowRecord;
use crate::tolerance::{U, Worst, tolerances};
use crate::validate::Validation;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How often a live check looks, and at how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveCheckOptions {
    /// Rows that are looked at. Class-last they are any rows, class-first any run of rows side by side.
    pub rows: u32,
    /// Every so many steps.
    pub every: u64,
    /// Checks under way at once. Where all are, one is left out: a step never waits.
    pub in_flight: usize,
    /// Of the choice of rows.
    pub seed: u64,
}

impl Default for LiveCheckOptions {
    fn default() -> Self {
        Self { rows: 16, every: 100, in_flight: 3, seed: 1 }
    }
}

/// What a live check found in one step.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct LiveReport {
    /// The step, counted from 0.
    pub step: u64,
    /// The rows that were looked at.
    pub rows: Vec<u32>,
    /// How they compare with the oracle, for the logits, targets and weights that the step had, and the class weights and
    /// the denominator that it used. Indices are those of the caller's buffers.
    pub validation: Validation,
    /// Checks left out so far, because earlier ones were under way.
    pub left_out: u64,
}

/// Watches a plan while it trains: see [`CrossEntropy::live_check`].
pub struct LiveCheck {
    plan: Watched,
    sampler: Sampler,
    report: Box<dyn FnMut(&LiveReport) + Send>,
}

impl std::fmt::Debug for LiveCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveCheck").field("options", &self.sampler.options).finish_non_exhaustive()
    }
}

/// What is watched.
enum Watched {
    Softmax(Box<Config>),
    Sigmoid(Box<BinaryConfig>),
}

/// A part of a caller's or the plan's buffer.
#[derive(Clone)]
struct Source {
    buffer: wgpu::Buffer,
    offset: u64,
    /// Bytes of an element.
    bytes: u64,
    /// What it has one of.
    per: Per,
    /// Whether it is what the step makes.
    made: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Per {
    Logit,
    /// Row `row / divisor % modulus`.
    Row {
        divisor: u32,
        modulus: u32,
    },
    /// The first so many bytes.
    Once(u64),
}

/// Chooses rows, copies them aside, and knows what has arrived.
struct Sampler {
    options: LiveCheckOptions,
    shape: Shape,
    sources: Vec<Option<Source>>,
    slots: Vec<Slot>,
    noise: Noise,
    step: u64,
    left_out: u64,
    /// The slot that this step's copies go to.
    due: Option<usize>,
}

struct Slot {
    staging: wgpu::Buffer,
    /// See `ON_ITS_WAY` and the like. The callback has the other half.
    state: Arc<AtomicU8>,
    sample: Option<Sample>,
}

const ON_ITS_WAY: u8 = 0;
const ARRIVED: u8 = 1;
const FAILED: u8 = 2;

/// Rows of a step, and where their bytes lie in the staging buffer: of each source, in the order of the sources.
struct Sample {
    step: u64,
    rows: Vec<u32>,
    pieces: Vec<Vec<Piece>>,
    end: u64,
}

struct Piece {
    at: u64,
    bytes: u64,
}

impl Sampler {
    fn new(
        device: &wgpu::Device,
        shape: Shape,
        options: LiveCheckOptions,
        sources: Vec<(&'static str, Option<Source>)>,
    ) -> Result<Self, HostError> {
        for (name, source) in &sources {
            let usage = source.as_ref().map_or(wgpu::BufferUsages::COPY_SRC, |source| source.buffer.usage());
            if !usage.contains(wgpu::BufferUsages::COPY_SRC) {
                let got = format!("{usage:?}");
                return Err(BindError::Usage { name, missing: "COPY_SRC", got }.into());
            }
        }
        let least = |n: u32| n.clamp(1, if shape.inner > 1 { shape.inner } else { shape.rows.max(1) });
        let options = LiveCheckOptions {
            rows: least(options.rows),
            every: options.every.max(1),
            in_flight: options.in_flight.max(1),
            ..options
        };
        let sources: Vec<_> = sources.into_iter().map(|(_, source)| source).collect();
        let mut this = Self {
            options,
            shape,
            sources,
            slots: Vec::new(),
            noise: Noise(options.seed),
            step: 0,
            left_out: 0,
            due: None,
        };
        if shape.rows == 0 {
            return Ok(this);
        }
        // A sample's size does not depend on which rows it has, but for a word here and there.
        let slack = 8 * u64::from(options.rows.max(shape.classes)) * this.sources.len() as u64;
        let size = this.sample(|_, _, _, _| {}).end + slack;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        for _ in 0..options.in_flight {
            let staging = create_buffer(device, "live_check", size, usage, None)?;
            let state = Arc::new(AtomicU8::new(ON_ITS_WAY));
            this.slots.push(Slot { staging, state, sample: None });
        }
        Ok(this)
    }

    /// Chooses rows and lays their bytes out. `copy` is told each source, its bytes, and where they go.
    fn sample(&mut self, mut copy: impl FnMut(&Source, u64, u64, u64)) -> Sample {
        let Shape { rows, classes, inner, .. } = self.shape;
        let count = self.options.rows;
        let chosen: Vec<u32> = match inner {
            1 => (0..count).map(|_| self.noise.below(rows)).collect(),
            _ => {
                let block = self.noise.below(rows / inner) * inner;
                let first = block + self.noise.below(inner - count + 1);
                (first..first + count).collect()
            }
        };
        let mut end = 0;
        let mut pieces = Vec::new();
        for source in &self.sources {
            let mut of_source = Vec::new();
            // Copies are of whole words.
            let mut take = |source: &Source, from: u64, bytes: u64| {
                let from = source.offset + from;
                let (first, last) = (from / 4 * 4, (from + bytes).next_multiple_of(4));
                copy(source, first, last - first, end);
                of_source.push(Piece { at: end + (from - first), bytes });
                end += last - first;
            };
            if let Some(source) = source {
                match source.per {
                    Per::Once(bytes) => take(source, 0, bytes),
                    Per::Row { divisor, modulus } => chosen.iter().for_each(|row| {
                        take(source, u64::from(row / divisor % modulus) * source.bytes, source.bytes);
                    }),
                    Per::Logit if inner == 1 => chosen.iter().for_each(|&row| {
                        let from = self.shape.index(row, 0) * source.bytes;
                        take(source, from, u64::from(classes) * source.bytes);
                    }),
                    Per::Logit => (0..classes).for_each(|class| {
                        let from = self.shape.index(chosen[0], class) * source.bytes;
                        take(source, from, u64::from(count) * source.bytes);
                    }),
                }
            }
            pieces.push(of_source);
        }
        Sample { step: self.step, rows: chosen, pieces, end }
    }

    /// Records the copies of what the step reads, where a check is due.
    fn before(&mut self, encoder: &mut wgpu::CommandEncoder) {
        self.due = None;
        if !self.step.is_multiple_of(self.options.every) || self.slots.is_empty() {
            return;
        }
        // A recording that was never submitted has taken its callback along.
        let free = |slot: &Slot| slot.sample.is_none() || Arc::strong_count(&slot.state) == 1;
        let Some(number) = self.slots.iter().position(free) else {
            self.left_out += 1;
            return;
        };
        let staging = self.slots[number].staging.clone();
        let sample = self.sample(|source, from, bytes, to| {
            if !source.made {
                encoder.copy_buffer_to_buffer(&source.buffer, from, &staging, to, bytes);
            }
        });
        let slot = &mut self.slots[number];
        slot.state = Arc::new(AtomicU8::new(ON_ITS_WAY));
        slot.sample = Some(sample);
        self.due = Some(number);
    }

    /// Records the copies of what the step has made.
    fn after(&mut self, encoder: &mut wgpu::CommandEncoder) {
        self.step += 1;
        let Some(number) = self.due.take() else { return };
        let slot = &self.slots[number];
        let Some(sample) = &slot.sample else { return };
        for (source, pieces) in self.sources.iter().zip(&sample.pieces) {
            let Some(source) = source.as_ref().filter(|source| source.made) else { continue };
            for (from, piece) in self.made_at(source, &sample.rows).zip(pieces) {
                let from = source.offset + from;
                let first = from / 4 * 4;
                let bytes = (from + piece.bytes).next_multiple_of(4) - first;
                encoder.copy_buffer_to_buffer(
                    &source.buffer,
                    first,
                    &slot.staging,
                    piece.at - (from - first),
                    bytes,
                );
            }
        }
        let state = slot.state.clone();
        encoder.map_buffer_on_submit(&slot.staging, wgpu::MapMode::Read, .., move |mapped| {
            state.store(if mapped.is_ok() { ARRIVED } else { FAILED }, Ordering::Release);
        });
    }

    /// Where the pieces of a source begin, without its offset.
    fn made_at<'a>(&'a self, source: &'a Source, rows: &'a [u32]) -> Box<dyn Iterator<Item = u64> + 'a> {
        let shape = &self.shape;
        match source.per {
            Per::Once(_) => Box::new(std::iter::once(0)),
            Per::Row { divisor, modulus } => {
                Box::new(rows.iter().map(move |row| u64::from(row / divisor % modulus) * source.bytes))
            }
            Per::Logit if shape.inner == 1 => {
                Box::new(rows.iter().map(move |&row| shape.index(row, 0) * source.bytes))
            }
            Per::Logit => {
                Box::new((0..shape.classes).map(move |class| shape.index(rows[0], class) * source.bytes))
            }
        }
    }

    /// A sample that has arrived, and its bytes.
    fn arrived(&mut self) -> Option<(Sample, Vec<u8>)> {
        for slot in &mut self.slots {
            match slot.state.load(Ordering::Acquire) {
                ARRIVED => {}
                FAILED => {
                    slot.sample = None;
                    continue;
                }
                _ => continue,
            }
            let Some(sample) = slot.sample.take() else { continue };
            let bytes = slot.staging.get_mapped_range(..).map(|view| view[..sample.end as usize].to_vec());
            slot.staging.unmap();
            slot.state.store(ON_ITS_WAY, Ordering::Release);
            if let Ok(bytes) = bytes {
                return Some((sample, bytes));
            }
        }
        None
    }

    /// The bytes of a source, row by row where it has some for each.
    fn bytes(&self, sample: &Sample, source: usize, bytes: &[u8]) -> Option<Vec<u8>> {
        let own = self.sources[source].as_ref()?;
        let piece = |piece: &Piece| &bytes[piece.at as usize..(piece.at + piece.bytes) as usize];
        let pieces: Vec<&[u8]> = sample.pieces[source].iter().map(piece).collect();
        if own.per != Per::Logit || self.shape.inner == 1 {
            return Some(pieces.concat());
        }
        // From class after class to row after row.
        let size = own.bytes as usize;
        let rows = 0..sample.rows.len();
        Some(
            rows.flat_map(|row| pieces.iter().flat_map(move |of| of[row * size..(row + 1) * size].to_vec()))
                .collect(),
        )
    }

    fn floats(&self, sample: &Sample, source: usize, bytes: &[u8]) -> Option<Vec<f32>> {
        self.bytes(sample, source, bytes).map(|bytes| Dtype::F32.decode(&bytes))
    }

    /// Indices in a sample to those in the caller's buffers.
    fn place(&self, sample: &Sample, mut worst: Worst) -> Worst {
        let classes = self.shape.classes as usize;
        let row = |at: usize| sample.rows.get(at).copied().unwrap_or_default();
        worst.index = match worst.name {
            "row_losses" | "predictions" => row(worst.index) as usize,
            "logit_grads" | "element_losses" => {
                self.shape.index(row(worst.index / classes), (worst.index % classes) as u32) as usize
            }
            _ => worst.index,
        };
        worst
    }
}

// The sources of a softmax loss, in their order.
const LOGITS: usize = 0;
const TARGETS: usize = 1;
const SAMPLE_WEIGHTS: usize = 2;
const GRAD_OUT: usize = 3;
const TABLE: usize = 4;
const GRADS: usize = 5;
const LOSSES: usize = 6;
// What a sigmoid loss has beside.
const ELEMENT_WEIGHTS: usize = 7;

impl LiveCheck {
    /// Records the plan's step ([`CrossEntropy::encode`]) and, every so many steps, the copies of a few rows. Reports what
    /// has arrived of earlier checks. Waits for nothing.
    pub fn encode(&mut self, encoder: &mut wgpu::CommandEncoder, plan: &CrossEntropy, step: &BoundStep) {
        self.before(encoder);
        plan.encode(encoder, step);
        self.after(encoder);
    }

    /// [`LiveCheck::encode`] of a sigmoid loss.
    pub fn encode_binary(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        plan: &BinaryCrossEntropy,
        step: &BoundBinaryStep,
    ) {
        self.before(encoder);
        plan.encode(encoder, step);
        self.after(encoder);
    }

    /// The part of [`LiveCheck::encode`] before the step, for those who record the step in parts. Each takes its turn once a
    /// step, in encoders that are submitted in this order.
    pub fn before(&mut self, encoder: &mut wgpu::CommandEncoder) {
        self.collect();
        self.sampler.before(encoder);
    }

    /// The part of [`LiveCheck::encode`] after the step.
    pub fn after(&mut self, encoder: &mut wgpu::CommandEncoder) {
        self.sampler.after(encoder);
    }

    /// Compares what has arrived, on this thread, and reports it. Recording does so too; what arrives does so while the
    /// caller submits or polls. Returns how many checks were reported.
    pub fn collect(&mut self) -> usize {
        let mut reported = 0;
        while let Some((sample, bytes)) = self.sampler.arrived() {
            let validation = match &self.plan {
                Watched::Softmax(config) => softmax(config, &self.sampler, &sample, &bytes),
                Watched::Sigmoid(config) => sigmoid(config, &self.sampler, &sample, &bytes),
            };
            let left_out = self.sampler.left_out;
            (self.report)(&LiveReport { step: sample.step, rows: sample.rows, validation, left_out });
            reported += 1;
        }
        reported
    }
}

/// Compares some rows of a step with the oracle.
fn softmax(config: &Config, sampler: &Sampler, sample: &Sample, bytes: &[u8]) -> Validation {
    let (spec, options) = (config.spec(), config.options());
    let floats = |source| sampler.floats(sample, source, bytes);
    let raw = |source| sampler.bytes(sample, source, bytes).unwrap_or_default();
    let rows = sample.rows.len() as u32;
    let shape = Shape::new(rows, sampler.shape.classes);
    let logits = options.dtype.decode(&raw(LOGITS));
    let targets = raw(TARGETS);
    let words: Vec<u32> = bytemuck::pod_collect_to_vec(&targets[..targets.len() / 4 * 4]);
    let (mut second_labels, mut mix, mut target_probs) = (None, None, None);
    let labels: Vec<i32> = match (spec.targets, options.labels) {
        (Targets::Soft, _) => {
            target_probs = floats(TARGETS);
            Vec::new()
        }
        (Targets::TwoHot, _) => {
            second_labels = Some(words.chunks_exact(3).map(|row| row[1] as i32).collect::<Vec<i32>>());
            mix = Some(words.chunks_exact(3).map(|row| f32::from_bits(row[2])).collect::<Vec<f32>>());
            words.chunks_exact(3).map(|row| row[0] as i32).collect()
        }
        (Targets::Labels, LabelFormat::I32) => words.iter().map(|&label| label as i32).collect(),
        (Targets::Labels, LabelFormat::U16) => {
            targets.chunks_exact(2).map(|pair| i32::from(u16::from_le_bytes([pair[0], pair[1]]))).collect()
        }
        (Targets::Labels, LabelFormat::U8) => targets.iter().map(|&label| i32::from(label)).collect(),
    };
    // The table as the step left it.
    let table = raw(TABLE);
    let word = |at: u64| bytemuck::pod_read_unaligned::<f32>(&table[at as usize..at as usize + 4]);
    let totals = Totals::from_bytes(&table).unwrap_or_default();
    let layout = TableLayout::new(spec, &sampler.shape);
    let of_classes = |on: bool, at: u64| {
        on.then(|| (0..u64::from(shape.classes)).map(|class| word(at + 4 * class)).collect::<Vec<f32>>())
    };
    let class_weights = of_classes(spec.class_weights != ClassWeights::None, layout.class_weights());
    let logit_bias = of_classes(spec.logit_bias != LogitBias::None, layout.logit_bias());
    let scale = word(TableLayout::GRAD_SCALE);
    let grad_out = match (floats(GRAD_OUT), scale) {
        (None, 1.0) => None,
        (None, scale) => Some(vec![scale; rows as usize]),
        (Some(grad_out), scale) => Some(grad_out.into_iter().map(|grad| grad * scale).collect()),
    };
    let sample_weights = floats(SAMPLE_WEIGHTS);
    let inputs = Inputs {
        logits: &logits,
        labels: &labels,
        second_labels: second_labels.as_deref(),
        mix: mix.as_deref(),
        target_probs: target_probs.as_deref(),
        sample_weights: sample_weights.as_deref(),
        grad_out: grad_out.as_deref(),
        external_denominator: Some(totals.denominator),
    };
    let config = config.of_rows(shape, &class_weights, &logit_bias);
    let spec = config.spec();
    let wide = |values: Option<Vec<f32>>| {
        values.map(|values| values.into_iter().map(f64::from).collect::<Vec<f64>>())
    };
    let values = ClassValues { class_weights: wide(class_weights), logit_bias: wide(logit_bias) };
    let mut want = Output { totals: cpu::denominator(spec, &shape, &inputs, &values), ..Output::default() };
    let denominator = f64::from(totals.denominator);
    want.totals.denominator = denominator;
    (want.row_losses, want.logit_grads) =
        cpu::cross_entropy(spec, &shape, &inputs, &values, denominator, &mut want.totals);
    let predictions = cpu::predictions(spec, &shape, &inputs, &values);
    want.class_weights = values.class_weights;
    want.logit_bias = values.logit_bias;
    let allowed = tolerances(&config, &inputs, &want);
    let records: Option<Vec<RowRecord>> =
        options.keeps_records().then(|| bytemuck::pod_collect_to_vec(&raw(LOSSES)));
    let losses = match &records {
        Some(records) => records.iter().map(|record| record.loss).collect(),
        None => floats(LOSSES).unwrap_or_default(),
    };
    // The product with the caller's scale is rounded once more.
    let with_scale = |(error, want): (&f64, &f64)| error + 2.0 * U * want.abs();
    let of_grads: Vec<f64> = allowed.logit_grads.iter().zip(&want.logit_grads).map(with_scale).collect();
    let counted = totals.valid_rows.wrapping_add(totals.ignored_rows).wrapping_add(totals.out_of_range_rows);
    let grads = options.dtype.decode(&raw(GRADS));
    let mut outputs = vec![
        Worst::count("rows", counted, sampler.shape.rows),
        Worst::of("row_losses", &losses, &want.row_losses, &allowed.row_losses),
        Worst::of("logit_grads", &grads, &options.dtype.clamped(&want.logit_grads), &of_grads),
    ];
    if let Some(records) = &records {
        let got: Vec<u32> = records.iter().map(|record| record.prediction).collect();
        outputs.push(Worst::counts("predictions", &got, &predictions));
    }
    Validation { outputs: outputs.into_iter().map(|worst| sampler.place(sample, worst)).collect() }
}

/// The same of a sigmoid loss.
fn sigmoid(config: &BinaryConfig, sampler: &Sampler, sample: &Sample, bytes: &[u8]) -> Validation {
    let options = config.options();
    let floats = |source| sampler.floats(sample, source, bytes);
    let raw = |source| sampler.bytes(sample, source, bytes).unwrap_or_default();
    let shape = Shape::new(sample.rows.len() as u32, sampler.shape.classes);
    let logits = options.dtype.decode(&raw(LOGITS));
    let targets = floats(TARGETS).unwrap_or_default();
    let (element_weights, sample_weights) = (floats(ELEMENT_WEIGHTS), floats(SAMPLE_WEIGHTS));
    let table = raw(TABLE);
    let word = |at: u64| bytemuck::pod_read_unaligned::<f32>(&table[at as usize..at as usize + 4]);
    let totals = BinaryTotals::from_bytes(&table).unwrap_or_default();
    let layout = BinaryTableLayout::new(config);
    let pairs = 0..layout.factors_size() / 4;
    let factors: Vec<f64> = pairs.map(|at| f64::from(word(layout.factors() + 4 * at))).collect();
    let scale = word(TableLayout::GRAD_SCALE);
    let grad_out = match (floats(GRAD_OUT), scale) {
        (None, 1.0) => None,
        (None, scale) => Some(vec![scale; targets.len()]),
        (Some(grad_out), scale) => Some(grad_out.into_iter().map(|grad| grad * scale).collect()),
    };
    let inputs = BinaryInputs {
        logits: &logits,
        targets: &targets,
        element_weights: element_weights.as_deref(),
        sample_weights: sample_weights.as_deref(),
        grad_out: grad_out.as_deref(),
        external_denominator: Some(totals.denominator),
    };
    let config = config.of_rows(shape);
    let spec = config.spec();
    let factors = (spec.pos_weight != crate::binary::PosWeight::None).then_some(factors);
    let mut of_rows = cpu::binary_denominator(spec, &shape, &inputs, factors.as_deref());
    of_rows.denominator = totals.denominator.into();
    let (losses, grads) = cpu::binary_cross_entropy(spec, &shape, &inputs, factors.as_deref(), &mut of_rows);
    let want = BinaryOutput {
        totals: of_rows,
        logit_grads: grads,
        element_losses: Some(losses),
        factors,
        ..BinaryOutput::default()
    };
    let allowed = binary_tolerances(&config, &inputs, &want);
    let with_scale = |(error, want): (&f64, &f64)| error + 2.0 * U * want.abs();
    let of_grads: Vec<f64> = allowed.logit_grads.iter().zip(&want.logit_grads).map(with_scale).collect();
    let grads = options.dtype.decode(&raw(GRADS));
    let elements = sampler.shape.rows.wrapping_mul(sampler.shape.classes);
    let mut outputs = vec![
        Worst::count("elements", totals.valid.wrapping_add(totals.ignored), elements),
        Worst::of("logit_grads", &grads, &options.dtype.clamped(&want.logit_grads), &of_grads),
    ];
    if let (Some(got), Some(want)) = (floats(LOSSES), &want.element_losses) {
        outputs.push(Worst::of("element_losses", &got, want, &allowed.element_losses));
    }
    Validation { outputs: outputs.into_iter().map(|worst| sampler.place(sample, worst)).collect() }
}

fn source(binding: &wgpu::BufferBinding<'_>, bytes: u64, per: Per, made: bool) -> Source {
    Source { buffer: binding.buffer.clone(), offset: binding.offset, bytes, per, made }
}

/// One a row.
const EACH: Per = Per::Row { divisor: 1, modulus: u32::MAX };

impl CrossEntropy {
    /// A check that watches this plan train on the buffers of `batch`, which is what the step is bound to: every
    /// [`LiveCheckOptions::every`] steps it copies a few rows of logits, targets, weights, gradients and losses aside, on
    /// the device, and once they have arrived compares them with the oracle and calls `report`. No step waits for it.
    ///
    /// The buffers need usage `COPY_SRC`.
    ///
    /// # Errors
    /// [`BindError::Usage`] where a buffer cannot be copied from, [`HostError::Plan`] where there is no memory for copies.
    pub fn live_check(
        &self,
        device: &wgpu::Device,
        batch: &Batch<'_>,
        options: &LiveCheckOptions,
        report: impl FnMut(&LiveReport) + Send + 'static,
    ) -> Result<LiveCheck, HostError> {
        // What does not fit the plan is the bind's to say.
        self.bind(device, batch)?;
        let (config, shape) = (self.config(), *self.config().shape());
        let (spec, own) = (config.spec(), config.options());
        let whole =
            |buffer: &wgpu::Buffer, bytes, per| source(&buffer.as_entire_buffer_binding(), bytes, per, true);
        let layout = TableLayout::new(spec, &shape);
        let head = layout.logit_bias() + 4 * u64::from(shape.classes);
        let of_weights = match spec.sample_weights {
            SampleWeights::PerSample => Per::Row { divisor: shape.steps, modulus: u32::MAX },
            SampleWeights::PerStep => Per::Row { divisor: 1, modulus: shape.steps },
            SampleWeights::None | SampleWeights::PerRow => EACH,
        };
        let weights = sample_weights_len(spec, &shape).and(batch.sample_weights.as_ref());
        let (bytes, of_targets) = match spec.targets {
            Targets::Labels => (own.labels.bytes(), EACH),
            Targets::TwoHot => (12, EACH),
            Targets::Soft => (4, Per::Logit),
        };
        let logits = own.dtype.bytes();
        let grads = batch.logit_grads.as_ref().unwrap_or(&batch.logits);
        let sources = vec![
            ("logits", Some(source(&batch.logits, logits, Per::Logit, false))),
            ("targets", Some(source(&batch.targets, bytes, of_targets, false))),
            ("sample_weights", weights.map(|weights| source(weights, 4, of_weights, false))),
            ("grad_out", batch.grad_out.as_ref().map(|grad_out| source(grad_out, 4, EACH, false))),
            ("table", Some(whole(self.table(), 4, Per::Once(head)))),
            ("logit_grads", Some(source(grads, logits, Per::Logit, true))),
            ("row_losses", Some(whole(self.row_losses(), config.row_size(), EACH))),
        ];
        Ok(LiveCheck {
            plan: Watched::Softmax(Box::new(config.clone())),
            sampler: Sampler::new(device, shape, *options, sources)?,
            report: Box::new(report),
        })
    }
}

impl BinaryCrossEntropy {
    /// A check that watches this plan train, as [`CrossEntropy::live_check`] does.
    ///
    /// # Errors
    /// As [`CrossEntropy::live_check`].
    pub fn live_check(
        &self,
        device: &wgpu::Device,
        batch: &BinaryBatch<'_>,
        options: &LiveCheckOptions,
        report: impl FnMut(&LiveReport) + Send + 'static,
    ) -> Result<LiveCheck, HostError> {
        self.bind(device, batch)?;
        let (config, shape) = (self.config(), *self.config().shape());
        let logits = config.options().dtype.bytes();
        let layout = BinaryTableLayout::new(config);
        let head = layout.factors() + layout.factors_size();
        let by_element = |binding: &Option<wgpu::BufferBinding<'_>>, made| {
            binding.as_ref().map(|binding| source(binding, 4, Per::Logit, made))
        };
        let grads = batch.logit_grads.as_ref().unwrap_or(&batch.logits);
        let table = source(&self.table().as_entire_buffer_binding(), 4, Per::Once(head), true);
        let sources = vec![
            ("logits", Some(source(&batch.logits, logits, Per::Logit, false))),
            ("targets", Some(source(&batch.targets, 4, Per::Logit, false))),
            ("sample_weights", batch.sample_weights.as_ref().map(|weights| source(weights, 4, EACH, false))),
            ("grad_out", by_element(&batch.grad_out, false)),
            ("table", Some(table)),
            ("logit_grads", Some(source(grads, logits, Per::Logit, true))),
            ("element_losses", by_element(&batch.element_losses, true)),
            ("element_weights", by_element(&batch.element_weights, false)),
        ];
        Ok(LiveCheck {
            plan: Watched::Sigmoid(Box::new(config.clone())),
            sampler: Sampler::new(device, shape, *options, sources)?,
            report: Box::new(report),
        })
    }
}
