//! One table for a GPU: each shape, kernel and type of logits, timed beside copies of as many bytes in the same run.
//!
//! ```text
//! cargo bench --bench report                                    # the best adapter, every shape
//! cargo bench --bench report -- --adapter llvmpipe --quick      # a minute on a software device
//! cargo bench --bench report -- --out FOLDER                    # also report.json, report.svg and report.png
//! cargo bench --bench report -- --json                          # the last line is JSON
//! cargo bench --bench report -- --search                        # every strategy and workgroup size, against the table's
//! cargo bench --bench report -- --shape x1000 --kernel cross_entropy --dtype f32      # of that name
//! cargo bench --bench report -- --shape 512x3000                # a shape of one's own
//! cargo bench --bench report -- --strategy streaming --workgroup-size 64      # not the table's choice
//! cargo bench --bench report -- --linear                        # time a logit, at eight times the rows
//! cargo bench --bench report -- --compare a.json b.json         # several GPUs side by side
//! ```
//!
//! Nothing is timed that the oracle does not agree with first, in the same variant. Figures of two GPUs are comparable as
//! shares of their own copies.

#[path = "../kernels/cross_entropy_backward.rs"]
mod cross_entropy_backward;
#[path = "../kernels/cross_entropy_forward.rs"]
mod cross_entropy_forward;
#[path = "../kernels/data.rs"]
mod data;
mod fused;
#[path = "../measure/mod.rs"]
mod measure;
mod picture;
mod results;
#[path = "../kernels/support.rs"]
#[allow(dead_code, reason = "criterion's half is for the other bench")]
mod support;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use data::{Case, Data, at_most, name_of};
use measure::{
    CHECKED_LOGITS, CPU_LOGITS, Clock, Copies, CopyRun, Failure, median, median_run, run, strategy_of,
};
use results::{Machine, Report, Row};
use support::{Kernel, Ready};
use wgpu_cross_entropy::wgsl::{Stage, Strategy};
use wgpu_cross_entropy::{DeviceOptions, Dtype, Gpu, Options, Shape};

/// The most logits of a batch with `--quick`.
const QUICK_LOGITS: u64 = 1 << 20;
/// How often the strategies that are not far behind are timed in a search.
const SEARCH_TURNS: u32 = 12;
/// How often the best copy is timed, and after it the kernel.
const TURNS: u32 = 9;

/// What the command line asks for.
#[derive(Default)]
struct Wanted {
    adapter: Option<String>,
    out: Option<PathBuf>,
    quick: bool,
    json: bool,
    search: bool,
    linear: bool,
    compare: Vec<PathBuf>,
    shape: Option<String>,
    kernel: Option<String>,
    dtype: Option<String>,
    /// Other than the table's.
    options: Options,
    /// Not by `cargo bench`: nothing is timed.
    testing: bool,
}

impl Wanted {
    fn parse() -> Result<Self, Box<dyn Error>> {
        use lexopt::Arg::{Long, Value};
        use lexopt::ValueExt;
        let mut wanted = Self { testing: true, ..Self::default() };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("adapter") => wanted.adapter = Some(parser.value()?.string()?),
                Long("out") => wanted.out = Some(parser.value()?.into()),
                Long("shape") => wanted.shape = Some(parser.value()?.string()?),
                Long("kernel") => wanted.kernel = Some(parser.value()?.string()?),
                Long("dtype") => wanted.dtype = Some(parser.value()?.string()?),
                Long("strategy") => {
                    wanted.options.strategy = Some(strategy_named(&parser.value()?.string()?)?)
                }
                Long("workgroup-size") => wanted.options.workgroup_size = Some(parser.value()?.parse()?),
                Long("threads-a-row") => wanted.options.threads_a_row = Some(parser.value()?.parse()?),
                Long("quick") => wanted.quick = true,
                Long("json") => wanted.json = true,
                Long("search") => wanted.search = true,
                Long("linear") => wanted.linear = true,
                Long("compare") => wanted.compare = parser.values()?.map(PathBuf::from).collect(),
                // What cargo adds.
                Long("bench") => wanted.testing = false,
                Long("test") => wanted.testing = true,
                Value(_) => {}
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(wanted)
    }

    /// Whether a kernel is asked for, where any is named.
    fn takes(&self, kernel: Which, dtype: Dtype) -> bool {
        self.kernel.as_ref().is_none_or(|name| name == kernel.name())
            && self.dtype.as_ref().is_none_or(|name| *name == dtype_name(dtype))
    }
}

fn main() -> ExitCode {
    match report() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn report() -> Result<ExitCode, Box<dyn Error>> {
    let mut wanted = Wanted::parse()?;
    if !wanted.compare.is_empty() {
        results::compare(&wanted.compare)?;
        return Ok(ExitCode::SUCCESS);
    }
    let scratch = std::env::temp_dir().join(format!("wgpu-cross-entropy-report-{}", std::process::id()));
    if wanted.testing && wanted.out.is_none() {
        wanted.out = Some(scratch.clone());
    }
    let options = DeviceOptions { adapter_name: wanted.adapter.clone(), ..DeviceOptions::default() };
    let gpu = match Gpu::new_blocking(&options) {
        Ok(gpu) => gpu,
        // No failure under `cargo test`: a machine without an adapter can still run the others.
        Err(error) if wanted.testing => {
            eprintln!("{error}");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error.into()),
    };
    let mut bench =
        Bench { clock: Clock::new(&gpu), copies: Copies::new(&gpu)?, gpu, wanted, failures: Vec::new() };
    println!("{}", bench.gpu.describe());
    match &bench.wanted {
        Wanted { search: true, .. } => bench.search()?,
        Wanted { linear: true, .. } => bench.linear(),
        Wanted { testing: true, out: Some(folder), .. } => {
            // What was written can be read again, and compared.
            let file = folder.join("report.json");
            bench.tabulate()?;
            results::compare(&[file.clone(), file])?;
        }
        _ => bench.tabulate()?,
    }
    // There only where this run made it.
    let _ = std::fs::remove_dir_all(scratch);
    for failure in &bench.failures {
        eprintln!("FAILED {failure}");
    }
    Ok(if bench.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A run on one adapter.
struct Bench {
    gpu: Gpu,
    clock: Clock,
    copies: Copies,
    wanted: Wanted,
    failures: Vec<String>,
}

impl Bench {
    /// The shapes that this device takes, for the command line.
    fn cases(&self) -> Vec<(&'static Case, Shape)> {
        let limits = self.gpu.device.limits();
        let cpu = self.gpu.info.device_type == wgpu::DeviceType::Cpu;
        let mut most = limits.max_buffer_size / 4;
        if cpu {
            most = most.min(CPU_LOGITS);
        }
        if self.wanted.quick {
            most = most.min(QUICK_LOGITS);
        }
        if self.wanted.testing {
            most = most.min(measure::TEST_LOGITS);
        }
        let mut cases = data::distinct(|case| at_most(case.shape, most));
        let Some(wanted) = &self.wanted.shape else { return cases };
        cases.retain(|(_, shape)| name_of(shape).contains(wanted));
        if cases.is_empty() {
            cases.extend(shape_named(wanted).map(|shape| (&ASKED, at_most(shape, most))));
        }
        cases
    }

    /// Kernel after kernel, type after type.
    fn tabulate(&mut self) -> Result<(), Failure> {
        let mut rows = Vec::new();
        let mut best_copy = 0.0f64;
        println!("{}", Row::HEAD);
        for (case, shape) in self.cases() {
            // Once a shape, between its kernels: a shared machine changes from second to second.
            let bytes = data::traffic(&shape, 8, 8);
            let (copy, ceiling) = self.copies.of(&self.clock, bytes, self.wanted.testing)?;
            best_copy = best_copy.max(ceiling.best_shader());
            if !self.wanted.json {
                let wide = ceiling.wide.map(|rate| format!(", {rate:.1} in words of 64 bits"));
                let (name, copies) = (name_of(&shape), ceiling.best_shader());
                println!("{name}: {}; copies at {copies:.1} GB/s{}", case.why, wide.unwrap_or_default());
            }
            for (kernel, dtype) in kernels(&shape) {
                if !self.wanted.takes(kernel, dtype) {
                    continue;
                }
                match self.row(kernel, dtype, shape, &copy) {
                    Ok(row) => {
                        println!("{row}");
                        rows.push(row);
                    }
                    Err(error) => {
                        self.failures.push(format!(
                            "{} {dtype:?} {}: {error}",
                            kernel.name(),
                            name_of(&shape)
                        ));
                    }
                }
            }
        }
        let report = Report { machine: Machine::of(&self.gpu), ceiling_gbps: best_copy, rows };
        if let Some(folder) = &self.wanted.out {
            std::fs::create_dir_all(folder)?;
            let file = folder.join("report.json");
            std::fs::write(&file, report.to_json().to_string() + "\n")?;
            let [svg, png] = picture::draw(folder, &report)?;
            println!("{}, {}, {}", file.display(), svg.display(), png.display());
        }
        if self.wanted.json {
            println!("{}", report.to_json());
        }
        Ok(())
    }

    /// In turns with the best copy, and its share is the median of those of the turns: a shared machine changes from second
    /// to second. What only reads is held against what only reads.
    fn row(&self, kernel: Which, dtype: Dtype, shape: Shape, copy: &CopyRun<'_>) -> Result<Row, Failure> {
        let options = Options { dtype, ..self.wanted.options };
        let ready = self.prepare(kernel, &options, shape)?;
        let passes = |runs| self.clock.passes(runs, &|pass| ready.timed.encode(pass));
        let bytes = kernel.bytes(dtype, &shape) as f64;
        passes(1)?;
        let mut turns = Vec::new();
        for _ in 0..if self.wanted.testing { 1 } else { TURNS } {
            let copied = copy.again(kernel == Which::Forward)?;
            let took = measure::sample(&passes)?.as_secs_f64();
            turns.push((took, bytes / took / 1e9 / copied));
        }
        let took = median(turns.clone(), |a, b| a.0.total_cmp(&b.0)).0;
        Ok(Row {
            kernel: kernel.name().into(),
            shape: name_of(&shape),
            rows: shape.rows,
            classes: shape.classes,
            dtype: dtype_name(dtype),
            strategy: strategy_of(&ready.config, kernel.stage()),
            ms: took * 1e3,
            gbps: bytes / took / 1e9,
            ceiling_fraction: median(turns, |a, b| a.1.total_cmp(&b.1)).1,
            dispatches: ready.timed.dispatches(),
        })
    }

    /// Sets a kernel up, checked at the shape itself or, where the oracle would take too long, at fewer rows in the same
    /// variant.
    fn prepare(&self, kernel: Which, options: &Options, shape: Shape) -> Result<Ready, Failure> {
        let set_up = |shape, options: &Options| -> Result<(Ready, Data), Failure> {
            let data = Data::new(shape).with(*options);
            let ready = match kernel.bench() {
                None => fused::set_up(&self.gpu, &data)?,
                Some(bench) => (bench.set_up)(&self.gpu, &data)?,
            };
            run(&self.gpu, &ready.before.iter().collect::<Vec<_>>())?;
            run(&self.gpu, &[&ready.timed])?;
            Ok((ready, data))
        };
        let small = at_most(shape, CHECKED_LOGITS);
        let (ready, data) = set_up(shape, options)?;
        if small == shape {
            (ready.check)(&self.gpu, &data)?;
            return Ok(ready);
        }
        let (checked, data) = set_up(small, &ready.config.pinned())?;
        (checked.check)(&self.gpu, &data)?;
        match ready.config.variant() == checked.config.variant() {
            true => Ok(ready),
            false => Err("the variant that was checked is not the one to be timed".into()),
        }
    }

    /// The fused kernel's time a logit at each shape, and at an eighth of its rows: nothing may grow faster than the batch.
    /// Both in the same variant.
    fn linear(&mut self) {
        println!(
            "{:>16} {:>16} {:>12} {:>12} {:>7}",
            "rows / 8", "rows", "ps a logit", "ps a logit", "change"
        );
        let mut worst = (0.0f64, String::from("no shape"));
        for (_, shape) in self.cases() {
            let blocks = shape.rows / shape.inner / 8;
            // Whole words of eight logits, as in `at_most`, or the two would not be of one variant.
            let blocks = match blocks {
                0 => continue,
                1..8 if shape.inner > 1 || shape.classes.is_multiple_of(8) => blocks,
                _ if shape.inner > 1 => blocks,
                _ => (blocks / 8 * 8).max(8),
            };
            let few = Shape { rows: blocks * shape.inner, ..shape };
            let many = Shape { rows: 8 * blocks * shape.inner, ..shape };
            match self.growth(few, many) {
                Ok([before, after]) => {
                    let change = after / before - 1.0;
                    println!(
                        "{:>16} {:>16} {before:>12.1} {after:>12.1} {:>6.1}%",
                        name_of(&few),
                        name_of(&many),
                        100.0 * change
                    );
                    if change > worst.0 {
                        worst = (change, name_of(&many));
                    }
                }
                Err(error) => self.failures.push(format!("{}: {error}", name_of(&many))),
            }
        }
        println!(
            "at eight times the rows a logit takes at most {:.1} % longer, at {}",
            100.0 * worst.0,
            worst.1
        );
    }

    /// Picoseconds a logit at two batches, in turns: the least of several.
    fn growth(&self, few: Shape, many: Shape) -> Result<[f64; 2], Failure> {
        let large = self.prepare(Which::Fused, &Options::default(), many)?;
        let small = self.prepare(Which::Fused, &large.config.pinned(), few)?;
        let mut least = [f64::INFINITY; 2];
        for _ in 0..if self.wanted.testing { 1 } else { 5 } {
            for ((ready, shape), least) in [(&small, few), (&large, many)].into_iter().zip(&mut least) {
                let took =
                    median_run(true, &|runs| self.clock.passes(8 * runs, &|pass| ready.timed.encode(pass)))?;
                *least = least.min(took.as_secs_f64() / 8.0 / shape.logits_len() as f64 * 1e12);
            }
        }
        Ok(least)
    }

    /// Every strategy, workgroup size and number of threads a row that takes the shape, against the table's choice: in turns,
    /// by the median of their shares of the copy right before.
    fn search(&mut self) -> Result<(), Failure> {
        println!("{:>16} {:<34} {:>8} {:>7}", "shape", "strategy", "ceiling", "of best");
        let mut worst = (1.0f64, String::from("no shape"));
        for (_, shape) in self.cases() {
            let (copy, _) = self.copies.of(&self.clock, data::traffic(&shape, 8, 8), self.wanted.testing)?;
            let mut found: Vec<Candidate> = Vec::new();
            for options in &candidates() {
                match self.prepare(Which::Fused, options, shape) {
                    // The table's comes first.
                    Ok(ready) if found.iter().any(|other| other.is(&ready)) => {}
                    Ok(ready) => found.push(Candidate::new(ready, options.strategy.is_none())),
                    Err(error) if is_refusal(error.as_ref()) => {}
                    Err(error) => self.failures.push(format!("{} {options:?}: {error}", name_of(&shape))),
                }
            }
            let bytes = Which::Fused.bytes(Dtype::F32, &shape) as f64;
            for turn in 0..if self.wanted.testing { 1 } else { SEARCH_TURNS } {
                let most = found.iter().map(Candidate::share).fold(0.0, f64::max);
                for candidate in &mut found {
                    // Who is far behind is out of the race: sooner, if far.
                    if turn > 2 && candidate.share() * (1.0 + 0.6 / f64::from(turn)) < most {
                        continue;
                    }
                    let copied = copy.again(false)?;
                    let timed = &candidate.ready.timed;
                    let took = measure::sample(&|runs| self.clock.passes(runs, &|pass| timed.encode(pass)))?;
                    candidate.shares.push(bytes / took.as_secs_f64() / 1e9 / copied);
                }
            }
            found.sort_by(|a, b| b.share().total_cmp(&a.share()));
            let Some(most) = found.first().map(Candidate::share) else { continue };
            for (number, candidate) in found.iter().enumerate() {
                let share = candidate.share();
                if candidate.ours && share / most < worst.0 {
                    worst = (share / most, name_of(&shape));
                }
                if number < 5 || candidate.ours {
                    println!(
                        "{:>16} {:<34} {:>7.0}% {:>6.0}%",
                        name_of(&shape),
                        candidate.name,
                        100.0 * share,
                        100.0 * share / most
                    );
                }
            }
        }
        println!(
            "the table's choice is at least {:.0} % of the best found, the least at {}",
            100.0 * worst.0,
            worst.1
        );
        Ok(())
    }
}

/// What a search has found of a way to go about a shape.
struct Candidate {
    name: String,
    /// Whether it is the table's choice.
    ours: bool,
    ready: Ready,
    /// Of the copy, turn by turn.
    shares: Vec<f64>,
}

impl Candidate {
    fn new(ready: Ready, ours: bool) -> Self {
        let name = strategy_of(&ready.config, Stage::CrossEntropy);
        let name = if ours { format!("table: {name}") } else { name };
        Self { name, ours, ready, shares: Vec::new() }
    }

    fn is(&self, other: &Ready) -> bool {
        self.ready.config.variant() == other.config.variant()
    }

    fn share(&self) -> f64 {
        match self.shares.is_empty() {
            true => 0.0,
            false => median(self.shares.clone(), f64::total_cmp),
        }
    }
}

fn strategy_named(name: &str) -> Result<Strategy, String> {
    let named = |strategy: &Strategy| format!("{strategy:?}").eq_ignore_ascii_case(name);
    let names = || Strategy::ALL.map(|strategy| format!("{strategy:?}").to_lowercase()).join(", ");
    Strategy::ALL.into_iter().find(named).ok_or_else(|| format!("{name} is no strategy: {}", names()))
}

/// A shape that is not of the list.
static ASKED: Case = Case { shape: Shape::new(0, 0), why: "as asked" };

/// `rows x classes` or `outer x classes x inner`, as they are printed.
fn shape_named(name: &str) -> Option<Shape> {
    let numbers: Vec<u32> = name.split('x').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    match numbers[..] {
        [rows, classes] if rows > 0 && classes > 0 => Some(Shape::new(rows, classes)),
        [outer, classes, inner] if outer > 0 && classes > 0 && inner > 0 => {
            Some(Shape::class_first(outer, classes, inner))
        }
        _ => None,
    }
}

/// Whether a strategy does not take a shape, which is no failure.
fn is_refusal(error: &(dyn Error + 'static)) -> bool {
    use wgpu_cross_entropy::error::PlanError;
    matches!(error.downcast_ref(), Some(PlanError::Option { .. } | PlanError::Limit { .. }))
}

/// What is searched; first the table's choice.
fn candidates() -> Vec<Options> {
    let mut all = vec![Options::default()];
    let sizes = [8, 16, 32, 64, 256];
    for strategy in Strategy::ALL {
        for workgroup_size in sizes {
            for threads in [1, 2, 4, 8].into_iter().filter(|threads| *threads <= workgroup_size) {
                let group = strategy == Strategy::Group;
                if !group && threads > 1 {
                    continue;
                }
                all.push(Options {
                    strategy: Some(strategy),
                    workgroup_size: Some(workgroup_size),
                    threads_a_row: group.then_some(threads),
                    ..Options::default()
                });
            }
        }
    }
    all
}

fn dtype_name(dtype: Dtype) -> String {
    format!("{dtype:?}").to_lowercase()
}

/// The kernels that read logits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Fused,
    Forward,
    Backward,
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Self::Fused => "cross_entropy",
            Self::Forward => "cross_entropy_forward",
            Self::Backward => "cross_entropy_backward",
        }
    }

    fn stage(self) -> Stage {
        match self {
            Self::Fused => Stage::CrossEntropy,
            Self::Forward => Stage::CrossEntropyForward,
            Self::Backward => Stage::CrossEntropyBackward,
        }
    }

    /// The other bench's set-up, but for the fused kernel, which is timed with more options here.
    fn bench(self) -> Option<Kernel> {
        match self {
            Self::Fused => None,
            Self::Forward => Some(cross_entropy_forward::KERNEL),
            Self::Backward => Some(cross_entropy_backward::KERNEL),
        }
    }

    /// Floor traffic: each byte that has to be read or written, once.
    fn bytes(self, dtype: Dtype, shape: &Shape) -> u64 {
        match self.bench() {
            None => data::traffic(shape, 2 * dtype.bytes(), 8),
            Some(bench) => (bench.bytes)(shape),
        }
    }
}

/// What is timed at a shape.
fn kernels(shape: &Shape) -> Vec<(Which, Dtype)> {
    let mut all = vec![(Which::Fused, Dtype::F32)];
    if shape.row_stride.is_multiple_of(2) && (shape.inner == 1 || shape.inner.is_multiple_of(2)) {
        all.extend([(Which::Fused, Dtype::F16), (Which::Fused, Dtype::Bf16)]);
    }
    all.extend([(Which::Forward, Dtype::F32), (Which::Backward, Dtype::F32)]);
    all
}
