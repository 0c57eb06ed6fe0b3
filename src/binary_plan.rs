//! The plan of a sigmoid loss: owns what lies between its kernels and records the whole flow into the caller's encoder.

use crate::binary::{BinaryInputs, BinaryOutput, BinarySpec, BinaryTotals, PosWeight};
use crate::binary_config::{BinaryConfig, BinaryOptions};
use crate::binary_tolerance::binary_tolerances;
use crate::cpu;
use crate::error::{BindError, HistoryError, HostError, PlanError, RowError};
use crate::history::CountHistory;
use crate::host::{READ_TIMEOUT, clear_padding, finite, read_within};
use crate::kernels::{
    BinaryCountsBuffers, BinaryCountsKernel, BinaryCrossEntropyBuffers, BinaryCrossEntropyKernel,
    BinaryTableLayout, BoundBinaryCrossEntropy, HistoryProgram,
};
use crate::pipeline::{Bound, Scopes, create_buffer, is_lost, params_size};
use crate::plan::read_history;
use crate::shape::Shape;
use crate::spec::CountsOver;
use crate::tolerance::Worst;
use crate::validate::Validation;
use wgpu::BufferUsages;

/// The buffers of one batch of a sigmoid loss. Each is (buffer, offset, size); offsets are multiples of 4, and what is
/// written lies in a buffer of its own. Everything by element is in the layout of the logits; logits and their gradients are
/// of `BinaryOptions::dtype`, the rest `f32`.
#[derive(Clone, Debug)]
pub struct BinaryBatch<'a> {
    /// `[rows, columns]`: logits, or what `BinaryScores` says. Overwritten where `BinaryOptions::in_place` is set.
    pub logits: wgpu::BufferBinding<'a>,
    /// `[rows, columns]`, from 0 to 1.
    pub targets: wgpu::BufferBinding<'a>,
    /// `[rows, columns]`, where the spec says so.
    pub element_weights: Option<wgpu::BufferBinding<'a>>,
    /// `[rows]`, where the spec says so.
    pub sample_weights: Option<wgpu::BufferBinding<'a>>,
    /// `[rows, columns]`, where `BinaryOptions::grad_out` is set.
    pub grad_out: Option<wgpu::BufferBinding<'a>>,
    /// One `f32`, for `BinaryDenominator::External`.
    pub external_denominator: Option<wgpu::BufferBinding<'a>>,
    /// The gradients, unless `BinaryOptions::in_place` is set.
    pub logit_grads: Option<wgpu::BufferBinding<'a>>,
    /// `[rows, columns]`, where `BinaryOptions::element_losses` is set.
    pub element_losses: Option<wgpu::BufferBinding<'a>>,
}

/// One training step's work, ready to be recorded as often as one likes.
///
/// The fields are the steps of the flow, in order: a trainer that all-reduces records them one by one and puts its own
/// work between them.
#[derive(Clone, Debug)]
pub struct BoundBinaryStep {
    /// Targets to counts; empty without live factors. After it, counts may be all-reduced: a plain sum of `f32`.
    pub binary_counts: Bound,
    /// The batch's counts to those of many; empty where `BinarySpec::counts_over` is the batch.
    pub history: Bound,
    /// Counts to factors; empty without live factors.
    pub weights: Bound,
    /// What the mean divides by. After it, the denominator may be all-reduced.
    pub denominator: Bound,
    /// Logits to losses, gradients and totals.
    pub binary_cross_entropy: Bound,
}

impl BoundBinaryStep {
    /// The steps, in the order of the flow.
    pub fn steps(&self) -> [&Bound; 5] {
        [&self.binary_counts, &self.history, &self.weights, &self.denominator, &self.binary_cross_entropy]
    }

    /// How many dispatches a step has.
    pub fn dispatches(&self) -> usize {
        self.steps().iter().map(|bound| bound.dispatches()).sum()
    }
}

/// A sigmoid loss for one spec, shape and device: the kernels, compiled, and the buffers between them.
///
/// [`BinaryCrossEntropy::encode`] records counts, factors, denominator, losses, gradients and totals. It submits, maps,
/// polls and allocates nothing.
#[derive(Debug)]
pub struct BinaryCrossEntropy {
    config: BinaryConfig,
    counts: Option<Counts>,
    kernel: BinaryCrossEntropyKernel,
    table_buffer: wgpu::Buffer,
}

/// What live factors need.
#[derive(Debug)]
struct Counts {
    kernel: BinaryCountsKernel,
    counts: wgpu::Buffer,
    partials: wgpu::Buffer,
    history: Option<History>,
}

/// What counts over many batches need beside: a [`CountHistory`], and the counts that the factors are made of.
#[derive(Debug)]
struct History {
    program: HistoryProgram,
    history: wgpu::Buffer,
    counted: wgpu::Buffer,
}

impl Counts {
    fn new(device: &wgpu::Device, config: &BinaryConfig) -> Result<Self, PlanError> {
        let (over, counters) = (config.spec().counts_over, counters(config));
        let program =
            HistoryProgram::new(device, config.capabilities(), over, true, counters, config.shaders())?;
        Self::with_programs(device, config, BinaryCountsKernel::new(device, config)?, program)
    }

    fn with_programs(
        device: &wgpu::Device,
        config: &BinaryConfig,
        kernel: BinaryCountsKernel,
        program: Option<HistoryProgram>,
    ) -> Result<Self, PlanError> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let [_, counts, partials, history, counted] = sizes(config);
        let make = |(name, size)| create_buffer(device, name, size, usage, None);
        let (over, counters) = (config.spec().counts_over, counters(config));
        Ok(Self {
            kernel,
            counts: make(counts)?,
            partials: make(partials)?,
            history: match (program, CountHistory::of(over, true, counters)) {
                (Some(program), Some(own)) => Some(History {
                    program,
                    history: create_buffer(device, history.0, history.1, usage, Some(own.as_bytes()))?,
                    counted: make(counted)?,
                }),
                _ => None,
            },
        })
    }
}

/// Positives and negatives, of each column or of all.
fn counters(config: &BinaryConfig) -> u32 {
    2 * config.factor_pairs()
}

impl BinaryCrossEntropy {
    /// Checks spec and shape, compiles the kernels and makes the buffers between them.
    ///
    /// # Errors
    /// [`PlanError`] where the spec does not fit the shape, or either passes what the device can do.
    pub fn new(
        device: &wgpu::Device,
        spec: &BinarySpec,
        shape: Shape,
        options: &BinaryOptions,
    ) -> Result<Self, PlanError> {
        Self::with_config(device, BinaryConfig::new(device, spec, shape, options)?)
    }

    /// The same for a config, whose [`BinaryConfig::memory`] one may have looked at before, or which has shaders of the
    /// caller's ([`BinaryConfig::with_shaders`]). It is to be one of this device.
    ///
    /// # Errors
    /// As [`BinaryCrossEntropy::new`].
    pub fn with_config(device: &wgpu::Device, config: BinaryConfig) -> Result<Self, PlanError> {
        config.check_memory()?;
        let live = config.spec().pos_weight.needs_counts();
        let counts = live.then(|| Counts::new(device, &config)).transpose()?;
        let kernel = BinaryCrossEntropyKernel::new(device, &config)?;
        Self::with_kernels(device, config, counts, kernel)
    }

    /// The same pipelines on a batch of so many rows, with buffers of its own.
    pub(crate) fn with_rows(&self, device: &wgpu::Device, rows: u32) -> Result<Self, PlanError> {
        let config = self.config.with_rows(rows)?;
        config.check_memory()?;
        let counts = match &self.counts {
            None => None,
            Some(own) => {
                let program = own.history.as_ref().map(|over| over.program.clone());
                Some(Counts::with_programs(device, &config, own.kernel.for_config(&config), program)?)
            }
        };
        let kernel = self.kernel.for_config(&config);
        Self::with_kernels(device, config, counts, kernel)
    }

    fn with_kernels(
        device: &wgpu::Device,
        config: BinaryConfig,
        counts: Option<Counts>,
        kernel: BinaryCrossEntropyKernel,
    ) -> Result<Self, PlanError> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let [table, ..] = sizes(&config);
        let initial = BinaryTableLayout::new(&config).initial(&config);
        Ok(Self {
            counts,
            kernel,
            table_buffer: create_buffer(device, table.0, table.1, usage, Some(&initial))?,
            config,
        })
    }

    /// Checks the buffers of a batch and makes the bind groups. Once for each set of buffers, not once a step.
    ///
    /// # Errors
    /// [`BindError`] names the buffer, what was expected and what came.
    pub fn bind(&self, device: &wgpu::Device, batch: &BinaryBatch<'_>) -> Result<BoundBinaryStep, BindError> {
        let whole = wgpu::Buffer::as_entire_buffer_binding;
        let counts = self.counts.as_ref();
        let binary_counts = match counts {
            None => Bound::default(),
            Some(own) => own.kernel.bind(
                device,
                &BinaryCountsBuffers {
                    targets: batch.targets.clone(),
                    partials: whole(&own.partials),
                    binary_counts: whole(&own.counts),
                },
            )?,
        };
        let history = match counts.and_then(|own| Some((own, own.history.as_ref()?))) {
            None => Bound::default(),
            Some((own, over)) => over.program.bind(
                device,
                ("binary_counts", whole(&own.counts)),
                whole(&over.history),
                whole(&over.counted),
            )?,
        };
        let bound = self.kernel.bind(
            device,
            &BinaryCrossEntropyBuffers {
                logits: batch.logits.clone(),
                targets: batch.targets.clone(),
                element_weights: batch.element_weights.clone(),
                sample_weights: batch.sample_weights.clone(),
                grad_out: batch.grad_out.clone(),
                external_denominator: batch.external_denominator.clone(),
                binary_counts: counts.map(|own| match &own.history {
                    None => whole(&own.counts),
                    Some(over) => whole(&over.counted),
                }),
                logit_grads: batch.logit_grads.clone(),
                element_losses: batch.element_losses.clone(),
                table: whole(&self.table_buffer),
            },
        )?;
        let BoundBinaryCrossEntropy { weights, denominator, elements } = bound;
        Ok(BoundBinaryStep { binary_counts, history, weights, denominator, binary_cross_entropy: elements })
    }

    /// Records the whole flow in a compute pass of its own.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, step: &BoundBinaryStep) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("wgpu_cross_entropy.binary"),
            timestamp_writes: None,
        });
        self.encode_in(&mut pass, step);
    }

    /// Records the whole flow in the caller's compute pass.
    pub fn encode_in(&self, pass: &mut wgpu::ComputePass<'_>, step: &BoundBinaryStep) {
        for bound in step.steps() {
            bound.encode(pass);
        }
    }

    /// What was chosen for this spec, shape and device.
    pub fn config(&self) -> &BinaryConfig {
        &self.config
    }

    /// The table: bytes `0..64` are the totals ([`BinaryTotals::from_bytes`]), then come the factors; see
    /// [`BinaryTableLayout`]. Usage `COPY_SRC | COPY_DST`.
    pub fn table(&self) -> &wgpu::Buffer {
        &self.table_buffer
    }

    /// `[columns, 2]` or `[2]`, `f32`, with live factors: sums of `t` and of `1 - t`.
    pub fn binary_counts(&self) -> Option<&wgpu::Buffer> {
        self.counts.as_ref().map(|own| &own.counts)
    }

    /// The counts of the batches so far, where `BinarySpec::counts_over` goes beyond one: a [`CountHistory`], which each
    /// recording of [`BoundBinaryStep::history`] takes one batch further. Usage `STORAGE | COPY_SRC | COPY_DST`.
    pub fn history(&self) -> Option<&wgpu::Buffer> {
        self.counts.as_ref()?.history.as_ref().map(|over| &over.history)
    }

    /// Reads the history, to be saved with a checkpoint. `None` where the plan keeps none.
    ///
    /// # Errors
    /// [`HostError`] where the device fails.
    pub async fn save_history(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
    ) -> Result<Option<CountHistory>, HostError> {
        match self.history() {
            None => Ok(None),
            Some(buffer) => read_history(device, queue, buffer).await.map(Some),
        }
    }

    /// Goes on from a saved history: the next recorded step is its next batch.
    ///
    /// # Errors
    /// [`HistoryError`] where it is not one of this plan's kind, momentum and columns.
    pub fn load_history(&self, queue: &wgpu::Queue, history: &CountHistory) -> Result<(), HistoryError> {
        let own = CountHistory::of(self.config.spec().counts_over, true, counters(&self.config));
        history.load(queue, own, self.history())
    }

    /// Records that the history starts anew: the next recorded step is its first batch.
    pub fn encode_reset(&self, encoder: &mut wgpu::CommandEncoder) {
        if let Some(buffer) = self.history() {
            encoder.clear_buffer(buffer, CountHistory::STEPS, None);
        }
    }

    /// Every buffer that the plan makes, in bytes, by name: as [`BinaryConfig::memory`] says it beforehand.
    pub fn memory(&self) -> Vec<(&'static str, u64)> {
        self.config.memory()
    }

    /// The first half of [`BinaryCrossEntropy::compute`]: everything up to the submission. Returns the buffers of the
    /// gradients and of the elements' losses.
    fn submit(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        inputs: &BinaryInputs<'_>,
    ) -> Result<(wgpu::Buffer, Option<wgpu::Buffer>), HostError> {
        let (spec, shape, options) = (self.config.spec(), self.config.shape(), self.config.options());
        inputs.check(spec, shape)?;
        let in_out = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let make = |name, slice: &[f32]| {
            let bytes: &[u8] = bytemuck::cast_slice(slice);
            create_buffer(device, name, bytes.len() as u64, in_out, Some(bytes))
        };
        let optional = |name, slice: Option<&[f32]>| slice.map(|slice| make(name, slice)).transpose();
        let stored = options.dtype.encode(inputs.logits);
        let stored_bytes = stored.len() as u64;
        let logits = create_buffer(device, "logits", stored_bytes, in_out, Some(&stored))?;
        let targets = make("targets", inputs.targets)?;
        let element_weights = optional("element_weights", inputs.element_weights)?;
        let sample_weights = optional("sample_weights", inputs.sample_weights)?;
        let ones;
        let upstream = match (inputs.grad_out, options.grad_out) {
            (None, true) => {
                ones = vec![1.0; inputs.logits.len()];
                Some(&ones[..])
            }
            (slice, _) => slice,
        };
        let grad_out = optional("grad_out", upstream)?;
        let external = inputs.external_denominator;
        let external = optional("external_denominator", external.as_ref().map(std::slice::from_ref))?;
        let bytes = size_of_val(inputs.logits) as u64;
        let empty = |name, wanted: bool, bytes| {
            wanted.then(|| create_buffer(device, name, bytes, in_out, None)).transpose()
        };
        let grads = empty("logit_grads", !options.in_place, stored_bytes)?;
        let losses = empty("element_losses", options.element_losses, bytes)?;
        let binding = wgpu::Buffer::as_entire_buffer_binding;
        let step = self.bind(
            device,
            &BinaryBatch {
                logits: binding(&logits),
                targets: binding(&targets),
                element_weights: element_weights.as_ref().map(binding),
                sample_weights: sample_weights.as_ref().map(binding),
                grad_out: grad_out.as_ref().map(binding),
                external_denominator: external.as_ref().map(binding),
                logit_grads: grads.as_ref().map(binding),
                element_losses: losses.as_ref().map(binding),
            },
        )?;
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor {
            label: Some("wgpu_cross_entropy.compute_binary"),
        });
        self.encode(&mut encoder, &step);
        queue.submit([encoder.finish()]);
        Ok((grads.unwrap_or(logits), losses))
    }

    /// [`BinaryCrossEntropy::compute`] for those who want no element left out: what it would only count is an error that
    /// names the first element. Ignored elements are none; weights may be negative.
    ///
    /// # Errors
    /// [`HostError::Row`], and as [`BinaryCrossEntropy::compute`].
    pub async fn compute_checked(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        inputs: &BinaryInputs<'_>,
    ) -> Result<BinaryOutput<f32>, HostError> {
        finite("sample_weights", inputs.sample_weights)?;
        finite("element_weights", inputs.element_weights)?;
        finite("external_denominator", inputs.external_denominator.as_ref().map(std::slice::from_ref))?;
        let output = self.compute(device, queue, inputs).await?;
        match output.totals.first_bad {
            None => Ok(output),
            Some(first) => {
                let count = output.totals.nonfinite;
                Err(RowError::NonFinite { name: "element", first, count }.into())
            }
        }
    }

    /// [`BinaryCrossEntropy::compute_checked`], waiting.
    ///
    /// # Errors
    /// As [`BinaryCrossEntropy::compute_checked`].
    #[cfg(not(target_family = "wasm"))]
    pub fn compute_checked_blocking(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        inputs: &BinaryInputs<'_>,
    ) -> Result<BinaryOutput<f32>, HostError> {
        pollster::block_on(self.compute_checked(device, queue, inputs))
    }

    /// Runs this plan on host slices: uploads, records, submits, reads back.
    ///
    /// # Errors
    /// [`HostError`] where the slices do not fit the plan, or the device fails.
    pub async fn compute(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        inputs: &BinaryInputs<'_>,
    ) -> Result<BinaryOutput<f32>, HostError> {
        let scopes = Scopes::open(device);
        let submitted = self.submit(device, queue, inputs);
        let refused = scopes.close();
        let (grads, losses) = submitted?;
        if let Some(message) = refused.await {
            return Err(match is_lost(device) {
                true => HostError::DeviceLost { name: "the step" },
                false => HostError::Device { message },
            });
        }
        let (spec, shape, options) = (self.config.spec(), self.config.shape(), self.config.options());
        let timeout = options.timeout.unwrap_or(READ_TIMEOUT);
        let read = |name, buffer, size| read_within(device, queue, name, buffer, size, timeout);
        let layout = BinaryTableLayout::new(&self.config);
        let head = layout.factors() + layout.factors_size();
        let table = read("table", &self.table_buffer, head).await?;
        let mut logit_grads = options.dtype.decode(&read("logit_grads", &grads, grads.size()).await?);
        logit_grads.truncate(inputs.logits.len());
        if options.in_place {
            // Padding keeps the caller's logits there; in an output it is 0.
            clear_padding(shape, &mut logit_grads);
        }
        let element_losses = match &losses {
            Some(losses) => {
                let bytes = size_of_val(inputs.logits) as u64;
                Some(floats(&read("element_losses", losses, bytes).await?))
            }
            None => None,
        };
        let binary_counts = match self.binary_counts() {
            Some(counts) => {
                let size = BinaryCountsKernel::counts_size(&self.config);
                Some(floats(&read("binary_counts", counts, size).await?))
            }
            None => None,
        };
        let factors =
            (spec.pos_weight != PosWeight::None).then(|| floats(&table[layout.factors() as usize..]));
        let totals = BinaryTotals::from_bytes(&table).unwrap_or_default();
        Ok(BinaryOutput { totals, element_losses, logit_grads, binary_counts, factors })
    }

    /// [`BinaryCrossEntropy::compute`], waiting.
    ///
    /// # Errors
    /// As [`BinaryCrossEntropy::compute`].
    #[cfg(not(target_family = "wasm"))]
    pub fn compute_blocking(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        inputs: &BinaryInputs<'_>,
    ) -> Result<BinaryOutput<f32>, HostError> {
        pollster::block_on(self.compute(device, queue, inputs))
    }

    /// Runs this plan's own pipelines and the oracle on the same inputs and compares every output.
    ///
    /// # Errors
    /// [`HostError`] where the slices do not fit the plan, or the device fails. A difference is no error: see
    /// [`Validation::passed`].
    pub async fn validate(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        inputs: &BinaryInputs<'_>,
    ) -> Result<Validation, HostError> {
        // A history is put by meanwhile: the oracle knows none, and it is the caller's.
        let history = self.save_history(device, queue).await?;
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.encode_reset(&mut encoder);
        queue.submit([encoder.finish()]);
        let got = self.compute(device, queue, inputs).await;
        if let (Some(history), Some(buffer)) = (history, self.history()) {
            queue.write_buffer(buffer, 0, history.as_bytes());
        }
        let got = got?;
        // The oracle sees what the device sees: logits as they are stored.
        let logits = self.config.options().dtype.round(inputs.logits);
        let inputs = BinaryInputs { logits: &logits, ..*inputs };
        let want = cpu::compute_binary(self.config.spec(), self.config.shape(), &inputs)?;
        Ok(Validation::of_binary(&self.config, &inputs, &got, &want))
    }

    /// [`BinaryCrossEntropy::validate`], waiting.
    ///
    /// # Errors
    /// As [`BinaryCrossEntropy::validate`].
    #[cfg(not(target_family = "wasm"))]
    pub fn validate_blocking(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        inputs: &BinaryInputs<'_>,
    ) -> Result<Validation, HostError> {
        pollster::block_on(self.validate(device, queue, inputs))
    }
}

impl BinaryConfig {
    /// Every buffer that a plan of this config makes, in bytes, by name, before anything is made: as
    /// [`Config::memory`](crate::Config::memory).
    pub fn memory(&self) -> Vec<(&'static str, u64)> {
        let (alignment, of_one) =
            (self.capabilities().offset_alignment, size_of::<crate::BinaryParams>() as u64);
        let own: u64 = self
            .dispatches()
            .map_or(0, |dispatches| dispatches.iter().map(|&n| params_size(of_one, alignment, n)).sum());
        let history =
            match self.spec().pos_weight.needs_counts() && self.spec().counts_over != CountsOver::Batch {
                true => params_size(size_of::<crate::Params>() as u64, alignment, 1),
                false => 0,
            };
        sizes(self).into_iter().chain([("params", own + history)]).filter(|(_, size)| *size > 0).collect()
    }

    /// Checks [`BinaryConfig::memory`] against the limits of the device, buffer by buffer. A plan does so before it makes
    /// any.
    ///
    /// # Errors
    /// [`PlanError::Limit`] with the size and the limit.
    pub fn check_memory(&self) -> Result<(), PlanError> {
        let caps = self.capabilities();
        for (what, got) in self.memory() {
            // The others are bound whole.
            let limit =
                caps.max_buffer_size.min(if what == "params" { u64::MAX } else { caps.max_binding_size });
            if got > limit {
                return Err(PlanError::Limit { what, got, limit });
            }
        }
        Ok(())
    }

    /// Dispatches of each step with parameters of the sigmoid losses' own: counts, weights, denominator, losses.
    fn dispatches(&self) -> Result<[usize; 4], BindError> {
        let live = self.spec().pos_weight.needs_counts();
        let tiles = self.tiles()?.len();
        Ok([
            if live { BinaryCountsKernel::dispatches(self)? } else { 0 },
            usize::from(live),
            1 + if self.sums_first() { tiles } else { 0 },
            tiles + 1,
        ])
    }
}

impl Validation {
    /// Compares an output of a sigmoid loss with the oracle's, for the same batch.
    pub fn of_binary(
        config: &BinaryConfig,
        inputs: &BinaryInputs<'_>,
        got: &BinaryOutput<f32>,
        want: &BinaryOutput<f64>,
    ) -> Self {
        let allowed = binary_tolerances(config, inputs, want);
        let (t, w) = (&got.totals, &want.totals);
        let (one, count) = (Worst::one, Worst::count);
        let grads = config.options().dtype.clamped(&want.logit_grads);
        let mut outputs = vec![
            one("loss", t.loss, w.loss, allowed.loss),
            one("loss_sum", t.loss_sum, w.loss_sum, allowed.loss_sum),
            one("denominator", t.denominator, w.denominator, allowed.denominator),
            one("weight_sum", t.weight_sum, w.weight_sum, allowed.weight_sum),
            one("sample_weight_sum", t.sample_weight_sum, w.sample_weight_sum, allowed.sample_weight_sum),
            Worst::of("logit_grads", &got.logit_grads, &grads, &allowed.logit_grads),
            count("valid", t.valid, w.valid),
            count("ignored", t.ignored, w.ignored),
            count("nonfinite", t.nonfinite, w.nonfinite),
            count("first_bad", t.first_bad.unwrap_or(u32::MAX), w.first_bad.unwrap_or(u32::MAX)),
            count("correct", t.correct, w.correct),
            one("correct_weight", t.correct_weight, w.correct_weight, allowed.correct_weight),
            count("nonzero", t.nonzero, w.nonzero),
        ];
        // A plan need not write each element's loss.
        if let (Some(got), Some(want)) = (&got.element_losses, &want.element_losses) {
            outputs.push(Worst::of("element_losses", got, want, &allowed.element_losses));
        }
        for (name, got, want, allowed) in [
            ("binary_counts", &got.binary_counts, &want.binary_counts, &allowed.binary_counts),
            ("factors", &got.factors, &want.factors, &allowed.factors),
        ] {
            if let Some(want) = want {
                outputs.push(Worst::of(name, got.as_deref().unwrap_or_default(), want, allowed));
            }
        }
        Self { outputs }
    }
}

/// Computes one batch of a sigmoid loss on a device: uploads, runs, reads back, the elements' losses included where there
/// is room for them.
///
/// # Errors
/// [`HostError`] where slices, spec and shape do not fit each other, or the device fails.
pub async fn compute_binary(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    spec: &BinarySpec,
    shape: Shape,
    inputs: &BinaryInputs<'_>,
) -> Result<BinaryOutput<f32>, HostError> {
    inputs.check(spec, &shape)?;
    let options = BinaryOptions {
        grad_out: inputs.grad_out.is_some(),
        element_losses: true,
        // Nobody misses these logits, and a storage buffer is saved.
        in_place: true,
        ..BinaryOptions::default()
    };
    BinaryCrossEntropy::new(device, spec, shape, &options)?.compute(device, queue, inputs).await
}

/// [`compute_binary`], waiting.
///
/// # Errors
/// As [`compute_binary`].
#[cfg(not(target_family = "wasm"))]
pub fn compute_binary_blocking(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    spec: &BinarySpec,
    shape: Shape,
    inputs: &BinaryInputs<'_>,
) -> Result<BinaryOutput<f32>, HostError> {
    pollster::block_on(compute_binary(device, queue, spec, shape, inputs))
}

/// Name and bytes of each buffer between the kernels; 0 where there is none.
fn sizes(config: &BinaryConfig) -> [(&'static str, u64); 5] {
    let over = config.spec().counts_over;
    let live = |size| if config.spec().pos_weight.needs_counts() { size } else { 0 };
    [
        ("table", BinaryTableLayout::new(config).size()),
        ("binary_counts", live(BinaryCountsKernel::counts_size(config))),
        ("binary_counts_partials", live(BinaryCountsKernel::partials_size(config))),
        ("history", live(CountHistory::size(over, counters(config)))),
        ("counted", if over == CountsOver::Batch { 0 } else { live(u64::from(counters(config)) * 4) }),
    ]
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect()
}
