//! Trains one small network on rare classes, each time with another loss of this crate, and shows what each
//! loss does for them.
//!
//! The example is a trainer such as the crate is made for: it owns the device, the buffers and the command
//! encoder, and records the crate's plan between its own forward and backward pass. One training step
//! (batch, forward, class counts, class weights, loss and gradient, backward, Adam) is one submission, and
//! nothing comes back to the host before the end of an epoch.
//!
//! ```text
//! cargo run --release --example train_imbalanced -- --help
//! ```

mod agreement;
mod cpu_trainer;
mod data;
mod gpu_trainer;
mod model;
mod network;
mod options;
mod picture;
mod report;
mod runs;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use wgpu_cross_entropy::error::DeviceError;
use wgpu_cross_entropy::{CostMatrix, DeviceOptions, Gpu};

use agreement::Step;
use cpu_trainer::CpuTrainer;
use data::Data;
use gpu_trainer::GpuTrainer;
use model::{Trainer, Training};
use network::Kernels;
use options::Options;
use report::{Computer, Outcome, Score};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error}; --help lists the options");
            return ExitCode::from(2);
        }
    };
    if options.help {
        print!("{}", options::HELP);
        return ExitCode::SUCCESS;
    }
    match compare(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Trains every run and reports.
fn compare(options: &Options) -> Result<(), Box<dyn Error>> {
    // Before the training: a folder that cannot be written to should not cost a minute.
    std::fs::create_dir_all(&options.out)
        .map_err(|error| format!("the folder {} for the picture: {error}", options.out.display()))?;
    let data = Data::load(options.source, options.seed);
    let training = Training::of(&data, options.epochs, options.seed);
    let runs = runs::all(&data)?;
    let cost = runs::cost_matrix(data.classes())?;
    let gpu = find_gpu(options)?;
    let computer = match &gpu {
        Some(gpu) => {
            let info = &gpu.info;
            Computer { adapter: info.name.clone(), backend: info.backend.to_str().into() }
        }
        None => Computer::cpu(),
    };
    println!("{}", report::heading(&data, &training, &computer));

    let bar = progress_bar(runs.len() * training.epochs);
    let bench = Bench { data: &data, training: &training, cost: &cost, bar: &bar };
    let mut outcomes = Vec::new();
    let mut remarks = Vec::new();
    let mut passed = true;
    match &gpu {
        None => {
            for run in &runs {
                let mut trainer = CpuTrainer::new(&data, &training, &run.spec, run.sample_weights(&data));
                outcomes.push(bench.train(run.name, &mut trainer)?.0);
            }
            if options.validate {
                remarks.push("Nothing to validate: these are the CPU oracle's own results.".into());
            }
        }
        Some(gpu) => {
            let kernels = Kernels::new(&gpu.device);
            let mut steps = Vec::new();
            for run in &runs {
                let weights = run.sample_weights(&data);
                let (device, queue) = (&gpu.device, &gpu.queue);
                let mut trainer =
                    GpuTrainer::new(device, queue, &kernels, &data, &training, &run.spec, weights)?;
                let (outcome, losses) = bench.train(run.name, &mut trainer)?;
                outcomes.push(outcome);
                steps.extend(agreement::first_steps(&data, &training, run, &losses)?);
                if options.validate {
                    let validation = trainer.validate()?;
                    remarks.push(format!("Run {}, last batch:\n{validation}", run.name));
                    passed &= validation.passed();
                }
            }
            let largest = |of: &dyn Fn(&Step) -> f64| steps.iter().map(of).fold(0.0, f64::max);
            remarks.push(format!(
                "The losses of the first {} steps of every run differ from the CPU oracle's by at most \
                 {:.1e} of their value; by what f32 may round, it could be {:.1e}.",
                steps.len() / runs.len(),
                largest(&Step::relative_difference),
                largest(&|step| step.bound / step.oracle),
            ));
        }
    }
    bar.finish_and_clear();

    println!("{}", report::table(&data, &outcomes));
    remarks.iter().for_each(|remark| println!("{remark}"));
    let subtitle = report::subtitle(&data, &training, &computer);
    let [svg, png] = picture::draw(&options.out, &data, &outcomes, &subtitle)?;
    println!("Recall and loss curves: {} and {}", svg.display(), png.display());
    if options.json {
        println!("{}", report::json(&computer, &data, &outcomes));
    }
    match passed {
        true => Ok(()),
        false => {
            Err("the validation found differences above their tolerance: see the lines with FAIL".into())
        }
    }
}

/// The device, or `None` where the CPU oracle is to compute.
fn find_gpu(options: &Options) -> Result<Option<Gpu>, DeviceError> {
    if options.cpu {
        return Ok(None);
    }
    match Gpu::new_blocking(&DeviceOptions { adapter_name: options.adapter.clone(), ..Default::default() }) {
        Ok(gpu) => Ok(Some(gpu)),
        Err(error @ (DeviceError::NoAdapter | DeviceError::NoCompute { .. }))
            if options.adapter.is_none() =>
        {
            // The message names the package that brings a software adapter.
            println!("Training on the CPU oracle: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What all runs have in common.
struct Bench<'a> {
    data: &'a Data,
    training: &'a Training,
    cost: &'a CostMatrix,
    bar: &'a ProgressBar,
}

impl Bench<'_> {
    /// Trains to the end and judges the network; also the losses of the first steps.
    fn train(
        &self,
        name: &'static str,
        trainer: &mut dyn Trainer,
    ) -> Result<(Outcome, Vec<f64>), Box<dyn Error>> {
        self.bar.set_message(name);
        let rows = self.data.train.rows();
        let (mut losses, mut first_losses, mut micros) = (Vec::new(), Vec::new(), Vec::new());
        for epoch in 0..self.training.epochs {
            let order = self.training.order(epoch, rows);
            let start = Instant::now();
            let steps = trainer.epoch(&order)?;
            micros.push(start.elapsed().as_secs_f64() * 1e6 / steps.len() as f64);
            losses.push(steps.iter().sum::<f64>() / steps.len() as f64);
            first_losses.extend(steps.into_iter().take(agreement::STEPS.saturating_sub(first_losses.len())));
            self.bar.inc(1);
        }
        micros.sort_by(f64::total_cmp);
        let score = Score::of(&trainer.test_logits()?, &self.data.test.y, self.cost);
        Ok((Outcome { name, score, losses, step_us: micros[micros.len() / 2] }, first_losses))
    }
}

/// Counts epochs, on standard error; hidden where that is no terminal.
fn progress_bar(epochs: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(epochs as u64), ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("{msg:12} {wide_bar} {pos}/{len} epochs, {eta} left") {
        Ok(style) => bar.with_style(style),
        // A template that does not parse costs the bar its looks and nothing else.
        Err(_) => bar,
    }
}
