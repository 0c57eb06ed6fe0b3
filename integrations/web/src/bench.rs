//! The bench: each kernel checked against the oracle, then timed beside a plain copy of as many bytes, on the shapes of
//! the native benches, cut to what this device does in a moment.

use std::collections::HashMap;
use std::error::Error;

use serde::Serialize;
use serde_json::json;
use wasm_bindgen::prelude::*;
use wgpu_cross_entropy::kernels::{
    ClassCountsBuffers, ClassCountsKernel, CrossEntropyBackwardBuffers, CrossEntropyBackwardKernel,
    CrossEntropyForwardBuffers, CrossEntropyForwardKernel, DenominatorBuffers, DenominatorKernel,
    TableLayout,
};
use wgpu_cross_entropy::tolerance::{Worst, tolerances};
use wgpu_cross_entropy::wgsl::{Element, Stage};
use wgpu_cross_entropy::{
    Batch, Bound, Config, CrossEntropy, Dtype, Gpu, Options, Shape, Spec, Targets, WeightScheme, cpu, read,
};

use crate::batch::{Data, at_most, distinct, name_of, traffic};
use crate::copy::CopyShape;

type Failure = Box<dyn Error>;

#[wasm_bindgen]
extern "C" {
    /// Milliseconds since the page was opened.
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn now() -> f64;
}

/// Samples of each kernel and shape; the median counts.
const SAMPLES: usize = 5;
/// A sample is at least this long, in ms: a browser's clocks tick in tenths of one.
const SAMPLE_MS: f64 = 25.0;
/// The most runs in one sample.
const MOST_RUNS: u32 = 4096;
/// The most logits that are checked against the oracle; a row is checked all the same where it has more.
const CHECKED_LOGITS: u64 = 1 << 14;
/// Words of the copy that tells how large a batch may be.
const PROBE_WORDS: u64 = 1 << 20;
/// How long one run may take, in ms, were it as fast as a copy. On CPUs, where a kernel is far from that, less.
const RUN_MS: f64 = 20.0;
const CPU_RUN_MS: f64 = 1.5;

/// A kernel that is timed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kernel {
    CrossEntropy,
    Forward,
    Backward,
    ClassCounts,
}

impl Kernel {
    fn stage(self) -> Stage {
        match self {
            Self::CrossEntropy => Stage::CrossEntropy,
            Self::Forward => Stage::CrossEntropyForward,
            Self::Backward => Stage::CrossEntropyBackward,
            Self::ClassCounts => Stage::ClassCountsDirect,
        }
    }

    fn stem(self) -> &'static str {
        match self {
            Self::CrossEntropy => "cross_entropy",
            Self::Forward => "cross_entropy_forward",
            Self::Backward => "cross_entropy_backward",
            Self::ClassCounts => "class_counts",
        }
    }

    /// Floor traffic, as in the bench of the same name in `benches/kernels`: each byte read or written, once.
    fn bytes(self, shape: &Shape, dtype: Dtype) -> u64 {
        let (rows, classes) = (u64::from(shape.rows), u64::from(shape.classes));
        match self {
            Self::CrossEntropy => traffic(shape, 2 * dtype.bytes(), 8),
            Self::Forward => traffic(shape, dtype.bytes(), 40),
            Self::Backward => rows * classes * 2 * dtype.bytes() + rows * 36,
            Self::ClassCounts => rows * 4 + classes * 4,
        }
    }

    /// What is timed of it: all shapes in `f32`, and the fused kernel in 16 bits where those can be had.
    fn takes(self, shape: &Shape, dtype: Dtype) -> bool {
        match self {
            Self::CrossEntropy => {
                dtype == Dtype::F32 || (shape.inner == 1 && shape.row_stride.is_multiple_of(2))
            }
            Self::Forward | Self::Backward => dtype == Dtype::F32,
            // Labels alone: beyond a few classes all shapes are alike.
            Self::ClassCounts => dtype == Dtype::F32 && shape.inner == 1 && shape.classes <= 256,
        }
    }
}

const KERNELS: [Kernel; 4] = [Kernel::CrossEntropy, Kernel::Forward, Kernel::Backward, Kernel::ClassCounts];
const DTYPES: [Dtype; 2] = [Dtype::F32, Dtype::F16];

/// One line of the table to be.
#[derive(Clone, Copy, Debug)]
struct Run {
    kernel: Kernel,
    shape: Shape,
    dtype: Dtype,
    why: &'static str,
}

/// A line of the table, in the form that the native report reads.
#[derive(Clone, Debug, Serialize)]
struct Line {
    kernel: &'static str,
    shape: String,
    rows: u32,
    classes: u32,
    dtype: &'static str,
    strategy: String,
    ms: f64,
    gbps: f64,
    ceiling_fraction: f64,
    dispatches: usize,
}

/// A bench of one device.
#[wasm_bindgen]
pub struct Bench {
    gpu: Gpu,
    clock: Clock,
    copies: Copies,
    runs: Vec<Run>,
    /// By their bytes, as far as they have been measured.
    ceilings: HashMap<u64, Ceiling>,
    lines: Vec<Line>,
}

#[wasm_bindgen]
impl Bench {
    /// Measures a small copy, and cuts the shapes to what the device copies in a moment, and to `most_logits`.
    pub async fn open(device: &crate::Device, most_logits: u32) -> Result<Bench, JsError> {
        let gpu = device.gpu.clone();
        let (clock, copies) = (Clock::new(&gpu), Copies::new(&gpu));
        let (source, target) = (words(&gpu, PROBE_WORDS), words(&gpu, PROBE_WORDS));
        let rate = copies.measure(&gpu, &clock, &source, &target, PROBE_WORDS * 4).await;
        source.destroy();
        target.destroy();
        let ms = if device.is_cpu() { CPU_RUN_MS } else { RUN_MS };
        let affordable = rate.map_err(text)?.copy * 1e6 * ms / 8.0;
        let logits = u64::from(most_logits).min((affordable as u64).max(1 << 16));
        let mut runs = Vec::new();
        for kernel in KERNELS {
            for dtype in DTYPES {
                let cases = distinct(|case| at_most(case.shape, logits));
                let taken = cases.into_iter().filter(|(_, shape)| kernel.takes(shape, dtype));
                runs.extend(taken.map(|(case, shape)| Run { kernel, shape, dtype, why: case.why }));
            }
        }
        Ok(Self { gpu, clock, copies, runs, ceilings: HashMap::new(), lines: Vec::new() })
    }

    /// How many lines the table will have.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// What a run times, in a few words, and why the shape is there: `[kernel, shape, dtype, why]`.
    pub fn title(&self, index: usize) -> Vec<String> {
        self.runs.get(index).map_or_else(Vec::new, |run| {
            [run.kernel.stem(), &name_of(&run.shape), name_of_dtype(run.dtype), run.why]
                .map(str::to_owned)
                .to_vec()
        })
    }

    /// Checks and times one: its line as JSON. A kernel that is wrong is not timed, and is an error.
    pub async fn run(&mut self, index: usize) -> Result<String, JsError> {
        let run = *self.runs.get(index).ok_or_else(|| JsError::new("there is no such run"))?;
        let line = self.measure(run).await.map_err(text)?;
        let json = serde_json::to_string(&line)?;
        self.lines.push(line);
        Ok(json)
    }

    /// All lines so far in the form that `report --compare` reads.
    pub fn report(&self, adapter: &str) -> String {
        let ceiling = self.ceilings.values().map(|ceiling| ceiling.copy).fold(0.0, f64::max);
        json!({ "adapter": adapter, "ceiling_gbps": ceiling, "results": self.lines }).to_string()
    }
}

impl Bench {
    async fn measure(&mut self, run: Run) -> Result<Line, Failure> {
        let options = Options { dtype: run.dtype, ..Options::default() };
        let ready = Ready::new(&self.gpu, run.kernel, run.shape, options)?;
        let checked = self.check(&run, &ready.config).await;
        if checked.is_err() {
            ready.destroy();
        }
        checked?;
        let timed = self.time(&run, &ready).await;
        ready.destroy();
        timed
    }

    /// Checks a kernel at few rows, in the variant that is to be timed.
    async fn check(&self, run: &Run, timed: &Config) -> Result<(), Failure> {
        let shape = at_most(run.shape, CHECKED_LOGITS);
        let small = Ready::new(&self.gpu, run.kernel, shape, timed.pinned())?;
        let checked = small.check(&self.gpu).await;
        small.destroy();
        if timed.variant() != small.config.variant() {
            return Err("the variant that was checked is not the one to be timed".into());
        }
        checked
    }

    async fn time(&mut self, run: &Run, ready: &Ready) -> Result<Line, Failure> {
        let bytes = ready.logits.size();
        let ceiling = match self.ceilings.get(&bytes) {
            Some(ceiling) => *ceiling,
            None => {
                let (source, target) = (&ready.logits, &ready.grads);
                let ceiling = self.copies.measure(&self.gpu, &self.clock, source, target, bytes).await?;
                self.ceilings.insert(bytes, ceiling);
                ceiling
            }
        };
        self.clock.once(&self.gpu, &|pass| ready.before.iter().for_each(|bound| bound.encode(pass))).await?;
        let ms = self.clock.median(&self.gpu, &|pass| ready.timed.encode(pass)).await?;
        let gbps = run.kernel.bytes(&run.shape, run.dtype) as f64 / ms / 1e6;
        Ok(Line {
            kernel: run.kernel.stem(),
            shape: name_of(&run.shape),
            rows: run.shape.rows,
            classes: run.shape.classes,
            dtype: name_of_dtype(run.dtype),
            strategy: strategy_of(&ready.config, run.kernel.stage()),
            ms,
            gbps,
            // What only reads is held against what only reads.
            ceiling_fraction: gbps / if run.kernel == Kernel::Forward { ceiling.sum } else { ceiling.copy },
            dispatches: ready.timed.dispatches(),
        })
    }
}

/// How the kernel goes about it, in a few characters.
fn strategy_of(config: &Config, stage: Stage) -> String {
    let variant = config.variant_of(stage);
    if !stage.reads_logits() {
        return format!("groups of {}", variant.workgroup_size);
    }
    let strategy = format!("{:?}", variant.strategy).to_lowercase();
    let element = match (variant.element, variant.wide) {
        (Element::F32x4, true) => " x2x2",
        (Element::F32x4, false) => " x4",
        (Element::F32x8, _) => " x2x4",
        _ => "",
    };
    format!("{strategy} {}{element}", variant.workgroup_size)
}

fn name_of_dtype(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "f32",
        Dtype::F16 => "f16",
        Dtype::Bf16 => "bf16",
    }
}

fn text(error: Failure) -> JsError {
    JsError::new(&error.to_string())
}

/// A kernel with a batch, ready to be checked or timed.
struct Ready {
    kernel: Kernel,
    config: Config,
    data: Data,
    logits: wgpu::Buffer,
    grads: wgpu::Buffer,
    row_losses: wgpu::Buffer,
    class_counts: wgpu::Buffer,
    /// All of the above and the rest, to be freed at once: a page's garbage collector takes its time.
    buffers: Vec<wgpu::Buffer>,
    before: Vec<Bound>,
    timed: Bound,
    plan: Option<CrossEntropy>,
}

impl Ready {
    fn new(gpu: &Gpu, kernel: Kernel, shape: Shape, options: Options) -> Result<Self, Failure> {
        let data = Data::new(shape);
        let spec = match kernel {
            Kernel::ClassCounts => Spec { class_weights: WeightScheme::Balanced.into(), ..Spec::default() },
            _ => Spec { class_weights: data.class_weights(), ..Spec::default() },
        };
        let dtype = options.dtype;
        let rows = u64::from(shape.rows);
        // Labels alone want no logits; half of their bytes then lie there for the copy.
        let counts_only = kernel == Kernel::ClassCounts;
        let logit_words =
            if counts_only { rows.div_ceil(2) } else { (shape.logits_len() * dtype.bytes()).div_ceil(4) };
        let logits = words(gpu, logit_words);
        if !counts_only {
            let period = dtype.encode(&data.logits_of_period());
            for at in (0..logits.size()).step_by(period.len()) {
                let part = (logits.size() - at).min(period.len() as u64) as usize;
                gpu.queue.write_buffer(&logits, at, &period[..part]);
            }
        }
        let labels = words(gpu, rows);
        gpu.queue.write_buffer(&labels, 0, bytemuck::cast_slice(&data.labels));
        let grads = words(gpu, logit_words);
        let row_losses = words(gpu, rows);
        let class_counts = words(gpu, u64::from(shape.classes));
        let mut buffers =
            vec![logits.clone(), labels.clone(), grads.clone(), row_losses.clone(), class_counts.clone()];
        let whole = wgpu::Buffer::as_entire_buffer_binding;
        let (config, before, timed, plan);
        match kernel {
            Kernel::CrossEntropy => {
                let of_shape = CrossEntropy::new(&gpu.device, &spec, shape, &options)?;
                let step = of_shape.bind(
                    &gpu.device,
                    &Batch {
                        logits: whole(&logits),
                        targets: whole(&labels),
                        sample_weights: None,
                        grad_out: None,
                        external_denominator: None,
                        logit_grads: Some(whole(&grads)),
                    },
                )?;
                config = of_shape.config().clone();
                (before, timed) = (vec![step.denominator], step.cross_entropy);
                plan = Some(of_shape);
            }
            Kernel::Forward | Kernel::Backward => {
                config = Config::new(&gpu.device, &spec, shape, &options)?;
                plan = None;
                let initial = TableLayout::new(&spec, &shape).initial(&spec);
                let table = words(gpu, initial.len() as u64 / 4);
                gpu.queue.write_buffer(&table, 0, &initial);
                let partials = words(gpu, DenominatorKernel::partials_size(Targets::Labels, shape.rows) / 4);
                let row_stats = words(gpu, rows * CrossEntropyForwardKernel::ROW_STATS_SIZE / 4);
                let denominator = DenominatorKernel::new(&gpu.device, &config)?.bind(
                    &gpu.device,
                    &DenominatorBuffers {
                        targets: whole(&labels),
                        sample_weights: None,
                        external_denominator: None,
                        partials: whole(&partials),
                        table: whole(&table),
                    },
                )?;
                let forward = CrossEntropyForwardKernel::new(&gpu.device, &config)?.bind(
                    &gpu.device,
                    &CrossEntropyForwardBuffers {
                        logits: whole(&logits),
                        targets: whole(&labels),
                        sample_weights: None,
                        row_losses: whole(&row_losses),
                        row_stats: whole(&row_stats),
                        table: whole(&table),
                    },
                )?;
                let backward = CrossEntropyBackwardKernel::new(&gpu.device, &config)?.bind(
                    &gpu.device,
                    &CrossEntropyBackwardBuffers {
                        logits: whole(&logits),
                        targets: whole(&labels),
                        grad_out: None,
                        logit_grads: Some(whole(&grads)),
                        row_stats: whole(&row_stats),
                        table: whole(&table),
                    },
                )?;
                (before, timed) = match kernel {
                    Kernel::Forward => (vec![denominator], forward),
                    _ => (vec![denominator, forward], backward),
                };
                buffers.extend([table, partials, row_stats]);
            }
            Kernel::ClassCounts => {
                config = Config::new(&gpu.device, &spec, shape, &options)?;
                plan = None;
                before = Vec::new();
                timed = ClassCountsKernel::new(&gpu.device, &config)?.bind(
                    &gpu.device,
                    &ClassCountsBuffers {
                        targets: whole(&labels),
                        sample_weights: None,
                        mass: None,
                        class_counts: whole(&class_counts),
                    },
                )?;
            }
        }
        Ok(Self {
            kernel,
            config,
            data,
            logits,
            grads,
            row_losses,
            class_counts,
            buffers,
            before,
            timed,
            plan,
        })
    }

    /// Compares what the kernel makes of its batch with the oracle.
    async fn check(&self, gpu: &Gpu) -> Result<(), Failure> {
        let logits = self.data.logits();
        let inputs = self.data.inputs(&logits);
        if let Some(plan) = &self.plan {
            // The plan's own pipelines, on buffers that it makes for the purpose.
            let found = plan.validate(&gpu.device, &gpu.queue, &inputs).await?;
            return if found.passed() { Ok(()) } else { Err(found.to_string().into()) };
        }
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            self.before.iter().chain([&self.timed]).for_each(|bound| bound.encode(&mut pass));
        }
        gpu.queue.submit([encoder.finish()]);
        let shape = self.config.shape();
        if self.kernel == Kernel::ClassCounts {
            let got: Vec<u32> = self.read(gpu, &self.class_counts, u64::from(shape.classes)).await?;
            let want = cpu::class_counts(self.config.spec(), shape, &self.data.labels);
            return match (0..want.len()).find(|&class| got[class] != want[class]) {
                Some(class) => Err(format!("class {class}: {} rows, not {}", got[class], want[class]).into()),
                None => Ok(()),
            };
        }
        let want = cpu::compute(self.config.spec(), shape, &inputs)?;
        let allowed = tolerances(&self.config, &inputs, &want);
        let worst = match self.kernel {
            Kernel::Forward => {
                let got: Vec<f32> = self.read(gpu, &self.row_losses, u64::from(shape.rows)).await?;
                Worst::of("row_losses", &got, &want.row_losses, &allowed.row_losses)
            }
            _ => {
                let got: Vec<f32> = self.read(gpu, &self.grads, shape.logits_len()).await?;
                Worst::of("logit_grads", &got, &want.logit_grads, &allowed.logit_grads)
            }
        };
        if worst.passed() { Ok(()) } else { Err(worst.to_string().into()) }
    }

    async fn read<T: bytemuck::Pod>(
        &self,
        gpu: &Gpu,
        buffer: &wgpu::Buffer,
        words: u64,
    ) -> Result<Vec<T>, Failure> {
        let bytes = read(&gpu.device, &gpu.queue, "result", buffer, words * 4).await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    fn destroy(&self) {
        self.buffers.iter().for_each(wgpu::Buffer::destroy);
    }
}

/// A storage buffer of so many words; whole vectors of four, for the copies.
fn words(gpu: &Gpu, words: u64) -> wgpu::Buffer {
    gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("bench"),
        size: (words.max(1) * 4).next_multiple_of(16),
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

/// What the best shader without arithmetic reaches, in GB/s.
#[derive(Clone, Copy, Debug)]
struct Ceiling {
    copy: f64,
    sum: f64,
}

/// The shaders without arithmetic: some of the shapes of the native bench.
struct Copies(Vec<(CopyShape, wgpu::ComputePipeline)>);

impl Copies {
    fn new(gpu: &Gpu) -> Self {
        let shapes = [(64, 1, false), (256, 1, false), (64, 4, true), (256, 4, true)];
        let pipelines = shapes.map(|(workgroup_size, vectors, sums)| {
            let shape = CopyShape::new(workgroup_size, vectors, sums);
            let label = Some("copy");
            let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label,
                source: wgpu::ShaderSource::Wgsl(shape.text().into()),
            });
            let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label,
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[("WORKGROUP_SIZE", f64::from(workgroup_size))],
                    ..Default::default()
                },
                cache: None,
            });
            (shape, pipeline)
        });
        Self(pipelines.into())
    }

    /// Over the first `bytes` of the buffers.
    async fn measure(
        &self,
        gpu: &Gpu,
        clock: &Clock,
        source: &wgpu::Buffer,
        target: &wgpu::Buffer,
        bytes: u64,
    ) -> Result<Ceiling, Failure> {
        let mut ceiling = Ceiling { copy: 0.0, sum: 0.0 };
        for (shape, pipeline) in &self.0 {
            let entries = [(0, source), (1, target)].map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: 0,
                    size: wgpu::BufferSize::new(bytes),
                }),
            });
            let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("copy"),
                layout: &pipeline.get_bind_group_layout(0),
                entries: &entries,
            });
            let groups =
                (bytes / shape.vector_bytes()).div_ceil(u64::from(shape.workgroup_size * shape.vectors));
            let (width, height) = wgpu_cross_entropy::wgsl::grid(groups, 65_535);
            let ms = clock
                .median(gpu, &|pass| {
                    pass.set_pipeline(pipeline);
                    pass.set_bind_group(0, &group, &[]);
                    pass.dispatch_workgroups(width, height, 1);
                })
                .await?;
            let best = if shape.sums { &mut ceiling.sum } else { &mut ceiling.copy };
            *best = best.max((shape.moved() * bytes) as f64 / ms / 1e6);
        }
        Ok(ceiling)
    }
}

/// Timestamps where the device has them, and the browser's clock.
struct Clock {
    /// Read after a submission: once it is here, the submission is over.
    token: wgpu::Buffer,
    queries: Option<(wgpu::QuerySet, wgpu::Buffer)>,
}

impl Clock {
    fn new(gpu: &Gpu) -> Self {
        let queries = gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY).then(|| {
            let set = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            });
            let resolved = gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: 16,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            (set, resolved)
        });
        Self { token: words(gpu, 1), queries }
    }

    /// One pass, not timed.
    async fn once(&self, gpu: &Gpu, record: &dyn Fn(&mut wgpu::ComputePass<'_>)) -> Result<(), Failure> {
        self.pass(gpu, 1, record).await.map(|_| ())
    }

    /// Milliseconds of a run: the median of some samples, each a pass of as many runs as make it long enough.
    async fn median(&self, gpu: &Gpu, record: &dyn Fn(&mut wgpu::ComputePass<'_>)) -> Result<f64, Failure> {
        // The first use of a buffer zero-fills it, and some drivers compile at the first dispatch.
        self.once(gpu, record).await?;
        let (mut runs, mut ms) = (1, self.pass(gpu, 1, record).await?);
        while ms < SAMPLE_MS && runs < MOST_RUNS {
            // A short sample overstates a run: go up by steps.
            let wanted = (f64::from(runs) * (1.2 * SAMPLE_MS / ms.max(0.01)).clamp(1.5, 16.0)).ceil();
            runs = (wanted as u32).min(MOST_RUNS);
            ms = self.pass(gpu, runs, record).await?;
        }
        let mut samples = vec![ms];
        while samples.len() < SAMPLES {
            samples.push(self.pass(gpu, runs, record).await?);
        }
        samples.sort_by(f64::total_cmp);
        Ok(samples[samples.len() / 2] / f64::from(runs))
    }

    /// Milliseconds of a pass of so many runs: by timestamps, unless they are missing or make no sense beside the
    /// browser's clock, which also sees the way there and back.
    async fn pass(
        &self,
        gpu: &Gpu,
        runs: u32,
        record: &dyn Fn(&mut wgpu::ComputePass<'_>),
    ) -> Result<f64, Failure> {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some("bench"),
                timestamp_writes: self.queries.as_ref().map(|(set, _)| wgpu::ComputePassTimestampWrites {
                    query_set: set,
                    beginning_of_pass_write_index: Some(0),
                    end_of_pass_write_index: Some(1),
                }),
            });
            (0..runs).for_each(|_| record(&mut pass));
        }
        let commands = encoder.finish();
        let began = now();
        gpu.queue.submit([commands]);
        read(&gpu.device, &gpu.queue, "token", &self.token, 4).await?;
        let wall = now() - began;
        let Some((set, resolved)) = &self.queries else { return Ok(wall) };
        // In a submission of its own: one driver gives zeros within the pass's.
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        encoder.resolve_query_set(set, 0..2, resolved, 0);
        gpu.queue.submit([encoder.finish()]);
        let bytes = read(&gpu.device, &gpu.queue, "timestamps", resolved, 16).await?;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&bytes);
        let by_gpu =
            ticks[1].saturating_sub(ticks[0]) as f64 * f64::from(gpu.queue.get_timestamp_period()) / 1e6;
        Ok(if by_gpu > 0.5 * wall && by_gpu <= wall * 1.05 { by_gpu } else { wall })
    }
}
