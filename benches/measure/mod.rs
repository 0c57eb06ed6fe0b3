//! What both benches share: the shapes, the data, the clock, and the copies to compare with.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::error::Error;
use std::time::{Duration, Instant};

use wgpu_cross_entropy::tolerance::Worst;
use wgpu_cross_entropy::wgsl::{Element, Stage, Strategy};
use wgpu_cross_entropy::{Bound, Config, Gpu, READ_TIMEOUT, Spec, read};

use crate::data::Data;

mod copy;

use copy::CopyShape;

/// Whatever keeps a kernel from being timed, in words.
pub type Failure = Box<dyn Error>;

/// The most logits of a batch on a CPU device: 16 MiB of them, four times a desktop's cache, a few hundredths of a
/// second a step.
pub const CPU_LOGITS: u64 = 1 << 22;
/// The most logits that are checked against the oracle, which takes microseconds a logit in a debug build; a row is
/// checked all the same where it has more.
pub const CHECKED_LOGITS: u64 = 1 << 17;
/// The most logits, and the most rows, under `cargo test`.
pub const TEST_LOGITS: u64 = 1 << 12;
impl Data {
    /// A buffer of logits.
    pub fn logits_buffer(&self, gpu: &Gpu) -> Result<wgpu::Buffer, Failure> {
        let size = self.shape.logits_len() * 4;
        let buffer = empty_buffer(gpu, "logits", size)?;
        let period = self.logits_of_period();
        let bytes: &[u8] = bytemuck::cast_slice(&period);
        for at in (0..size).step_by(bytes.len()) {
            let part = (size - at).min(bytes.len() as u64);
            gpu.queue.write_buffer(&buffer, at, &bytes[..part as usize]);
            // Each write has a staging buffer of its own until it is submitted and done.
            gpu.queue.submit([]);
            wait(gpu)?;
        }
        Ok(buffer)
    }

    /// A buffer of labels.
    pub fn labels_buffer(&self, gpu: &Gpu) -> Result<wgpu::Buffer, Failure> {
        full_buffer(gpu, "labels", bytemuck::cast_slice(&self.labels))
    }

    /// Plans for this batch, with its options.
    pub fn config(&self, gpu: &Gpu, spec: &Spec) -> Result<Config, Failure> {
        Ok(Config::new(&gpu.device, spec, self.shape, &self.options)?)
    }
}

/// A storage buffer that can be read and written from the host side.
pub fn empty_buffer(gpu: &Gpu, label: &str, size: u64) -> Result<wgpu::Buffer, Failure> {
    let memory = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let validation = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
    let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size: size.max(4).next_multiple_of(16),
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let errors = [pollster::block_on(validation.pop()), pollster::block_on(memory.pop())];
    match errors.into_iter().flatten().next() {
        Some(error) => Err(error.to_string().into()),
        None => Ok(buffer),
    }
}

/// The same with something in it.
pub fn full_buffer(gpu: &Gpu, label: &str, bytes: &[u8]) -> Result<wgpu::Buffer, Failure> {
    let buffer = empty_buffer(gpu, label, bytes.len() as u64)?;
    gpu.queue.write_buffer(&buffer, 0, bytes);
    Ok(buffer)
}

/// Reads numbers back.
pub fn read_words<T: bytemuck::AnyBitPattern>(
    gpu: &Gpu,
    buffer: &wgpu::Buffer,
    len: u64,
) -> Result<Vec<T>, Failure> {
    let size = len * size_of::<T>() as u64;
    let bytes = pollster::block_on(read(&gpu.device, &gpu.queue, "result", buffer, size))?;
    Ok(bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
}

/// Fails where an output is further from the oracle's than it may be.
pub fn within(worst: &Worst) -> Result<(), Failure> {
    if worst.passed() { Ok(()) } else { Err(worst.to_string().into()) }
}

/// Runs dispatches once.
pub fn run(gpu: &Gpu, steps: &[&Bound]) -> Result<(), Failure> {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for step in steps {
            step.encode(&mut pass);
        }
    }
    gpu.queue.submit([encoder.finish()]);
    wait(gpu)
}

pub fn wait(gpu: &Gpu) -> Result<(), Failure> {
    gpu.device.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(READ_TIMEOUT) })?;
    Ok(())
}

/// What some runs took together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Took {
    /// By timestamps; none where the device has none or they make no sense.
    pub gpu: Option<Duration>,
    /// From just before the submission until the device was done with it.
    pub wall: Duration,
}

impl Took {
    /// By timestamps where there are any.
    pub fn best(&self) -> Duration {
        self.gpu.unwrap_or(self.wall)
    }

    /// Another's time beside it.
    pub fn add(&mut self, other: &Self) {
        self.wall += other.wall;
        self.gpu = self.gpu.zip(other.gpu).map(|(a, b)| a + b);
    }
}

/// Passes of one submission: two timestamps each, and WebGPU allows 4,096 in a set.
pub const PASSES: u64 = 512;

/// Timestamps and wall clock.
pub struct Clock {
    pub gpu: Gpu,
    queries: Option<Queries>,
}

pub struct Queries {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    nanoseconds: f64,
}

impl Clock {
    /// For a device.
    pub fn new(gpu: &Gpu) -> Self {
        let queries = gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY).then(|| Queries {
            set: gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2 * PASSES as u32,
            }),
            resolved: gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: 2 * PASSES * 8,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            }),
            nanoseconds: f64::from(gpu.queue.get_timestamp_period()),
        });
        Self { gpu: gpu.clone(), queries }
    }

    /// Times `runs` passes, each with a pair of timestamps of its own: a pass's dispatches, and nothing else, lie
    /// between them.
    pub fn passes(&self, runs: u64, record: &dyn Fn(&mut wgpu::ComputePass<'_>)) -> Result<Took, Failure> {
        let mut whole = Took { gpu: Some(Duration::ZERO), wall: Duration::ZERO };
        let mut left = runs;
        while left > 0 {
            let now = left.min(PASSES);
            left -= now;
            let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
            for number in 0..now as u32 {
                let writes = self.queries.as_ref().map(|queries| wgpu::ComputePassTimestampWrites {
                    query_set: &queries.set,
                    beginning_of_pass_write_index: Some(2 * number),
                    end_of_pass_write_index: Some(2 * number + 1),
                });
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: Some("timed"),
                    timestamp_writes: writes,
                });
                record(&mut pass);
            }
            let wall = self.wall(encoder)?;
            whole.add(&Took { gpu: self.timestamps(now)?, wall });
        }
        Ok(whole)
    }

    /// Times `runs` commands outside passes: by the wall clock, for timestamps there are a feature of their own.
    pub fn commands(&self, runs: u64, record: &dyn Fn(&mut wgpu::CommandEncoder)) -> Result<Took, Failure> {
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        (0..runs).for_each(|_| record(&mut encoder));
        Ok(Took { gpu: None, wall: self.wall(encoder)? })
    }

    fn wall(&self, encoder: wgpu::CommandEncoder) -> Result<Duration, Failure> {
        let commands = encoder.finish();
        let start = Instant::now();
        self.gpu.queue.submit([commands]);
        wait(&self.gpu)?;
        Ok(start.elapsed())
    }

    /// The sum over the passes just done. In a submission of its own, after they are done: some drivers resolve
    /// queries too early otherwise. None where one is zero or they decrease, as some drivers have it.
    fn timestamps(&self, passes: u64) -> Result<Option<Duration>, Failure> {
        let Some(queries) = &self.queries else { return Ok(None) };
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        encoder.resolve_query_set(&queries.set, 0..2 * passes as u32, &queries.resolved, 0);
        self.gpu.queue.submit([encoder.finish()]);
        let ticks: Vec<u64> = read_words(&self.gpu, &queries.resolved, 2 * passes)?;
        // Only within a pass: the next one may begin before this one ends where neither waits for the other.
        if ticks.contains(&0) || ticks.chunks_exact(2).any(|pair| pair[1] < pair[0]) {
            return Ok(None);
        }
        let sum: u64 = ticks.chunks_exact(2).map(|pair| pair[1] - pair[0]).sum();
        let nanoseconds = (sum as f64 * queries.nanoseconds) as u64;
        Ok((nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds)))
    }
}

/// Shaders that copy and one that sums, of several shapes.
pub struct Copies {
    layout: wgpu::BindGroupLayout,
    shaders: Vec<(CopyShape, wgpu::ComputePipeline)>,
}

/// The shapes: as narrow as the subgroup of a CPU device, usual ones, and more loads in flight.
const COPY_SHAPES: &[CopyShape] = &[
    CopyShape::new(8, 1, false),
    CopyShape::new(8, 4, false),
    CopyShape::new(64, 1, false),
    CopyShape::new(256, 1, false),
    CopyShape::new(64, 4, false),
    CopyShape::new(256, 4, false),
    CopyShape::new(64, 1, false).wide(),
    CopyShape::new(64, 2, false).wide(),
    CopyShape::new(8, 4, true),
    CopyShape::new(64, 4, true),
];

/// GB/s of the copies of one size; read and written bytes both count.
#[derive(Clone, Debug)]
pub struct Ceiling {
    /// By shape of the copy, in words of 32 bits.
    pub copies: Vec<(CopyShape, f64)>,
    /// The best in words of 64 bits, where the device has them.
    pub wide: Option<f64>,
    /// The best sum, which only reads.
    pub sum: f64,
    /// `copy_buffer_to_buffer`.
    pub buffer_to_buffer: f64,
}

impl Ceiling {
    /// What kernels are held against.
    pub fn best_shader(&self) -> f64 {
        self.copies.iter().map(|(_, rate)| *rate).fold(0.0, f64::max)
    }
}

impl Copies {
    /// Compiles the shaders.
    pub fn new(gpu: &Gpu) -> Result<Self, Failure> {
        let limit = gpu.device.limits().max_compute_invocations_per_workgroup;
        let int64 = gpu.device.features().contains(wgpu::Features::SHADER_INT64);
        let entry = |binding, read_only| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let layout = gpu.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("copy"),
            entries: &[entry(0, true), entry(1, false)],
        });
        let shaders = COPY_SHAPES
            .iter()
            .filter(|shape| shape.workgroup_size <= limit && (!shape.wide || int64))
            .map(|shape| (*shape, copy_pipeline(gpu, &layout, shape)))
            .collect();
        Ok(Self { layout, shaders })
    }

    /// Copies half of `bytes`, which is read and written: in all, the bytes that a kernel moves. So a batch that fits a
    /// cache is compared with a copy that does.
    pub fn measure(&self, clock: &Clock, bytes: u64, testing: bool) -> Result<Ceiling, Failure> {
        Ok(self.of(clock, bytes, testing)?.1)
    }

    /// The same, and what it takes to measure the best of them again.
    pub fn of<'a>(
        &'a self,
        clock: &'a Clock,
        bytes: u64,
        testing: bool,
    ) -> Result<(CopyRun<'a>, Ceiling), Failure> {
        let gpu = &clock.gpu;
        let limits = gpu.device.limits();
        // A whole number of vectors for every workgroup of every shape.
        let size = (bytes / 2)
            .next_multiple_of(COPY_UNIT)
            .min(limits.max_storage_buffer_binding_size / COPY_UNIT * COPY_UNIT)
            .min(limits.max_buffer_size / COPY_UNIT * COPY_UNIT);
        let source = empty_buffer(gpu, "source", size)?;
        let target = empty_buffer(gpu, "target", size)?;
        let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("copy"),
            layout: &self.layout,
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: source.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: target.as_entire_binding() },
            ],
        });
        let mut run = CopyRun { clock, size, bind_group, best: [None, None] };
        let (mut copies, mut wide, mut sum) = (Vec::new(), None, 0.0f64);
        let mut most = [0.0f64; 2];
        for (shape, pipeline) in &self.shaders {
            let took = median_run(testing, &|runs| run.passes(shape, pipeline, runs))?;
            let rate = run.rate(shape, took);
            if shape.wide {
                wide = Some(wide.unwrap_or(0.0f64).max(rate));
                continue;
            }
            let which = usize::from(shape.sums);
            if rate > most[which] {
                most[which] = rate;
                run.best[which] = Some((*shape, pipeline));
            }
            match shape.sums {
                true => sum = sum.max(rate),
                false => copies.push((*shape, rate)),
            }
        }
        let took = median_run(testing, &|runs| {
            clock.commands(runs, &|encoder| encoder.copy_buffer_to_buffer(&source, 0, &target, 0, size))
        })?;
        let buffer_to_buffer = (2 * size) as f64 / took.as_secs_f64() / 1e9;
        Ok((run, Ceiling { copies, wide, sum, buffer_to_buffer }))
    }
}

/// The copies of one size.
pub struct CopyRun<'a> {
    clock: &'a Clock,
    size: u64,
    bind_group: wgpu::BindGroup,
    /// The best that copies, and the best that sums.
    best: [Option<(CopyShape, &'a wgpu::ComputePipeline)>; 2],
}

impl CopyRun<'_> {
    fn passes(
        &self,
        shape: &CopyShape,
        pipeline: &wgpu::ComputePipeline,
        runs: u64,
    ) -> Result<Took, Failure> {
        let groups = self.size / shape.vector_bytes() / u64::from(shape.workgroup_size * shape.vectors);
        let (x, y) = grid_of(groups, self.clock.gpu.device.limits().max_compute_workgroups_per_dimension);
        self.clock.passes(runs, &|pass| {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &self.bind_group, &[]);
            pass.dispatch_workgroups(x, y, 1);
        })
    }

    fn rate(&self, shape: &CopyShape, took: Duration) -> f64 {
        (shape.moved() * self.size) as f64 / took.as_secs_f64() / 1e9
    }

    /// GB/s of the best again, of the copies or the sums.
    pub fn again(&self, sums: bool) -> Result<f64, Failure> {
        let (shape, pipeline) = self.best[usize::from(sums)].ok_or("no copy was measured")?;
        Ok(self.rate(&shape, sample(&|runs| self.passes(&shape, pipeline, runs))?))
    }
}

/// Bytes that every shape of copy cuts into whole workgroups.
const COPY_UNIT: u64 = 256 * 4 * 16;

/// Two dimensions, the second where the first one's limit is passed.
fn grid_of(groups: u64, limit: u32) -> (u32, u32) {
    wgpu_cross_entropy::wgsl::grid(groups, limit)
}

#[allow(
    unsafe_code,
    reason = "the crate's own shaders run unchecked, and so must what they are compared with"
)]
fn copy_pipeline(gpu: &Gpu, layout: &wgpu::BindGroupLayout, shape: &CopyShape) -> wgpu::ComputePipeline {
    let label = Some("copy");
    let descriptor =
        wgpu::ShaderModuleDescriptor { label, source: wgpu::ShaderSource::Wgsl(shape.text().into()) };
    // SAFETY: every index is below the length of the source, which the copy checks, and the target is as long; there is
    // no loop.
    let module = unsafe {
        gpu.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
    };
    let pipeline_layout = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label,
        bind_group_layouts: &[Some(layout)],
        immediate_size: 0,
    });
    gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label,
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &[("WORKGROUP_SIZE", f64::from(shape.workgroup_size))],
            ..Default::default()
        },
        cache: None,
    })
}

/// The median time of a run, of five samples of at least 10 ms. The first run, which zero-fills, does not count; under
/// `cargo test` it is the only one.
pub fn median_run(
    testing: bool,
    measure: &dyn Fn(u64) -> Result<Took, Failure>,
) -> Result<Duration, Failure> {
    let first = measure(1)?;
    if testing {
        return Ok(first.best());
    }
    let once = measure(1)?.wall.as_secs_f64();
    let runs = (LONG_ENOUGH.as_secs_f64() / once.max(1e-6)).ceil().clamp(1.0, PASSES as f64) as u64;
    let mut samples = Vec::new();
    for _ in 0..5 {
        samples.push(measure(runs)?.best().div_f64(runs as f64));
    }
    Ok(median(samples, Duration::cmp))
}

/// The one in the middle.
pub fn median<T: Copy>(mut samples: Vec<T>, order: impl FnMut(&T, &T) -> std::cmp::Ordering) -> T {
    samples.sort_by(order);
    samples[samples.len() / 2]
}

/// A run's time by one sample of at least 10 ms.
pub fn sample(measure: &dyn Fn(u64) -> Result<Took, Failure>) -> Result<Duration, Failure> {
    let once = measure(1)?.wall.as_secs_f64();
    let runs = (LONG_ENOUGH.as_secs_f64() / once.max(1e-6)).ceil().clamp(1.0, PASSES as f64) as u64;
    Ok(measure(runs)?.best().div_f64(runs as f64))
}

/// A wall-clock time that says something: waking up after a submission takes tenths of a millisecond.
pub const LONG_ENOUGH: Duration = Duration::from_millis(10);

/// How the kernel goes about it, in a few characters.
pub fn strategy_of(config: &Config, stage: Stage) -> String {
    let variant = config.variant_of(stage);
    if !stage.reads_logits() {
        return format!("groups of {}", variant.workgroup_size);
    }
    let strategy = match variant.strategy {
        Strategy::Thread => "thread",
        Strategy::Tile => "tile",
        Strategy::Group => "group",
        Strategy::Resident => "resident",
        Strategy::Streaming => "streaming",
        Strategy::Split => "split",
    };
    let group = match variant.strategy {
        Strategy::Group => format!("/{}", variant.lanes()),
        Strategy::Split => format!("*{}", variant.splits),
        _ => String::new(),
    };
    let subgroups = if variant.subgroups { " subgroup" } else { "" };
    let element = match (variant.element, variant.wide) {
        (Element::F32x4, true) => " x2x2",
        (Element::F32x4, false) => " x4",
        (Element::F32x8, _) => " x2x4",
        _ => "",
    };
    format!("{strategy} {}{group}{subgroups}{element} k{}", variant.workgroup_size, variant.blocks)
}
