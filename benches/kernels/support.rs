//! What the benches share: the shapes, the data, the clock, the copies to compare with, and the table at the end.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use wgpu_cross_entropy::tolerance::Worst;
use wgpu_cross_entropy::wgsl::{Element, Stage, Strategy};
use wgpu_cross_entropy::{Bound, Config, Gpu, Options, READ_TIMEOUT, Shape, Spec, read};

use crate::data::{CASES, Case, at_most, name_of};
pub use crate::data::{Data, traffic};

/// Whatever keeps a kernel from being timed, in words.
pub type Failure = Box<dyn Error>;

/// Samples that criterion takes of each kernel and shape: its least.
pub const SAMPLES: usize = 10;

/// The most logits of a batch on a CPU device: 16 MiB of them, four times a desktop's cache, a few hundredths of a
/// second a step.
const CPU_LOGITS: u64 = 1 << 22;
/// The most logits that are checked against the oracle, which takes microseconds a logit in a debug build; a row is
/// checked all the same where it has more.
const CHECKED_LOGITS: u64 = 1 << 17;
/// The most logits, and the most rows, under `cargo test`.
const TEST_LOGITS: u64 = 1 << 12;
/// What a kernel's bench is made of. One constant a module.
pub struct Kernel {
    /// The kernel's stem, which is the criterion group.
    pub stem: &'static str,
    /// The stage whose variant is shown.
    pub stage: Stage,
    /// Which of the table's shapes.
    pub takes: fn(&Shape) -> bool,
    /// Floor traffic: each byte that has to be read or written, once.
    pub bytes: fn(&Shape) -> u64,
    /// Compiles and binds the kernel for a batch.
    pub set_up: fn(&Gpu, &Data) -> Result<Ready, Failure>,
}

/// A kernel with a batch, ready to be timed and checked.
pub struct Ready {
    /// What it was planned from.
    pub config: Config,
    /// What has to run before, once.
    pub before: Vec<Bound>,
    /// What is timed.
    pub timed: Bound,
    /// Compares what `before` and one or more runs of `timed` left with the oracle.
    pub check: Check,
}

/// See [`Ready::check`].
pub type Check = Box<dyn Fn(&Gpu, &Data) -> Result<(), Failure>>;

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

    /// Plans for this batch, with the default options.
    pub fn config(&self, gpu: &Gpu, spec: &Spec) -> Result<Config, Failure> {
        Ok(Config::new(&gpu.device, spec, self.shape, &Options::default())?)
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
fn run(gpu: &Gpu, steps: &[&Bound]) -> Result<(), Failure> {
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

fn wait(gpu: &Gpu) -> Result<(), Failure> {
    gpu.device.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(READ_TIMEOUT) })?;
    Ok(())
}

/// What some runs took together.
#[derive(Clone, Copy, Debug, Default)]
struct Took {
    /// By timestamps; none where the device has none or they make no sense.
    gpu: Option<Duration>,
    /// From just before the submission until the device was done with it.
    wall: Duration,
}

impl Took {
    fn best(&self) -> Duration {
        self.gpu.unwrap_or(self.wall)
    }

    fn add(&mut self, other: &Self) {
        self.wall += other.wall;
        self.gpu = self.gpu.zip(other.gpu).map(|(a, b)| a + b);
    }
}

/// Passes of one submission: two timestamps each, and WebGPU allows 4,096 in a set.
const PASSES: u64 = 512;

/// Timestamps and wall clock.
struct Clock {
    gpu: Gpu,
    queries: Option<Queries>,
}

struct Queries {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    nanoseconds: f64,
}

impl Clock {
    fn new(gpu: &Gpu) -> Self {
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
    fn passes(&self, runs: u64, record: &dyn Fn(&mut wgpu::ComputePass<'_>)) -> Result<Took, Failure> {
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
    fn commands(&self, runs: u64, record: &dyn Fn(&mut wgpu::CommandEncoder)) -> Result<Took, Failure> {
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

/// Shaders that copy, and buffers to copy between.
struct Copies {
    layout: wgpu::BindGroupLayout,
    shaders: [(u32, wgpu::ComputePipeline); 2],
}

/// GB/s of the copies of one size; read and written bytes both count.
#[derive(Clone, Copy, Debug)]
struct Ceiling {
    workgroups_of_64: f64,
    workgroups_of_256: f64,
    buffer_to_buffer: f64,
}

impl Ceiling {
    fn best_shader(&self) -> f64 {
        self.workgroups_of_64.max(self.workgroups_of_256)
    }
}

impl Copies {
    #[allow(
        unsafe_code,
        reason = "the crate's own shaders run unchecked, and so must what they are compared with"
    )]
    fn new(gpu: &Gpu) -> Result<Self, Failure> {
        let label = Some("copy");
        let descriptor = wgpu::ShaderModuleDescriptor { label, ..wgpu::include_wgsl!("copy.wgsl") };
        // SAFETY: both indices are below the length of the source, and the target is as long; there is no loop.
        let module = unsafe {
            gpu.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
        };
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
            label,
            entries: &[entry(0, true), entry(1, false)],
        });
        let pipeline_layout = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let limit = gpu.device.limits().max_compute_invocations_per_workgroup;
        let shaders = [64, 256].map(|wanted: u32| {
            let size = wanted.min(limit);
            let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label,
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[("WORKGROUP_SIZE", f64::from(size))],
                    ..Default::default()
                },
                cache: None,
            });
            (size, pipeline)
        });
        Ok(Self { layout, shaders })
    }

    /// Copies half of `bytes`, which is read and written: in all, the bytes that a kernel moves. So a batch that fits a
    /// cache is compared with a copy that does.
    fn measure(&self, clock: &Clock, bytes: u64, testing: bool) -> Result<Ceiling, Failure> {
        let gpu = &clock.gpu;
        let limits = gpu.device.limits();
        let size = (bytes / 2)
            .next_multiple_of(16)
            .min(limits.max_storage_buffer_binding_size & !15)
            .min(limits.max_buffer_size & !15);
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
        let rate = |took: Duration| 2.0 * size as f64 / took.as_secs_f64() / 1e9;
        let mut shaders = [0.0; 2];
        for ((workgroup, pipeline), result) in self.shaders.iter().zip(&mut shaders) {
            let groups = (size / 16).div_ceil(u64::from(*workgroup)) as u32;
            let y = groups.div_ceil(limits.max_compute_workgroups_per_dimension);
            let x = groups.div_ceil(y);
            let took = median_run(testing, &|runs| {
                clock.passes(runs, &|pass| {
                    pass.set_pipeline(pipeline);
                    pass.set_bind_group(0, &bind_group, &[]);
                    pass.dispatch_workgroups(x, y, 1);
                })
            })?;
            *result = rate(took);
        }
        let took = median_run(testing, &|runs| {
            clock.commands(runs, &|encoder| encoder.copy_buffer_to_buffer(&source, 0, &target, 0, size))
        })?;
        Ok(Ceiling {
            workgroups_of_64: shaders[0],
            workgroups_of_256: shaders[1],
            buffer_to_buffer: rate(took),
        })
    }
}

/// The median time of a run, of five samples of at least 10 ms. The first run, which zero-fills, does not count; under
/// `cargo test` it is the only one.
fn median_run(testing: bool, measure: &dyn Fn(u64) -> Result<Took, Failure>) -> Result<Duration, Failure> {
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
    samples.sort();
    Ok(samples[samples.len() / 2])
}

/// A wall-clock time that says something: waking up after a submission takes tenths of a millisecond.
const LONG_ENOUGH: Duration = Duration::from_millis(10);

/// A line of the table at the end.
struct Line {
    kernel: &'static str,
    shape: String,
    strategy: String,
    median: Duration,
    by_timestamps: bool,
    bytes: u64,
    ceiling: Ceiling,
}

/// What unwinds out of criterion where a kernel is wrong or cannot run.
struct NotTimed;

/// One run of the benches on one adapter.
pub struct Session {
    gpu: Gpu,
    clock: Clock,
    copies: Copies,
    testing: bool,
    lines: Vec<Line>,
    checked: usize,
    failures: Vec<String>,
}

impl Session {
    /// Prepares the clock and the copies.
    pub fn new(gpu: Gpu) -> Result<Self, Failure> {
        // Criterion's own rule: `cargo test` passes no `--bench`.
        let given = |wanted: &str| std::env::args().any(|argument| argument == wanted);
        let testing = given("--test") || !given("--bench");
        let (clock, copies) = (Clock::new(&gpu), Copies::new(&gpu)?);
        Ok(Self { clock, copies, gpu, testing, lines: Vec::new(), checked: 0, failures: Vec::new() })
    }

    /// The shape that stands for a case here, and what to say where it is another.
    fn shape_here(&self, case: &Case, stage: Stage) -> (Shape, Option<&'static str>) {
        let limits = self.gpu.device.limits();
        let cpu = self.gpu.info.device_type == wgpu::DeviceType::Cpu;
        let mut shape = case.shape;
        let mut why = None;
        let mut cut = |logits: u64, reason| {
            let smaller = at_most(shape, logits);
            if smaller != shape {
                (shape, why) = (smaller, Some(reason));
            }
        };
        if stage.reads_logits() {
            cut(limits.max_buffer_size / 4, "max_buffer_size");
            if cpu {
                cut(CPU_LOGITS, "a CPU device");
            }
            if self.testing {
                cut(TEST_LOGITS, "a test");
            }
        } else if self.testing {
            shape.rows = shape.rows.min(TEST_LOGITS as u32);
        }
        (shape, why)
    }

    /// Checks and times a kernel at each of its shapes that the command line selects.
    pub fn bench(&mut self, criterion: &mut Criterion, kernel: &Kernel) {
        let mut group = criterion.benchmark_group(kernel.stem);
        group.sampling_mode(SamplingMode::Flat);
        for case in CASES.iter().filter(|case| (kernel.takes)(&case.shape)) {
            let (shape, cut) = self.shape_here(case, kernel.stage);
            let bytes = (kernel.bytes)(&shape);
            group.throughput(Throughput::Bytes(bytes));
            // The adapter is part of the name: criterion compares with the last run of the same name.
            let id = BenchmarkId::new(name_of(&shape), self.adapter());
            // Made when criterion first calls, which it does not where a filter says so. Outside of `iter_custom`, whose
            // time tells criterion how often to repeat.
            let mut timing: Option<Result<Timing, Failure>> = None;
            let ran = catch_unwind(AssertUnwindSafe(|| {
                group.bench_function(id, |bencher| {
                    let made = timing.get_or_insert_with(|| {
                        if !self.testing {
                            self.announce(case, &shape, cut);
                        }
                        self.prepare(kernel, shape)
                    });
                    bencher.iter_custom(|runs| {
                        let took = made.as_mut().ok().map(|timing| timing.take(&self.clock, runs));
                        match took {
                            Some(Ok(took)) => return took,
                            Some(Err(error)) => *made = Err(error),
                            None => {}
                        }
                        // Unwinding is the only way out of criterion without a time, which it would print, and keep to
                        // compare the next run with.
                        resume_unwind(Box::new(NotTimed))
                    });
                });
            }));
            if let Err(payload) = ran
                && !payload.is::<NotTimed>()
            {
                resume_unwind(payload);
            }
            let Some(made) = timing else { continue };
            let name = format!("{}/{}", kernel.stem, name_of(&shape));
            let line = made.and_then(|timing| {
                if !self.testing {
                    timing.cross_check(&name);
                }
                let (median, by_timestamps) = timing.median();
                let strategy = strategy_of(&timing.ready.config, kernel.stage);
                let shape = name_of(&shape);
                // The copies may need the memory.
                drop(timing);
                // Right after the kernel, for a shared machine changes from second to second. Under `cargo test` too,
                // so that the copies are known to run.
                let ceiling = self.copies.measure(&self.clock, bytes, self.testing)?;
                Ok(Line { kernel: kernel.stem, shape, strategy, median, by_timestamps, bytes, ceiling })
            });
            match line {
                Ok(line) => {
                    self.checked += 1;
                    self.lines.push(line);
                }
                Err(error) => {
                    println!("\n{name}: NOT TIMED: {error}");
                    self.failures.push(format!("{name}: {error}"));
                }
            }
        }
        group.finish();
    }

    /// Says what is timed and why, and where the shape is not the table's.
    fn announce(&self, case: &Case, shape: &Shape, cut: Option<&str>) {
        let here = match cut {
            Some(reason) => format!("; here {}, for {reason}", name_of(shape)),
            None => String::new(),
        };
        println!("\n{}: {}{here}", name_of(&case.shape), case.why);
    }

    /// Sets up a kernel, checked: at the shape itself, or, where the oracle would take too long over its logits, at
    /// fewer rows of the same classes, planned in the same variant.
    fn prepare(&self, kernel: &Kernel, shape: Shape) -> Result<Timing, Failure> {
        let set_up = |shape| -> Result<(Ready, Data), Failure> {
            let data = Data::new(shape);
            let ready = (kernel.set_up)(&self.gpu, &data)?;
            // The first use of a buffer zero-fills it, and some drivers compile at the first dispatch: neither is
            // timed.
            run(&self.gpu, &ready.before.iter().collect::<Vec<_>>())?;
            run(&self.gpu, &[&ready.timed])?;
            Ok((ready, data))
        };
        let small = if kernel.stage.reads_logits() { at_most(shape, CHECKED_LOGITS) } else { shape };
        let (checked, data) = set_up(small)?;
        (checked.check)(&self.gpu, &data)?;
        if small == shape {
            return Ok(Timing::new(checked));
        }
        let (ready, _) = set_up(shape)?;
        if ready.config.variant() != checked.config.variant() {
            return Err("the variant that was checked is not the one to be timed".into());
        }
        if !self.testing {
            println!("checked against the oracle at {}, in the same variant", name_of(&small));
        }
        Ok(Timing::new(ready))
    }

    /// Back end and name, short.
    fn adapter(&self) -> String {
        let info = &self.gpu.info;
        let name: String = info.name.split(" (").next().unwrap_or_default().to_lowercase();
        let name: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        format!("{}-{}", info.backend, name.trim_matches('-'))
    }

    /// Prints the table. Fails where a kernel did.
    pub fn finish(self) -> ExitCode {
        // Nothing was checked where a tool only lists the benches; it reads what is printed then.
        if self.testing && self.checked > 0 {
            println!("{} kernels and shapes are as the oracle says", self.checked);
        }
        if !self.testing && !self.lines.is_empty() {
            self.print_table();
        }
        for failure in &self.failures {
            eprintln!("FAILED {failure}");
        }
        if self.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn print_table(&self) {
        println!("\n{}", self.gpu.describe());
        if self.gpu.info.device_type == wgpu::DeviceType::Cpu {
            println!(
                "a CPU: only the ratios within this table mean something, and a buffer copy is a memcpy"
            );
        }
        println!(
            "GB/s of floor traffic; copies of as many bytes: a shader in workgroups of 64 and 256, a buffer copy"
        );
        println!("ms by GPU timestamps; with a w, by the wall clock, as are buffer copies");
        println!(
            "{:<22} {:>16} {:<24} {:>10} {:>8} {:>8} {:>9} {:>9} {:>9}",
            "kernel", "shape", "strategy", "ms", "GB/s", "of copy", "copy 64", "copy 256", "buffer"
        );
        for line in &self.lines {
            let rate = line.bytes as f64 / line.median.as_secs_f64().max(1e-12) / 1e9;
            println!(
                "{:<22} {:>16} {:<24} {:>9.3}{} {:>8.2} {:>7.0}% {:>9.2} {:>9.2} {:>9.2}",
                line.kernel,
                line.shape,
                line.strategy,
                line.median.as_secs_f64() * 1e3,
                if line.by_timestamps { ' ' } else { 'w' },
                rate,
                100.0 * rate / line.ceiling.best_shader(),
                line.ceiling.workgroups_of_64,
                line.ceiling.workgroups_of_256,
                line.ceiling.buffer_to_buffer,
            );
        }
    }
}

/// How the kernel goes about it, in a few characters.
fn strategy_of(config: &Config, stage: Stage) -> String {
    let variant = config.variant_of(stage);
    if !stage.reads_logits() {
        return format!("groups of {}", variant.workgroup_size);
    }
    let strategy = match variant.strategy {
        Strategy::Thread => "thread",
        Strategy::Workgroup => "workgroup",
    };
    let subgroups = if variant.subgroups { " subgroup" } else { "" };
    let element = if variant.element == Element::F32x4 { " x4" } else { "" };
    format!("{strategy} {}{subgroups}{element}", variant.workgroup_size)
}

/// A kernel that was found right, and the times it took.
struct Timing {
    ready: Ready,
    samples: Vec<(u64, Took)>,
}

impl Timing {
    fn new(ready: Ready) -> Self {
        Self { ready, samples: Vec::new() }
    }

    fn take(&mut self, clock: &Clock, runs: u64) -> Result<Duration, Failure> {
        let took = clock.passes(runs, &|pass| self.ready.timed.encode(pass))?;
        self.samples.push((runs, took));
        Ok(took.best())
    }

    /// The samples proper: what came before them was criterion's warming up.
    fn samples(&self) -> &[(u64, Took)] {
        &self.samples[self.samples.len().saturating_sub(SAMPLES)..]
    }

    /// Time of a run, and whether it is by timestamps.
    fn median(&self) -> (Duration, bool) {
        let mut times: Vec<Duration> =
            self.samples().iter().map(|(runs, took)| took.best().div_f64(*runs as f64)).collect();
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        (median, self.samples().iter().all(|(_, took)| took.gpu.is_some()))
    }

    /// Says where timestamps and wall clock disagree by more than a twentieth, over samples that are long enough.
    fn cross_check(&self, name: &str) {
        let (mut runs, mut wall, mut gpu) = (0, Duration::ZERO, Duration::ZERO);
        for (of_sample, took) in self.samples() {
            if let (Some(by_gpu), true) = (took.gpu, took.wall >= LONG_ENOUGH) {
                (runs, wall, gpu) = (runs + of_sample, wall + took.wall, gpu + by_gpu);
            }
        }
        if runs == 0 {
            return;
        }
        let apart = wall.as_secs_f64() / gpu.as_secs_f64() - 1.0;
        if apart.abs() > 0.05 {
            let (wall, gpu) = (wall.div_f64(runs as f64), gpu.div_f64(runs as f64));
            println!(
                "{name}: {gpu:.1?} by timestamps, {wall:.1?} by the wall clock ({:+.0} %)",
                apart * 100.0
            );
        }
    }
}
