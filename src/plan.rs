//! The plan: owns what lies between the kernels and records the whole flow into the caller's encoder.

use crate::config::{Config, Options};
use crate::error::{BindError, HistoryError, HostError, PlanError, TelemetryError};
use crate::history::CountHistory;
use crate::host::{READ_TIMEOUT, read, read_within};
use crate::kernels::{
    ClassCountsBuffers, ClassCountsKernel, ClassWeightsBuffers, ClassWeightsKernel, CrossEntropyBuffers,
    CrossEntropyKernel, DenominatorBuffers, DenominatorKernel, LossTotalBuffers, LossTotalKernel,
    TableLayout,
};
use crate::pipeline::{Bound, Params, create_buffer, params_size, tiles_of_logits};
use crate::shape::Shape;
use crate::spec::{CountsOver, Spec};
use crate::stats::ClassStats;
use crate::wgsl::{Element, Strategy};

/// The buffers of one batch. Each is (buffer, offset, size); offsets are multiples of 4, and what is written
/// lies in a buffer of its own.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// `[rows, classes]`, as `Options::dtype` says, in the layout of the shape. Overwritten where `Options::in_place` is set.
    pub logits: wgpu::BufferBinding<'a>,
    /// `[rows]` labels, as `Options::labels` says; `[rows, 3]` words (label, label, share of the first as `f32`) with
    /// [`Targets::TwoHot`](crate::Targets::TwoHot); `[rows, classes]` `f32` in the layout of the shape with
    /// [`Targets::Soft`](crate::Targets::Soft).
    pub targets: wgpu::BufferBinding<'a>,
    /// `f32`, as `Spec::sample_weights` says.
    pub sample_weights: Option<wgpu::BufferBinding<'a>>,
    /// `[rows]`, `f32`, where `Options::grad_out` is set.
    pub grad_out: Option<wgpu::BufferBinding<'a>>,
    /// One `f32`, for `Denominator::External`.
    pub external_denominator: Option<wgpu::BufferBinding<'a>>,
    /// Gradients in the layout of the logits, unless `Options::in_place` is set.
    pub logit_grads: Option<wgpu::BufferBinding<'a>>,
}

/// One training step's work, ready to be recorded as often as one likes.
///
/// The fields are the steps of the flow, in order: a trainer that all-reduces records them one by one and puts its
/// own work between them.
#[derive(Clone, Debug)]
pub struct BoundStep {
    /// Labels to counts; empty without live class statistics. After it, counts may be all-reduced.
    pub class_counts: Bound,
    /// Counts to weights and log-priors; empty without live class statistics.
    pub class_weights: Bound,
    /// Labels and weights to the denominator. After it, the denominator may be all-reduced.
    pub denominator: Bound,
    /// Logits to losses and gradients.
    pub cross_entropy: Bound,
    /// Row losses to the loss, and to the telemetry where the options ask for it.
    pub loss_total: Bound,
}

impl BoundStep {
    /// The steps, in the order of the flow.
    pub fn steps(&self) -> [&Bound; 5] {
        [&self.class_counts, &self.class_weights, &self.denominator, &self.cross_entropy, &self.loss_total]
    }

    /// How many dispatches a step has.
    pub fn dispatches(&self) -> usize {
        self.steps().iter().map(|bound| bound.dispatches()).sum()
    }
}

/// A loss for one spec, shape and device: the kernels, compiled, and the buffers between them.
///
/// [`CrossEntropy::encode`] records counts, weights, denominator, losses, gradients and totals. It submits, maps,
/// polls and allocates nothing.
#[derive(Debug)]
pub struct CrossEntropy {
    config: Config,
    class_counts: Option<ClassCountsKernel>,
    class_weights: Option<ClassWeightsKernel>,
    denominator: DenominatorKernel,
    cross_entropy: CrossEntropyKernel,
    loss_total: LossTotalKernel,
    counts_buffer: Option<wgpu::Buffer>,
    /// What the counts need beside themselves, where they are mass or go over many batches.
    mass_buffer: Option<wgpu::Buffer>,
    history_buffer: Option<wgpu::Buffer>,
    counted_buffer: Option<wgpu::Buffer>,
    table_buffer: wgpu::Buffer,
    row_losses_buffer: wgpu::Buffer,
    denominator_partials: wgpu::Buffer,
    loss_partials: wgpu::Buffer,
    telemetry_buffer: Option<wgpu::Buffer>,
}

/// The kernels of a plan, compiled.
struct Kernels {
    class_counts: Option<ClassCountsKernel>,
    class_weights: Option<ClassWeightsKernel>,
    denominator: DenominatorKernel,
    cross_entropy: CrossEntropyKernel,
    loss_total: LossTotalKernel,
}

impl CrossEntropy {
    /// Checks spec and shape, compiles the kernels and makes the buffers between them.
    ///
    /// # Errors
    /// [`PlanError`] where the spec does not fit the shape, or either passes what the device can do.
    pub fn new(
        device: &wgpu::Device,
        spec: &Spec,
        shape: Shape,
        options: &Options,
    ) -> Result<Self, PlanError> {
        Self::with_config(device, Config::new(device, spec, shape, options)?)
    }

    /// The same for a config, whose [`Config::memory`] one may have looked at before, or which has shaders of the caller's
    /// ([`Config::with_shaders`]). It is to be one of this device.
    ///
    /// # Errors
    /// As [`CrossEntropy::new`].
    pub fn with_config(device: &wgpu::Device, config: Config) -> Result<Self, PlanError> {
        config.check_memory()?;
        let live = config.spec().needs_counts();
        let kernels = Kernels {
            class_counts: live.then(|| ClassCountsKernel::new(device, &config)).transpose()?,
            class_weights: live.then(|| ClassWeightsKernel::new(device, &config)).transpose()?,
            denominator: DenominatorKernel::new(device, &config)?,
            cross_entropy: CrossEntropyKernel::new(device, &config)?,
            loss_total: LossTotalKernel::new(device, &config)?,
        };
        Self::with_kernels(device, config, kernels)
    }

    /// The same pipelines on a batch of so many rows, with buffers of its own.
    pub(crate) fn with_rows(&self, device: &wgpu::Device, rows: u32) -> Result<Self, PlanError> {
        let config = self.config.with_rows(rows)?;
        config.check_memory()?;
        let kernels = Kernels {
            class_counts: self.class_counts.as_ref().map(|kernel| kernel.for_config(&config)),
            class_weights: self.class_weights.as_ref().map(|kernel| kernel.for_config(&config)),
            denominator: self.denominator.for_config(&config),
            cross_entropy: self.cross_entropy.for_config(device, &config)?,
            loss_total: self.loss_total.for_config(&config),
        };
        Self::with_kernels(device, config, kernels)
    }

    /// The buffers between the kernels.
    fn with_kernels(device: &wgpu::Device, config: Config, kernels: Kernels) -> Result<Self, PlanError> {
        let (spec, shape) = (config.spec(), *config.shape());
        let live = spec.needs_counts();
        let layout = TableLayout::new(spec, &shape);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let [
            table,
            row_losses,
            denominator_partials,
            loss_partials,
            counts,
            telemetry,
            mass,
            history,
            counted,
            ..,
        ] = sizes(&config);
        let make = |(name, size): (&'static str, u64)| create_buffer(device, name, size, usage, None);
        Ok(Self {
            class_counts: kernels.class_counts,
            class_weights: kernels.class_weights,
            denominator: kernels.denominator,
            cross_entropy: kernels.cross_entropy,
            loss_total: kernels.loss_total,
            counts_buffer: live.then(|| make(counts)).transpose()?,
            mass_buffer: (mass.1 > 0).then(|| make(mass)).transpose()?,
            history_buffer: CountHistory::new(spec, shape.classes)
                .map(|own| create_buffer(device, history.0, history.1, usage, Some(own.as_bytes())))
                .transpose()?,
            counted_buffer: (counted.1 > 0).then(|| make(counted)).transpose()?,
            table_buffer: create_buffer(device, table.0, table.1, usage, Some(&layout.initial(spec)))?,
            row_losses_buffer: make(row_losses)?,
            denominator_partials: make(denominator_partials)?,
            loss_partials: make(loss_partials)?,
            telemetry_buffer: (telemetry.1 > 0).then(|| make(telemetry)).transpose()?,
            config,
        })
    }

    /// Checks the buffers of a batch and makes the bind groups. Once for each set of buffers, not once a step.
    ///
    /// # Errors
    /// [`BindError`] names the buffer, what was expected and what came.
    pub fn bind(&self, device: &wgpu::Device, batch: &Batch<'_>) -> Result<BoundStep, BindError> {
        let whole = wgpu::Buffer::as_entire_buffer_binding;
        let table = whole(&self.table_buffer);
        let mut class_counts = Bound::default();
        let mut class_weights = Bound::default();
        if let (Some(counts), Some(weights), Some(buffer)) =
            (&self.class_counts, &self.class_weights, &self.counts_buffer)
        {
            class_counts = counts.bind(
                device,
                &ClassCountsBuffers {
                    targets: batch.targets.clone(),
                    sample_weights: match self.config.spec().live_counts.sample_weighted {
                        true => batch.sample_weights.clone(),
                        false => None,
                    },
                    mass: self.mass_buffer.as_ref().map(whole),
                    class_counts: whole(buffer),
                },
            )?;
            class_weights = weights.bind(
                device,
                &ClassWeightsBuffers {
                    class_counts: whole(buffer),
                    history: self.history_buffer.as_ref().map(whole),
                    counted: self.counted_buffer.as_ref().map(whole),
                    table: table.clone(),
                },
            )?;
        }
        Ok(BoundStep {
            class_counts,
            class_weights,
            denominator: self.denominator.bind(
                device,
                &DenominatorBuffers {
                    targets: batch.targets.clone(),
                    sample_weights: batch.sample_weights.clone(),
                    external_denominator: batch.external_denominator.clone(),
                    partials: whole(&self.denominator_partials),
                    table: table.clone(),
                },
            )?,
            cross_entropy: self.cross_entropy.bind(
                device,
                &CrossEntropyBuffers {
                    logits: batch.logits.clone(),
                    targets: batch.targets.clone(),
                    sample_weights: batch.sample_weights.clone(),
                    grad_out: batch.grad_out.clone(),
                    logit_grads: batch.logit_grads.clone(),
                    row_losses: whole(&self.row_losses_buffer),
                    table: table.clone(),
                },
            )?,
            loss_total: self.loss_total.bind(
                device,
                &LossTotalBuffers {
                    row_losses: whole(&self.row_losses_buffer),
                    partials: whole(&self.loss_partials),
                    table,
                    telemetry: self.telemetry_buffer.as_ref().map(whole),
                },
            )?,
        })
    }

    /// Records the whole flow in a compute pass of its own.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, step: &BoundStep) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("wgpu_cross_entropy"),
            timestamp_writes: None,
        });
        self.encode_in(&mut pass, step);
    }

    /// Records the whole flow in the caller's compute pass.
    pub fn encode_in(&self, pass: &mut wgpu::ComputePass<'_>, step: &BoundStep) {
        for bound in step.steps() {
            bound.encode(pass);
        }
    }

    /// What was chosen for this spec, shape and device.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The table: bytes `0..64` are the totals ([`Totals::from_bytes`](crate::Totals::from_bytes)), then come the
    /// class weights; see [`TableLayout`]. Usage `COPY_SRC | COPY_DST`.
    pub fn table(&self) -> &wgpu::Buffer {
        &self.table_buffer
    }

    /// `[rows]`, `f32`: each row's loss before the denominator. Of [`RowRecord`](crate::RowRecord)s where the options ask
    /// for by-products.
    pub fn row_losses(&self) -> &wgpu::Buffer {
        &self.row_losses_buffer
    }

    /// `[classes]`, with live class statistics: `u32` rows of the batch, or `f32` mass (`Spec::counts_are_mass`). What a
    /// caller all-reduces, by a plain sum, between `class_counts` and `class_weights`.
    pub fn class_counts(&self) -> Option<&wgpu::Buffer> {
        self.counts_buffer.as_ref()
    }

    /// What each class had since the plan was made or [`CrossEntropy::reset_telemetry`] ran, where the options ask for
    /// it: see [`TelemetryLayout`](crate::TelemetryLayout). Usage `COPY_SRC | COPY_DST`.
    pub fn telemetry(&self) -> Option<&wgpu::Buffer> {
        self.telemetry_buffer.as_ref()
    }

    /// Records that the telemetry starts anew: before a step for telemetry of that step, before an epoch's first one for
    /// that of the epoch. Does nothing where there is none.
    pub fn reset_telemetry(&self, encoder: &mut wgpu::CommandEncoder) {
        if let Some(buffer) = &self.telemetry_buffer {
            encoder.clear_buffer(buffer, 0, None);
        }
    }

    /// Reads the telemetry, after everything submitted so far. Waits for the device as [`read`](crate::read) does:
    /// nothing for the inside of a training loop.
    ///
    /// # Errors
    /// [`HostError::Telemetry`] where the options ask for none; otherwise as [`read`](crate::read).
    pub async fn read_telemetry(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
    ) -> Result<ClassStats, HostError> {
        let (Some(buffer), Some(layout)) = (&self.telemetry_buffer, self.config.telemetry_layout()) else {
            return Err(TelemetryError::Off.into());
        };
        let timeout = self.config.options().timeout.unwrap_or(READ_TIMEOUT);
        let bytes = read_within(device, queue, "telemetry", buffer, layout.size(), timeout).await?;
        let (classes, confusion) = (self.config.shape().classes, self.config.options().confusion);
        Ok(ClassStats::from_bytes(classes, confusion, &bytes)?)
    }

    /// [`CrossEntropy::read_telemetry`], waiting.
    ///
    /// # Errors
    /// As [`CrossEntropy::read_telemetry`].
    #[cfg(not(target_family = "wasm"))]
    pub fn read_telemetry_blocking(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
    ) -> Result<ClassStats, HostError> {
        pollster::block_on(self.read_telemetry(device, queue))
    }

    /// `[classes]`, `f32`: the counts that weights and biases are made of, where they go over many batches.
    pub fn counted(&self) -> Option<&wgpu::Buffer> {
        self.counted_buffer.as_ref()
    }

    /// The counts of the batches so far, where `LiveCounts::over` goes beyond one: a [`CountHistory`], which each
    /// recording of [`BoundStep::class_weights`] takes one batch further. Usage `STORAGE | COPY_SRC | COPY_DST`.
    pub fn history(&self) -> Option<&wgpu::Buffer> {
        self.history_buffer.as_ref()
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
    /// [`HistoryError`] where it is not one of this plan's kind, momentum and classes.
    pub fn load_history(&self, queue: &wgpu::Queue, history: &CountHistory) -> Result<(), HistoryError> {
        let own = CountHistory::new(self.config.spec(), self.config.shape().classes);
        history.load(queue, own, self.history())
    }

    /// Records that the history starts anew: the next recorded step is its first batch.
    pub fn encode_reset(&self, encoder: &mut wgpu::CommandEncoder) {
        if let Some(buffer) = self.history() {
            encoder.clear_buffer(buffer, CountHistory::STEPS, None);
        }
    }

    /// Every buffer that the plan makes, in bytes, by name: as [`Config::memory`] says it beforehand.
    pub fn memory(&self) -> Vec<(&'static str, u64)> {
        self.config.memory()
    }

    /// What was chosen and why, and what a step moves, in a few lines for a person.
    pub fn describe(&self) -> String {
        let (shape, variant) = (self.config.shape(), self.config.variant());
        let tiles = tiles_of_logits(shape, self.config.capabilities(), 12, self.config.rows_together())
            .map_or(0, |tiles| tiles.len());
        let logits = u64::from(shape.rows) * u64::from(shape.classes);
        let bytes = self.config.options().dtype.bytes();
        let load = match variant.element {
            Element::F32 => "4-byte loads",
            Element::F32x4 if variant.wide => "16-byte loads as two of 8",
            Element::F32x4 => "16-byte loads",
            Element::F32x8 => "32-byte loads as four of 8",
            Element::F16 | Element::Bf16 => "4-byte loads of two",
        };
        let visits = u64::from(self.config.visits());
        format!(
            "{} rows of {} classes: strategy {:?} ({}), workgroups of {}{}{}, {} thread(s) a row, {} elements a thread{}, \
             {load}, {tiles} tile(s)\n\
             {} bytes of logits read, each {visits} time(s), {} written; {} bytes of intermediates; {} dispatch(es) of \
             the fused kernel",
            shape.rows,
            shape.classes,
            variant.strategy,
            self.config.why(),
            variant.workgroup_size,
            if variant.subgroups { " with subgroups" } else { "" },
            match variant.strategy {
                Strategy::Split => format!(", {} of them a row", variant.splits),
                _ => String::new(),
            },
            variant.lanes(),
            4 * variant.blocks,
            if variant.held { " in registers" } else { " at a time" },
            logits * bytes * visits,
            logits * bytes,
            self.memory().iter().map(|(_, size)| size).sum::<u64>(),
            tiles * self.config.dispatches_a_tile(),
        )
    }
}

impl Config {
    /// Every buffer that a plan of this config makes, in bytes, by name, before anything is made; the last, `params`, is of
    /// one [`BoundStep`], where each dispatch finds its parameters. Logits, gradients and whatever else comes with the
    /// batch are the caller's: a step needs no other memory.
    ///
    /// While a plan is made, wgpu holds what it writes to new buffers (`table`, `history`, `params`) once more, up to the
    /// end of the next submission.
    pub fn memory(&self) -> Vec<(&'static str, u64)> {
        let params: u64 = self.dispatches().map_or(0, |dispatches| {
            let alignment = self.capabilities().offset_alignment;
            dispatches.iter().map(|&n| params_size(size_of::<Params>() as u64, alignment, n)).sum()
        });
        sizes(self).into_iter().chain([("params", params)]).filter(|(_, size)| *size > 0).collect()
    }

    /// Checks [`Config::memory`] against the limits of the device, buffer by buffer. A plan does so before it makes any.
    ///
    /// # Errors
    /// [`PlanError::Limit`] with the size and the limit.
    pub fn check_memory(&self) -> Result<(), PlanError> {
        let caps = self.capabilities();
        for (what, got) in self.memory() {
            // The others are bound whole.
            let tiled = matches!(what, "row_losses" | "row_stats" | "params");
            let limit = caps.max_buffer_size.min(if tiled { u64::MAX } else { caps.max_binding_size });
            if got > limit {
                return Err(PlanError::Limit { what, got, limit });
            }
        }
        Ok(())
    }

    /// Dispatches of each step of the flow.
    fn dispatches(&self) -> Result<[usize; 5], BindError> {
        let live = self.spec().needs_counts();
        Ok([
            if live { ClassCountsKernel::dispatches(self)? } else { 0 },
            if live { ClassWeightsKernel::dispatches(self) } else { 0 },
            DenominatorKernel::dispatches(self)?,
            CrossEntropyKernel::dispatches(self)?,
            LossTotalKernel::dispatches(self),
        ])
    }
}

/// A plan's history.
pub(crate) async fn read_history(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    buffer: &wgpu::Buffer,
) -> Result<CountHistory, HostError> {
    let bytes = read(device, queue, "history", buffer, buffer.size()).await?;
    let broken = |error: HistoryError| HostError::Read { name: "history", message: error.to_string() };
    CountHistory::from_bytes(&bytes).map_err(broken)
}

/// Name and bytes of each buffer between the kernels; 0 where there is none.
fn sizes(config: &Config) -> [(&'static str, u64); 12] {
    let (spec, shape) = (config.spec(), config.shape());
    let telemetry = match config.options().confusion {
        true => "telemetry (8 bytes for each pair of classes)",
        false => "telemetry",
    };
    let (live, classes) = (spec.needs_counts(), shape.classes);
    let [row_stats, row_shares, row_moments] = CrossEntropyKernel::scratch_sizes(config);
    let only = |on: bool, size| if live && on { size } else { 0 };
    let over = spec.live_counts.over;
    [
        ("table", TableLayout::new(spec, shape).size()),
        ("row_losses", (u64::from(shape.rows) * config.row_size()).max(4)),
        ("denominator_partials", DenominatorKernel::partials_size(spec.targets, shape.rows)),
        ("loss_partials", LossTotalKernel::partials_size(shape.rows)),
        ("class_counts", only(true, u64::from(classes) * 4)),
        (telemetry, config.telemetry_layout().map_or(0, |layout| layout.size())),
        ("mass", only(spec.counts_are_mass(), ClassCountsKernel::mass_size(classes))),
        ("history", only(true, CountHistory::size(over, classes))),
        ("counted", only(over != CountsOver::Batch, u64::from(classes) * 4)),
        // The fused kernel makes these itself.
        row_stats,
        row_shares,
        row_moments,
    ]
}
