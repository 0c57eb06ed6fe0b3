//! From text to a dispatch: compiling, checking buffers, cutting batches into tiles, recording.
//!
//! What all kernels share. A kernel says which stages it has and which buffer goes to which binding; here the
//! rest is done.

use crate::config::{Config, whole_words};
use crate::error::{BindError, PlanError};
use crate::pipelines::{Key, Made, Shaders};
use crate::shape::Shape;
use crate::wgsl::{self, Binding, Element, Source, Stage, Variant};
use std::sync::OnceLock;

/// What a kernel is told about its dispatch: the twin of `Params` in `shaders/parts/params.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Params {
    /// Rows of this tile.
    pub rows: u32,
    /// Classes.
    pub classes: u32,
    /// Elements from row to row, or block to block.
    pub row_stride: u32,
    /// Rows side by side between two classes; 1 for class-last.
    pub inner: u32,
    /// The tile's first row, in the batch.
    pub first_row: u32,
    /// Width of the grid in workgroups.
    pub groups_x: u32,
    /// The bits of the ignore index.
    pub ignore_index: u32,
    /// `row / divisor % modulus` is the index of a row's sample weight.
    pub sample_weight_divisor: u32,
    /// See `sample_weight_divisor`.
    pub sample_weight_modulus: u32,
    /// The tile's first row where sample weights are broadcast over the batch, else 0.
    pub sample_weights_first_row: u32,
    /// Rows of the batch.
    pub denominator_rows: u32,
    /// Partial sums to add up, or the tile's first one.
    pub partials: u32,
    /// Words before the logits in their binding.
    pub logits_base: u32,
    /// Labels before the labels: words, or parts of one where labels are packed.
    pub labels_base: u32,
    /// Words before the sample weights.
    pub sample_weights_base: u32,
    /// Words before the upstream gradients.
    pub grad_out_base: u32,
    /// Words before the gradients.
    pub logit_grads_base: u32,
    /// Words before the row losses.
    pub row_losses_base: u32,
    /// Words before the row statistics.
    pub row_stats_base: u32,
    /// Words before the gathered predictions.
    pub gathered_base: u32,
    /// Words before the soft targets.
    pub target_probs_base: u32,
    /// Words before the external denominator.
    pub external_base: u32,
}

/// A block of parameters: what a shader's `Params` is the twin of.
pub(crate) trait ParamBlock: bytemuck::Pod {
    /// The field for the width of the grid.
    fn groups_x_mut(&mut self) -> &mut u32;
    /// The field that tells a binding's base, where its data may start anywhere.
    fn base_mut(&mut self, binding: &str) -> Option<&mut u32>;
}

impl ParamBlock for Params {
    fn groups_x_mut(&mut self) -> &mut u32 {
        &mut self.groups_x
    }

    fn base_mut(&mut self, binding: &str) -> Option<&mut u32> {
        Some(match binding {
            "LOGITS" => &mut self.logits_base,
            "LABELS" => &mut self.labels_base,
            "SAMPLE_WEIGHTS" => &mut self.sample_weights_base,
            "GRAD_OUT" => &mut self.grad_out_base,
            "LOGIT_GRADS" => &mut self.logit_grads_base,
            "ROW_LOSSES" => &mut self.row_losses_base,
            "ROW_STATS" => &mut self.row_stats_base,
            "GATHERED" => &mut self.gathered_base,
            "TARGET_PROBS" => &mut self.target_probs_base,
            "EXTERNAL_DENOMINATOR" => &mut self.external_base,
            _ => return None,
        })
    }
}

/// What a device can do, as far as it matters here. Made up freely in tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether subgroup operations may be used.
    pub subgroups: bool,
    /// The smallest subgroup; 1 where there are none.
    pub subgroup_min_size: u32,
    /// The largest subgroup.
    pub subgroup_max_size: u32,
    /// Whether the device is a CPU: barriers are dear there.
    pub cpu: bool,
    /// Workgroups that a CPU runs at once: its cores, or 8 where nobody says. Not heeded of GPUs.
    pub cores: u32,
    /// Whether shaders may use words of 64 bits.
    pub int64: bool,
    /// Invocations in a workgroup.
    pub max_workgroup_size: u32,
    /// Bytes of workgroup memory.
    pub max_workgroup_memory: u32,
    /// Bytes of one storage binding.
    pub max_binding_size: u64,
    /// What binding offsets are multiples of.
    pub offset_alignment: u32,
    /// Storage buffers in one dispatch.
    pub max_storage_buffers: u32,
    /// Workgroups in one dimension of a grid.
    pub max_groups: u32,
    /// Bytes of one buffer.
    pub max_buffer_size: u64,
}

/// Cores of a CPU of which nothing is known.
const CORES: u32 = 8;

impl Default for Capabilities {
    /// The least that WebGPU promises of a GPU.
    fn default() -> Self {
        Self {
            subgroups: false,
            subgroup_min_size: 1,
            subgroup_max_size: 1,
            cpu: false,
            cores: CORES,
            int64: false,
            max_workgroup_size: 256,
            max_workgroup_memory: 16384,
            max_binding_size: 128 << 20,
            offset_alignment: 256,
            max_storage_buffers: 8,
            max_groups: 65535,
            max_buffer_size: 256 << 20,
        }
    }
}

impl Capabilities {
    /// Reads them off a device.
    pub fn of(device: &wgpu::Device) -> Self {
        let (limits, info) = (device.limits(), device.adapter_info());
        let subgroups = device.features().contains(wgpu::Features::SUBGROUP);
        Self {
            subgroups,
            subgroup_min_size: if subgroups { info.subgroup_min_size.max(1) } else { 1 },
            subgroup_max_size: if subgroups { info.subgroup_max_size.max(1) } else { 1 },
            cpu: info.device_type == wgpu::DeviceType::Cpu,
            cores: Self::cores_here(),
            int64: device.features().contains(wgpu::Features::SHADER_INT64),
            max_workgroup_size: limits
                .max_compute_invocations_per_workgroup
                .min(limits.max_compute_workgroup_size_x),
            max_workgroup_memory: limits.max_compute_workgroup_storage_size,
            max_binding_size: limits.max_storage_buffer_binding_size,
            offset_alignment: limits.min_storage_buffer_offset_alignment,
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            max_groups: limits.max_compute_workgroups_per_dimension,
            max_buffer_size: limits.max_buffer_size,
        }
    }

    /// [`cores`](Self::cores) of this process, asked once: the system may have to read files for it.
    pub fn cores_here() -> u32 {
        static HERE: OnceLock<u32> = OnceLock::new();
        *HERE.get_or_init(|| {
            std::thread::available_parallelism()
                .map_or(CORES, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
        })
    }

    /// Checks that there are compute shaders at all: an adapter without them has limits of 0.
    pub(crate) fn check_compute(&self) -> Result<(), PlanError> {
        let limits = [
            ("workgroups of", u64::from(self.max_workgroup_size)),
            ("storage buffers:", u64::from(self.max_storage_buffers)),
            ("storage bindings of", self.max_binding_size),
            ("storage bindings at multiples of", u64::from(self.offset_alignment)),
            ("grids of", u64::from(self.max_groups)),
        ];
        match limits.into_iter().find(|(_, limit)| *limit == 0) {
            Some((what, _)) => Err(PlanError::NoCompute { what }),
            None => Ok(()),
        }
    }

    /// Bytes of data that a binding holds for sure, wherever in its buffer the data starts. At most 2 GiB, so
    /// that a word's index in a binding stays far below 2^32 even as a byte offset.
    pub(crate) fn usable_binding(&self) -> u64 {
        self.max_binding_size.min(1 << 31).saturating_sub(u64::from(self.offset_alignment)) & !3
    }
}

/// Some rows of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// The first row.
    pub first_row: u32,
    /// How many.
    pub rows: u32,
}

/// How a batch is cut into tiles, of which there may be billions where shapes are hopeless.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiling {
    rows: u32,
    step: u32,
}

impl Tiling {
    fn new(rows: u32, rows_at_most: u64) -> Self {
        Self { rows, step: u32::try_from(rows_at_most).unwrap_or(u32::MAX) }
    }

    /// How many tiles.
    pub fn len(self) -> usize {
        self.rows.div_ceil(self.step) as usize
    }

    /// The tiles.
    pub fn iter(self) -> impl Iterator<Item = Tile> {
        let Self { rows, step } = self;
        let tile = move |first_row| Tile { first_row, rows: step.min(rows - first_row) };
        (0..rows).step_by(step as usize).map(tile)
    }
}

/// Cuts a batch into tiles whose logits, and whatever else has up to `row_bytes` bytes a row, fit one binding.
///
/// A tile is a multiple of `group` rows where `group` is above 1.
///
/// # Errors
/// [`BindError::BindingSize`] where a single row (class-first: a single outer block; or a group) does not fit.
pub fn tiles_of_logits(
    shape: &Shape,
    caps: &Capabilities,
    row_bytes: u64,
    group: u32,
) -> Result<Vec<Tile>, BindError> {
    tiling_of_logits(shape, caps, row_bytes, group).map(|tiling| tiling.iter().collect())
}

/// The same without a list.
pub(crate) fn tiling_of_logits(
    shape: &Shape,
    caps: &Capabilities,
    row_bytes: u64,
    group: u32,
) -> Result<Tiling, BindError> {
    let words = caps.usable_binding() / 4;
    // A tile is a number of blocks: rows, or outer blocks of `inner` rows. The last one needs no padding.
    let last = u64::from(shape.classes) * u64::from(shape.inner);
    if last > words {
        return Err(BindError::BindingSize { name: "logits", need: last * 4, limit: caps.max_binding_size });
    }
    let blocks = (words - last) / u64::from(shape.row_stride) + 1;
    let rows_by_logits = blocks * u64::from(shape.inner);
    let rows_by_rows =
        caps.usable_binding() / row_bytes.max(4) / u64::from(shape.inner) * u64::from(shape.inner);
    if rows_by_rows == 0 {
        let need = row_bytes.max(4) * u64::from(shape.inner);
        return Err(BindError::BindingSize { name: "row_losses", need, limit: caps.max_binding_size });
    }
    let rows = rows_by_logits.min(rows_by_rows);
    if u64::from(shape.rows) <= rows {
        return Ok(Tiling::new(shape.rows, rows));
    }
    // Whole groups of whole blocks.
    let (inner, group) = (u64::from(shape.inner), u64::from(group));
    let unit = inner / gcd(inner, group) * group;
    if rows < unit {
        let need = unit.div_ceil(inner) * u64::from(shape.row_stride) * 4;
        return Err(BindError::BindingSize { name: "logits", need, limit: caps.max_binding_size });
    }
    Ok(Tiling::new(shape.rows, rows / unit * unit))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Cuts a batch into tiles for a kernel that sees `bytes` bytes a row and works in groups of
/// [`wgsl::ROWS_PER_GROUP`] rows. No group is ever cut.
pub fn tiles_of_rows(rows: u32, caps: &Capabilities, bytes: u64) -> Vec<Tile> {
    tiling_of_rows(rows, caps, bytes).iter().collect()
}

/// The same without a list.
pub(crate) fn tiling_of_rows(rows: u32, caps: &Capabilities, bytes: u64) -> Tiling {
    let group = u64::from(wgsl::ROWS_PER_GROUP);
    let rows_at_most = (caps.usable_binding() / bytes / group * group).max(group);
    Tiling::new(rows, rows_at_most)
}

/// A checked range of a buffer, by name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region<'a> {
    pub name: &'static str,
    pub buffer: &'a wgpu::Buffer,
    pub offset: u64,
    pub size: u64,
    /// Bytes of what a base counts: a word, or less where elements are packed.
    pub unit: u64,
}

impl<'a> Region<'a> {
    /// Checks that a binding holds `need` bytes for `what`, starts at a whole word and may be bound.
    pub fn new(
        name: &'static str,
        binding: &wgpu::BufferBinding<'a>,
        need: u64,
        what: impl FnOnce() -> String,
    ) -> Result<Self, BindError> {
        let wgpu::BufferBinding { buffer, offset, size } = *binding;
        if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
            let got = format!("{:?}", buffer.usage());
            return Err(BindError::Usage { name, missing: "STORAGE", got });
        }
        if !offset.is_multiple_of(4) {
            return Err(BindError::Offset { name, offset, align: 4 });
        }
        let got = size.map_or(buffer.size().saturating_sub(offset), |size| size.get());
        let end = offset.saturating_add(got);
        if end > buffer.size() || offset > buffer.size() {
            return Err(BindError::BeyondBuffer { name, end: end.max(offset), size: buffer.size() });
        }
        if got < need {
            return Err(BindError::TooSmall { name, got, need, what: what() });
        }
        Ok(Self { name, buffer, offset, size: need, unit: 4 })
    }

    /// A buffer of the crate's own.
    pub fn whole(name: &'static str, buffer: &'a wgpu::Buffer) -> Self {
        Self { name, buffer, offset: 0, size: buffer.size(), unit: 4 }
    }

    /// Checks that it starts at a multiple of `align` bytes: shaders see it as an array of elements of that size.
    pub fn aligned_to(self, align: u64) -> Result<Self, BindError> {
        match self.offset.is_multiple_of(align) {
            true => Ok(self),
            false => Err(BindError::Offset { name: self.name, offset: self.offset, align }),
        }
    }

    /// The same with a base that counts elements of so many bytes, which share words.
    pub fn of_unit(self, unit: u64) -> Self {
        Self { unit, ..self }
    }

    /// A part of it.
    pub fn part(&self, offset: u64, size: u64) -> Self {
        Self { offset: self.offset + offset, size, ..*self }
    }

    /// The part that belongs to a tile, at `bytes` bytes a row.
    pub fn rows(&self, tile: &Tile, bytes: u64) -> Self {
        self.part(u64::from(tile.first_row) * bytes, u64::from(tile.rows) * bytes)
    }
}

/// A compiled stage.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    stage: Stage,
    caps: Capabilities,
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    bindings: Vec<Binding>,
}

impl Program {
    pub fn new(device: &wgpu::Device, stage: Stage, config: &Config) -> Result<Self, PlanError> {
        let variant = config.variant_of(stage);
        let source = wgsl::source(stage, &variant);
        let (caps, shaders) = (*config.capabilities(), config.shaders());
        Self::from_source(device, stage, caps, variant.workgroup_size, source, shaders)
    }

    /// The same from a text made elsewhere.
    pub fn from_source(
        device: &wgpu::Device,
        stage: Stage,
        caps: Capabilities,
        workgroup_size: u32,
        source: Source,
        shaders: &Shaders,
    ) -> Result<Self, PlanError> {
        let buffers = source.bindings.len() as u64;
        if buffers > u64::from(caps.max_storage_buffers) {
            let limit = u64::from(caps.max_storage_buffers);
            return Err(PlanError::Limit { what: "number of storage buffers", got: buffers, limit });
        }
        if workgroup_size > caps.max_workgroup_size {
            let (got, limit) = (u64::from(workgroup_size), u64::from(caps.max_workgroup_size));
            return Err(PlanError::Limit { what: "workgroup_size", got, limit });
        }
        let kernel = stage.file();
        let label = format!("wgpu_cross_entropy.{}", kernel.trim_end_matches(".wgsl").replace('/', "."));
        // Of the caller's text nothing is known: it is compiled with all checks.
        let own = shaders.text(stage, &source.text);
        let key = Key {
            stage,
            checked: own.is_some(),
            text: own.unwrap_or(source.text),
            constants: source.constants.iter().map(|&(name, value)| (name, value.to_bits())).collect(),
        };
        let made = shaders.pipeline(device, key, |key| {
            let (made, refused) =
                scoped(device, || make_pipeline(device, &label, key, &source.bindings, shaders.cache()));
            match refused {
                Some(_) if is_lost(device) => Err(PlanError::DeviceLost),
                Some(message) => Err(PlanError::Compile { kernel, message }),
                None => Ok(made),
            }
        })?;
        Ok(Self { stage, caps, pipeline: made.pipeline, layout: made.layout, bindings: source.bindings })
    }

    /// Plans a dispatch of `groups` workgroups: fills in the bases of `params`, checks the bindings against each
    /// other. `regions` are looked up by the names in the text; every binding but `PARAMS` must be there.
    pub fn plan<P: ParamBlock>(
        &self,
        mut params: P,
        groups: u64,
        regions: &[(&'static str, Region<'_>)],
    ) -> Result<Planned, BindError> {
        let (x, y) = wgsl::grid(groups, self.caps.max_groups);
        *params.groups_x_mut() = x;
        let align = u64::from(self.caps.offset_alignment);
        let mut bound: Vec<Option<BoundBuffer>> = Vec::new();
        let mut used: Vec<(&Binding, &Region<'_>)> = Vec::new();
        for binding in &self.bindings {
            if binding.name == "PARAMS" {
                bound.push(None);
                continue;
            }
            let Some((_, region)) = regions.iter().find(|(name, _)| *name == binding.name) else {
                return Err(BindError::Missing { name: self.stage.file(), why: "a binding has no buffer" });
            };
            for (other, with) in &used {
                if with.buffer == region.buffer && !(binding.read_only && other.read_only) {
                    return Err(BindError::SameBuffer { first: with.name, second: region.name });
                }
            }
            used.push((binding, region));
            let start = region.offset / align * align;
            let base = (region.offset - start) / region.unit;
            match params.base_mut(&binding.name) {
                Some(field) => *field = base as u32,
                None if base == 0 => {}
                None => {
                    return Err(BindError::Offset { name: region.name, offset: region.offset, align });
                }
            }
            let size = (region.offset + region.size - start).max(4).next_multiple_of(4);
            if size > self.caps.max_binding_size {
                let limit = self.caps.max_binding_size;
                return Err(BindError::BindingSize { name: region.name, need: size, limit });
            }
            bound.push(Some(BoundBuffer { buffer: region.buffer.clone(), offset: start, size }));
        }
        let params = bytemuck::bytes_of(&params).to_vec();
        Ok(Planned { program: self.clone(), params, grid: [x, y], bound })
    }
}

/// A compiled stage that visits logits, and the same with loads of one word, made when it is first needed: for
/// buffers that start at no multiple of 16 or 32 bytes, and numbers of rows that are none of four where they are taken by four.
#[derive(Clone, Debug)]
pub(crate) struct RowProgram {
    device: wgpu::Device,
    config: Config,
    stage: Stage,
    program: Program,
    one_word: OnceLock<Result<Program, PlanError>>,
}

impl RowProgram {
    pub fn new(device: &wgpu::Device, stage: Stage, config: &Config) -> Result<Self, PlanError> {
        Ok(Self {
            device: device.clone(),
            config: config.clone(),
            stage,
            program: Program::new(device, stage, config)?,
            one_word: OnceLock::new(),
        })
    }

    /// The program that can serve a tile with these regions, and how many workgroups it takes.
    pub fn for_tile(
        &self,
        rows: u32,
        regions: &[(&'static str, Region<'_>)],
    ) -> Result<(&Program, u64), BindError> {
        let variant = self.config.variant_of(self.stage);
        // What each buffer starts at a multiple of.
        let bytes = |name: &str| match (name, variant.element) {
            ("LOGITS" | "LOGIT_GRADS", Element::F32x8) => 32,
            ("LOGITS" | "LOGIT_GRADS", Element::F32x4) => 16,
            ("LABELS", _) if variant.labels_by_four() => 16,
            ("ROW_LOSSES", _) if variant.losses_by_four() => 16,
            _ => 1,
        };
        let aligned = |(name, region): &(&str, Region<'_>)| region.offset.is_multiple_of(bytes(name));
        let tile = Shape { rows, ..*self.config.shape() };
        let fits = regions.iter().all(aligned)
            && (!variant.quads || rows.is_multiple_of(4))
            && (!variant.skewed || whole_words(&tile));
        let groups = |variant: &Variant| wgsl::workgroups(self.stage, variant, &tile);
        if fits {
            return Ok((&self.program, groups(&variant)));
        }
        let config = self.config.unvectorized();
        let program = self
            .one_word
            .get_or_init(|| Program::new(&self.device, self.stage, &config))
            .as_ref()
            .map_err(|error| BindError::Device { message: error.to_string() })?;
        Ok((program, groups(&config.variant_of(self.stage))))
    }
}

/// A dispatch whose parameters are known and whose bind group is not made yet.
#[derive(Debug)]
pub(crate) struct Planned {
    program: Program,
    /// The bytes of a [`ParamBlock`].
    params: Vec<u8>,
    grid: [u32; 2],
    /// By binding number; none for the parameters.
    bound: Vec<Option<BoundBuffer>>,
}

/// A range of a buffer, at a legal offset.
#[derive(Debug)]
struct BoundBuffer {
    buffer: wgpu::Buffer,
    offset: u64,
    size: u64,
}

/// Dispatches ready to be recorded, as often as one likes.
#[derive(Clone, Debug, Default)]
pub struct Bound {
    dispatches: Vec<Dispatch>,
}

#[derive(Clone, Debug)]
struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    grid: [u32; 2],
}

impl Bound {
    /// Makes the parameter buffer and the bind groups.
    pub(crate) fn new(device: &wgpu::Device, planned: Vec<Planned>) -> Result<Self, BindError> {
        if planned.is_empty() {
            return Ok(Self::default());
        }
        let align = device.limits().min_storage_buffer_offset_alignment;
        let largest = planned.iter().map(|planned| planned.params.len()).max().unwrap_or_default();
        let stride = params_size(largest as u64, align, 1);
        let mut mapped = true;
        let (made, refused) = scoped(device, || {
            let buffer = device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("wgpu_cross_entropy.params"),
                size: stride * planned.len() as u64,
                usage: wgpu::BufferUsages::STORAGE,
                mapped_at_creation: true,
            });
            let dispatches: Vec<Dispatch> = planned
                .iter()
                .zip(0u64..)
                .map(|(planned, number)| {
                    let at = number * stride;
                    let size = planned.params.len() as u64;
                    match buffer.get_mapped_range_mut(at..at + size) {
                        Ok(mut view) => view.copy_from_slice(&planned.params),
                        Err(_) => mapped = false,
                    }
                    let entries: Vec<_> = planned
                        .bound
                        .iter()
                        .zip(0..)
                        .map(|(bound, number)| {
                            let (buffer, offset, size) = match bound {
                                Some(bound) => (&bound.buffer, bound.offset, bound.size),
                                None => (&buffer, at, size),
                            };
                            let size = wgpu::BufferSize::new(size);
                            let binding = wgpu::BufferBinding { buffer, offset, size };
                            wgpu::BindGroupEntry {
                                binding: number,
                                resource: wgpu::BindingResource::Buffer(binding),
                            }
                        })
                        .collect();
                    let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                        label: Some(planned.program.stage.file()),
                        layout: &planned.program.layout,
                        entries: &entries,
                    });
                    Dispatch { pipeline: planned.program.pipeline.clone(), bind_group, grid: planned.grid }
                })
                .collect();
            buffer.unmap();
            dispatches
        });
        match refused {
            _ if !mapped && is_lost(device) => Err(BindError::DeviceLost),
            Some(message) => Err(BindError::Device { message }),
            None => Ok(Self { dispatches: made }),
        }
    }

    /// Records the dispatches. Cannot fail, allocates nothing of its own.
    pub fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        for Dispatch { pipeline, bind_group, grid } in &self.dispatches {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, bind_group, &[]);
            pass.dispatch_workgroups(grid[0], grid[1], 1);
        }
    }

    /// How many dispatches there are.
    pub fn dispatches(&self) -> usize {
        self.dispatches.len()
    }
}

/// Bytes of the parameters of so many dispatches: each starts where a binding may.
pub(crate) fn params_size(of_one: u64, offset_alignment: u32, dispatches: usize) -> u64 {
    of_one.next_multiple_of(offset_alignment.into()) * dispatches as u64
}

/// Runs `make` and returns what wgpu had to say against it, without a word reaching the caller's own error handler.
fn scoped<T>(device: &wgpu::Device, make: impl FnOnce() -> T) -> (T, Option<String>) {
    #[cfg(not(target_family = "wasm"))]
    {
        let scopes = Scopes::open(device);
        let made = make();
        (made, pollster::block_on(scopes.close()))
    }
    // In a browser the answer comes later, from the event loop, which may not be blocked: there the error goes to
    // the scopes around, such as those of `CrossEntropy::compute`, or to the page's own handler.
    #[cfg(target_family = "wasm")]
    {
        let _ = device;
        (make(), None)
    }
}

/// Whether the device is lost: a buffer is none then, though there is memory. (The callback that would be told is the
/// caller's.)
#[cfg(not(target_family = "wasm"))]
pub(crate) fn is_lost(device: &wgpu::Device) -> bool {
    let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("wgpu_cross_entropy.alive"),
        size: 4,
        usage: wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: true,
    });
    let mapped = buffer.get_mapped_range_mut(..).is_ok();
    buffer.unmap();
    drop(validation);
    let memory = pollster::block_on(memory.pop()).is_none();
    memory && !mapped
}

/// In a browser lost devices go on as if nothing were wrong.
#[cfg(target_family = "wasm")]
pub(crate) fn is_lost(_device: &wgpu::Device) -> bool {
    false
}

/// Error scopes around what is done while they are open. Fields are dropped in the reverse order of pushing, which is
/// how wgpu wants scopes popped.
pub(crate) struct Scopes {
    internal: wgpu::ErrorScopeGuard,
    memory: wgpu::ErrorScopeGuard,
    validation: wgpu::ErrorScopeGuard,
}

impl Scopes {
    pub fn open(device: &wgpu::Device) -> Self {
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        Self { internal, memory, validation }
    }

    /// Closes them at once. What wgpu had to say comes at once too on native back ends, and from the event loop in a
    /// browser.
    pub fn close(self) -> impl Future<Output = Option<String>> + use<> {
        let (internal, memory, validation) = (self.internal.pop(), self.memory.pop(), self.validation.pop());
        async move {
            let errors = [internal.await, memory.await, validation.await];
            errors.into_iter().flatten().next().map(|error| error.to_string())
        }
    }
}

/// Makes a buffer, or says why not.
pub(crate) fn create_buffer(
    device: &wgpu::Device,
    name: &'static str,
    size: u64,
    usage: wgpu::BufferUsages,
    contents: Option<&[u8]>,
) -> Result<wgpu::Buffer, PlanError> {
    let limit = device.limits().max_buffer_size;
    if size > limit {
        return Err(PlanError::Limit { what: name, got: size, limit });
    }
    let size = size.max(4).next_multiple_of(4);
    let mut mapped = true;
    let (buffer, refused) = scoped(device, || {
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(name),
            size,
            usage,
            mapped_at_creation: contents.is_some(),
        });
        if let Some(contents) = contents {
            match buffer.get_mapped_range_mut(..) {
                Ok(mut view) => view.slice(..contents.len()).copy_from_slice(contents),
                Err(_) => mapped = false,
            }
            buffer.unmap();
        }
        buffer
    });
    match refused {
        _ if !mapped && is_lost(device) => Err(PlanError::DeviceLost),
        Some(message) => Err(PlanError::Allocate { name, size, message }),
        None => Ok(buffer),
    }
}

/// Compiles a text. What wgpu has against it goes to the error scopes around.
fn make_pipeline(
    device: &wgpu::Device,
    label: &str,
    key: &Key,
    bindings: &[Binding],
    cache: Option<&wgpu::PipelineCache>,
) -> Made {
    let text = key.text.clone();
    let module = match key.checked {
        true => device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(label),
            source: wgpu::ShaderSource::Wgsl(text.into()),
        }),
        false => create_module(device, label, text),
    };
    let entries: Vec<_> = bindings
        .iter()
        .zip(0..)
        .map(|(binding, number)| wgpu::BindGroupLayoutEntry {
            binding: number,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: binding.read_only },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    let layout = device
        .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(label), entries: &entries });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(label),
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let constants: Vec<_> = key.constants.iter().map(|&(name, bits)| (name, f64::from_bits(bits))).collect();
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(label),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &constants,
            // Kernels clear what they use; where the driver cannot, naga's clearing is one long loop.
            zero_initialize_workgroup_memory: false,
        },
        cache,
    });
    Made { pipeline, layout }
}

#[allow(unsafe_code, reason = "wgpu calls a shader without run-time checks trusted, and marks it unsafe")]
fn create_module(device: &wgpu::Device, label: &str, text: String) -> wgpu::ShaderModule {
    let descriptor =
        wgpu::ShaderModuleDescriptor { label: Some(label), source: wgpu::ShaderSource::Wgsl(text.into()) };
    // SAFETY: no check is needed, for the shaders stay inside their bindings by themselves. Every index is a row
    // below `params.rows`, a class below `params.classes` or an invocation below the workgroup size, times strides
    // whose products `Region::new` and `Planned` have checked against the bindings; labels are compared with
    // `params.classes` before anything is indexed by them. Every loop counts up to a bound by a step of at least
    // one. No divisor is zero: `inner`, `sample_weight_divisor`,
    // `sample_weight_modulus` and the binary kernels' columns and column groups are at least 1.
    unsafe { device.create_shader_module_trusted(descriptor, crate::testing::shader_checks()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_row_once_and_fit() {
        // Sizes around the limit, padded rows, class-first blocks, and more than 2^32 logits.
        let shapes = [
            Shape::new(0, 3),
            Shape::new(1, 1),
            Shape::new(33_554_432, 1),
            Shape::new(40_000_000, 2).with_row_stride(3),
            Shape::new(5_000, 262_144),
            Shape::new(100_000, 50_257),
            Shape::class_first(64, 19, 512 * 512),
        ];
        let caps = Capabilities::default();
        for shape in shapes {
            let tiles = tiles_of_logits(&shape, &caps, 32, 1).unwrap();
            let mut next = 0;
            for tile in &tiles {
                assert_eq!(tile.first_row, next, "{shape:?}");
                next += tile.rows;
                let part = Shape { rows: tile.rows, ..shape };
                assert!(part.logits_len() * 4 + 256 <= caps.max_binding_size, "{shape:?} {tile:?}");
                assert!(u64::from(tile.rows) * 32 + 256 <= caps.max_binding_size, "{shape:?} {tile:?}");
                assert!(tile.first_row.is_multiple_of(shape.inner) && tile.rows > 0);
            }
            assert_eq!(next, shape.rows);
            for tile in tiles_of_rows(shape.rows, &caps, 12) {
                assert!(tile.first_row.is_multiple_of(wgsl::ROWS_PER_GROUP));
            }
        }
        let block = Shape::class_first(1, 19, 4096 * 4096);
        assert_eq!(
            tiles_of_logits(&block, &caps, 32, 1).unwrap_err().to_string(),
            "logits needs a binding of 1275068416 bytes; the device allows 134217728"
        );
    }
}
