//! What the benches share: the shapes, the data, the clock, the copies to compare with, and the table at the end.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use wgpu_cross_entropy::wgsl::Stage;
use wgpu_cross_entropy::{Bound, Config, Gpu, Options, Shape};

pub use crate::data::{Case, Data, at_most, distinct, name_of, traffic};
pub use crate::measure::{
    CHECKED_LOGITS, CPU_LOGITS, Ceiling, Clock, Copies, Failure, LONG_ENOUGH, TEST_LOGITS, Took,
    empty_buffer, full_buffer, read_words, run, strategy_of, within,
};

/// Samples that criterion takes of each kernel and shape: its least.
pub const SAMPLES: usize = 10;

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
        for (case, shape) in distinct(|case| self.shape_here(case, kernel.stage).0) {
            if !(kernel.takes)(&case.shape) {
                continue;
            }
            let cut = self.shape_here(case, kernel.stage).1;
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
        let set_up = |shape, options| -> Result<(Ready, Data), Failure> {
            let data = Data::new(shape).with(options);
            let ready = (kernel.set_up)(&self.gpu, &data)?;
            // The first use of a buffer zero-fills it, and some drivers compile at the first dispatch: neither is
            // timed.
            run(&self.gpu, &ready.before.iter().collect::<Vec<_>>())?;
            run(&self.gpu, &[&ready.timed])?;
            Ok((ready, data))
        };
        let small = if kernel.stage.reads_logits() { at_most(shape, CHECKED_LOGITS) } else { shape };
        let (ready, data) = set_up(shape, Options::default())?;
        if small == shape {
            (ready.check)(&self.gpu, &data)?;
            return Ok(Timing::new(ready));
        }
        let (checked, data) = set_up(small, ready.config.pinned())?;
        (checked.check)(&self.gpu, &data)?;
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
            "GB/s of floor traffic; beside it, for as many bytes, the best WGSL copy, a WGSL sum that only reads, and a buffer copy"
        );
        println!("ms by GPU timestamps; with a w, by the wall clock, as are buffer copies");
        println!(
            "{:<22} {:>16} {:<24} {:>10} {:>8} {:>8} {:>9} {:>9} {:>9}",
            "kernel", "shape", "strategy", "ms", "GB/s", "of copy", "copy", "sum", "buffer"
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
                line.ceiling.best_shader(),
                line.ceiling.sum,
                line.ceiling.buffer_to_buffer,
            );
        }
    }
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
