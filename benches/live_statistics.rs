//! What live class statistics cost: skewed labels against even ones, and a whole step against the fused kernel alone.
//!
//! ```text
//! cargo bench --bench live_statistics          # on every adapter
//! WGPU_ADAPTER_NAME=llvmpipe cargo bench --bench live_statistics
//! ```
//!
//! Times are of submissions, by the wall clock, the two of a pair in turns; medians. On software devices the batches
//! are smaller.

use std::error::Error;
use std::time::{Duration, Instant};

use wgpu_cross_entropy::kernels::{ClassCountsBuffers, ClassCountsKernel};
use wgpu_cross_entropy::{
    Batch, Bound, Config, CrossEntropy, DeviceOptions, Gpu, LabelFormat, Options, READ_TIMEOUT, Shape, Spec,
    WeightScheme,
};

type Failure = Box<dyn Error>;

/// Samples of each of a pair.
const SAMPLES: usize = 15;
/// A sample lasts at least this long, so that submitting counts for little.
const LONG_ENOUGH: Duration = Duration::from_millis(20);
/// The most logits of a batch on a CPU device, and of any where nothing is timed.
const CPU_LOGITS: u64 = 1 << 22;
const TEST_LOGITS: u64 = 1 << 10;

/// One pair's medians.
struct Pair {
    first: Duration,
    second: Duration,
}

impl Pair {
    /// The second over the first.
    fn ratio(&self) -> f64 {
        self.second.as_secs_f64() / self.first.as_secs_f64()
    }
}

fn main() -> Result<(), Failure> {
    // `cargo bench` says so; under `cargo test` each thing runs once, on little.
    let timed = std::env::args().any(|argument| argument == "--bench");
    let wanted = std::env::var("WGPU_ADAPTER_NAME").unwrap_or_default().to_lowercase();
    for gpu in pollster::block_on(Gpu::all(&DeviceOptions::default())) {
        if !gpu.info.name.to_lowercase().contains(&wanted) {
            continue;
        }
        println!("{}", gpu.describe());
        for (rows, classes) in [(10_000_000, 2), (10_000_000, 19), (1_000_000, 1000), (1_000_000, 262_144)] {
            for format in [LabelFormat::I32, LabelFormat::U16, LabelFormat::U8] {
                let holds = 1u64 << (8 * format.bytes());
                if u64::from(classes) <= holds {
                    skew(&gpu, rows_for(&gpu, rows, 1, timed), classes, format, timed)?;
                }
            }
        }
        for (rows, classes) in [(1_000_000, 19), (65_536, 1000)] {
            let rows = rows_for(&gpu, rows, classes, timed);
            step(&gpu, Shape::new(rows, classes), timed)?;
        }
    }
    Ok(())
}

/// So many rows, or fewer on a software device.
fn rows_for(gpu: &Gpu, rows: u32, classes: u32, timed: bool) -> u32 {
    let most = match (timed, gpu.info.device_type) {
        (false, _) => TEST_LOGITS,
        (true, wgpu::DeviceType::Cpu) => CPU_LOGITS,
        (true, _) => u64::MAX,
    };
    u64::from(rows).min((most / u64::from(classes)).max(1)) as u32
}

/// `class_counts` on even labels, and on labels of which 999 of 1000 are one class.
fn skew(gpu: &Gpu, rows: u32, classes: u32, format: LabelFormat, timed: bool) -> Result<(), Failure> {
    let options = Options { labels: format, ..Options::default() };
    let config = Config::new(&gpu.device, &Spec::default(), Shape::new(rows, classes), &options)?;
    let kernel = ClassCountsKernel::new(&gpu.device, &config)?;
    let counts = buffer(gpu, u64::from(classes) * 4);
    let bind = |class_of: &dyn Fn(u32) -> u32| -> Result<Bound, Failure> {
        let labels: Vec<i32> = (0..rows).map(|row| class_of(row) as i32).collect();
        let bytes = format.encode(&labels)?;
        let labels = buffer(gpu, bytes.len() as u64);
        gpu.queue.write_buffer(&labels, 0, &bytes);
        let buffers = ClassCountsBuffers {
            targets: labels.as_entire_buffer_binding(),
            sample_weights: None,
            mass: None,
            class_counts: counts.as_entire_buffer_binding(),
        };
        Ok(kernel.bind(&gpu.device, &buffers)?)
    };
    // A multiplicative hash spreads rows over the classes.
    let spread = |row: u32| row.wrapping_mul(0x9e37_79b9) >> 7;
    let even = bind(&|row| spread(row) % classes)?;
    let skewed = bind(&|row| if spread(row) % 1000 == 0 { row % classes } else { classes / 2 })?;
    let pair = time(gpu, timed, &[&even], &[&skewed])?;
    println!(
        "  class_counts, {rows} rows of {classes} classes, {} bits a label: even {:?}, 99.9 % one class {:?}; x {:.2}",
        format.bytes() * 8,
        pair.first,
        pair.second,
        pair.ratio(),
    );
    Ok(())
}

/// The fused kernel alone, and the whole flow with live weights.
fn step(gpu: &Gpu, shape: Shape, timed: bool) -> Result<(), Failure> {
    let spec = Spec { class_weights: WeightScheme::Balanced.into(), ..Spec::default() };
    let plan = CrossEntropy::new(&gpu.device, &spec, shape, &Options::default())?;
    let size = shape.logits_len() * 4;
    let (logits, grads) = (buffer(gpu, size), buffer(gpu, size));
    let labels = buffer(gpu, u64::from(shape.rows) * 4);
    let classes: Vec<u32> =
        (0..shape.rows).map(|row| (row.wrapping_mul(0x9e37_79b9) >> 7) % shape.classes).collect();
    gpu.queue.write_buffer(&labels, 0, bytemuck::cast_slice(&classes));
    // Logits that repeat, written in parts: a write has a staging buffer of its own.
    let period: Vec<f32> =
        (0..1u32 << 18).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 20) as f32 / 512.0).collect();
    let period: &[u8] = bytemuck::cast_slice(&period);
    for at in (0..size).step_by(period.len()) {
        let part = (size - at).min(period.len() as u64);
        gpu.queue.write_buffer(&logits, at, &period[..part as usize]);
        gpu.queue.submit([]);
    }
    let bound = plan.bind(
        &gpu.device,
        &Batch {
            logits: logits.as_entire_buffer_binding(),
            targets: labels.as_entire_buffer_binding(),
            sample_weights: None,
            grad_out: None,
            external_denominator: None,
            logit_grads: Some(grads.as_entire_buffer_binding()),
        },
    )?;
    let pair = time(gpu, timed, &[&bound.cross_entropy], &bound.steps())?;
    println!(
        "  {} rows of {} classes: losses and gradients {:?}, with counts, weights, denominator and totals {:?}; {:+.1} %",
        shape.rows,
        shape.classes,
        pair.first,
        pair.second,
        (pair.ratio() - 1.0) * 100.0,
    );
    Ok(())
}

fn buffer(gpu: &Gpu, size: u64) -> wgpu::Buffer {
    gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("live_statistics"),
        size: size.next_multiple_of(16),
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

/// The medians of both, taken in turns.
fn time(gpu: &Gpu, timed: bool, first: &[&Bound], second: &[&Bound]) -> Result<Pair, Failure> {
    // Once each for what the first run of a buffer and a pipeline costs.
    let mut runs = [1, 1];
    for (runs, steps) in runs.iter_mut().zip([first, second]) {
        sample(gpu, steps, 1)?;
        let once = sample(gpu, steps, 1)?;
        if timed {
            *runs = (LONG_ENOUGH.as_secs_f64() / once.as_secs_f64()).ceil().clamp(1.0, 1000.0) as u32;
        }
    }
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..if timed { SAMPLES } else { 1 } {
        for ((samples, runs), steps) in samples.iter_mut().zip(runs).zip([first, second]) {
            samples.push(sample(gpu, steps, runs)? / runs);
        }
    }
    let [first, second] = samples.map(|mut samples| {
        samples.sort();
        samples[samples.len() / 2]
    });
    Ok(Pair { first, second })
}

/// Records so many runs, submits them, waits.
fn sample(gpu: &Gpu, steps: &[&Bound], runs: u32) -> Result<Duration, Failure> {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for _ in 0..runs {
            steps.iter().for_each(|step| step.encode(&mut pass));
        }
    }
    let commands = encoder.finish();
    let start = Instant::now();
    gpu.queue.submit([commands]);
    gpu.device.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(READ_TIMEOUT) })?;
    Ok(start.elapsed())
}
