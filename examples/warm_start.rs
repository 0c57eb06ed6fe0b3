//! How long the first loss takes, from an open device on: with nothing compiled, with a cache that an earlier run has
//! saved, and with pipelines of another plan.
//!
//! ```text
//! cargo run --release --example warm_start -- [FILE]
//! ```
//!
//! The file holds what the driver has compiled (`wgpu::PipelineCache`, Vulkan only); the first run makes it.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};
use wgpu_cross_entropy::{Config, CrossEntropy, Gpu, Inputs, Options, Pipelines, Shape, Spec, wgpu};

fn main() -> Result<(), Box<dyn Error>> {
    let gpu = Gpu::new_blocking(&Default::default())?;
    println!("{}", gpu.describe());
    let file = std::env::args_os().nth(1);
    for line in start(&gpu, file.as_ref().map(Path::new))? {
        println!("{line}");
    }
    Ok(())
}

/// Pipelines that look into a file's cache before they compile.
#[allow(unsafe_code, reason = "wgpu marks the making of a cache unsafe: its data must be of a cache")]
fn pipelines(gpu: &Gpu, file: &Path) -> Result<Pipelines, Box<dyn Error>> {
    if !gpu.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
        return Ok(Pipelines::new(&gpu.device));
    }
    let data = match std::fs::read(file) {
        Ok(data) => Some(data),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    // SAFETY: the data are what `get_data` of such a cache returned, in a file that this program alone writes, and
    // whole, for it is renamed into its place. wgpu compares their header with adapter and driver, and with `fallback`
    // begins anew where they are of another.
    let cache = unsafe {
        gpu.device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
            label: Some("warm_start"),
            data: data.as_deref(),
            fallback: true,
        })
    };
    Ok(Pipelines::with_cache(&gpu.device, cache))
}

fn save(pipelines: &Pipelines, file: &Path) -> Result<(), Box<dyn Error>> {
    if let Some(data) = pipelines.cache().and_then(wgpu::PipelineCache::get_data) {
        let new = file.with_extension("new");
        std::fs::write(&new, data)?;
        std::fs::rename(&new, file)?;
    }
    Ok(())
}

/// What it prints: a line for each way to start.
pub fn start(gpu: &Gpu, file: Option<&Path>) -> Result<Vec<String>, Box<dyn Error>> {
    let mut lines = Vec::new();
    let (plan, first, pipelines) = match file {
        Some(file) => {
            let known = file.exists();
            let pipelines = pipelines(gpu, file)?;
            let (plan, first) = first_loss(gpu, 512, &pipelines)?;
            save(&pipelines, file)?;
            let what = match (pipelines.cache(), known) {
                (None, _) => "no cache on this back end",
                (_, false) => "nothing compiled; the cache is saved",
                (_, true) => "with the cache of an earlier run",
            };
            lines.push(line(what, plan, first));
            (plan, first, pipelines)
        }
        None => {
            let pipelines = Pipelines::new(&gpu.device);
            let (plan, first) = first_loss(gpu, 512, &pipelines)?;
            lines.push(line("nothing compiled", plan, first));
            (plan, first, pipelines)
        }
    };
    let compiled = pipelines.len();
    let (again, second) = first_loss(gpu, 300, &pipelines)?;
    assert_eq!(pipelines.len(), compiled, "another number of rows needs no other pipeline");
    lines.push(line("another plan, with the pipelines of the first", again, second));
    lines.push(format!(
        "{compiled} pipelines; the second plan in {:.1} % of the time, the loss in {:.1} %",
        100.0 * again.as_secs_f64() / plan.as_secs_f64(),
        100.0 * second.as_secs_f64() / first.as_secs_f64()
    ));
    Ok(lines)
}

fn line(what: &str, plan: Duration, first: Duration) -> String {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    format!("{what}: plan made after {:.1} ms, the first loss read after {:.1} ms", ms(plan), ms(first))
}

/// The time until a plan is made, and until its first loss is read.
fn first_loss(gpu: &Gpu, rows: u32, pipelines: &Pipelines) -> Result<(Duration, Duration), Box<dyn Error>> {
    let classes = 100;
    let (spec, shape) = (Spec::default(), Shape::new(rows, classes));
    let logits: Vec<f32> = (0..rows * classes).map(|i| (i * 7919 % 101) as f32 / 10.0).collect();
    let labels: Vec<i32> = (0..rows).map(|row| (row * 31 % classes) as i32).collect();
    let inputs = Inputs { logits: &logits, labels: &labels, ..Inputs::default() };
    let began = Instant::now();
    let config = Config::new(&gpu.device, &spec, shape, &Options::default())?.with_pipelines(pipelines);
    let plan = CrossEntropy::with_config(&gpu.device, config)?;
    let made = began.elapsed();
    let output = plan.compute_blocking(&gpu.device, &gpu.queue, &inputs)?;
    let read = began.elapsed();
    assert!(output.totals.loss.is_finite());
    Ok((made, read))
}
