//! The likeliest row strategies, timed on the device at hand, once a shape.

use crate::config::{Config, Options};
use crate::error::{AutotuneError, HostError};
use crate::inputs::{Inputs, sample_weights_len};
use crate::pipeline::Capabilities;
use crate::pipelines::Pipelines;
use crate::plan::CrossEntropy;
use crate::shape::Shape;
use crate::spec::{Denominator, Reduction, Spec, Targets};
use crate::wgsl::Strategy;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Logits of the batch that is timed, at most: enough to fill a GPU.
const LOGITS: u64 = 1 << 24;
/// The same on a CPU.
const CPU_LOGITS: u64 = 1 << 20;
/// What one sample lasts at least: waking up after a submission takes tenths of a millisecond.
const SAMPLE: Duration = Duration::from_millis(4);
/// Samples of each candidate, in turns; the least counts.
const TURNS: usize = 5;
/// What another strategy must gain over the table's to be taken: less is noise.
const GAIN: f64 = 0.05;

/// Chooses row strategies by timing the table's choice and its neighbours in the table, and remembers what it found: in
/// memory, and in a file if one is given.
///
/// ```no_run
/// # use wgpu_cross_entropy::{Autotune, CrossEntropy, Gpu, Options, Shape, Spec};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let gpu = Gpu::new_blocking(&Default::default())?;
/// let autotune = Autotune::with_file("strategies.txt")?;
/// let (spec, shape) = (Spec::default(), Shape::new(4096, 50_257));
/// let options = autotune.choose(&gpu.device, &gpu.queue, &spec, shape, &Options::default())?;
/// let plan = CrossEntropy::new(&gpu.device, &spec, shape, &options)?;
/// # Ok(())
/// # }
/// ```
///
/// What is chosen holds for one adapter, driver, version of this crate, shape, and kind of loss. Results stay within the
/// same tolerances whichever strategy is taken, but their last bits may differ from one to another: where runs on several
/// machines must agree to the bit, set [`Options::strategy`] instead.
#[derive(Debug, Default)]
pub struct Autotune {
    file: Option<PathBuf>,
    pipelines: Option<Pipelines>,
    chosen: Mutex<BTreeMap<String, Chosen>>,
}

/// What a key's line in the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chosen {
    strategy: Strategy,
    workgroup_size: u32,
    threads_a_row: u32,
    workgroups_a_row: u32,
}

impl Chosen {
    /// What a config came to; see also [`Config::pinned`].
    fn of(config: &Config) -> Self {
        let variant = config.variant();
        Self {
            strategy: variant.strategy,
            workgroup_size: variant.workgroup_size,
            threads_a_row: variant.group_lanes,
            workgroups_a_row: variant.splits,
        }
    }

    fn options(&self, options: &Options) -> Options {
        Options {
            strategy: Some(self.strategy),
            workgroup_size: Some(self.workgroup_size),
            threads_a_row: (self.strategy == Strategy::Group).then_some(self.threads_a_row),
            workgroups_a_row: (self.strategy == Strategy::Split).then_some(self.workgroups_a_row),
            ..*options
        }
    }

    fn line(&self) -> String {
        let Self { strategy, workgroup_size, threads_a_row, workgroups_a_row } = self;
        format!("{strategy:?} {workgroup_size} {threads_a_row} {workgroups_a_row}")
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let name = words.next()?;
        let strategy = Strategy::ALL.into_iter().find(|strategy| format!("{strategy:?}") == name)?;
        let mut number = || words.next()?.parse().ok();
        let (workgroup_size, threads_a_row, workgroups_a_row) = (number()?, number()?, number()?);
        words.next().is_none().then_some(Self { strategy, workgroup_size, threads_a_row, workgroups_a_row })
    }
}

/// How a candidate did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// The candidate.
    pub options: Options,
    /// The fused kernel's time at the batch that was timed: the least of several samples.
    pub time: Duration,
}

impl Autotune {
    /// Remembers in memory only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers in a file as well: a line for each choice, its key and what was chosen. A file that is not there is made
    /// with the first choice.
    ///
    /// # Errors
    /// [`AutotuneError::Read`] where the file cannot be read, [`AutotuneError::Line`] where a line is none of this
    /// format.
    pub fn with_file(path: impl AsRef<Path>) -> Result<Self, AutotuneError> {
        let path = path.as_ref();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(AutotuneError::Read { path: path.to_owned(), message: error.to_string() });
            }
        };
        let mut chosen = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let parsed = line
                .split_once('\t')
                .and_then(|(key, rest)| Chosen::parse(rest).map(|chosen| (key.to_owned(), chosen)));
            let Some((key, choice)) = parsed else {
                return Err(AutotuneError::Line { path: path.to_owned(), number, got: line.to_owned() });
            };
            chosen.insert(key, choice);
        }
        Ok(Self { file: Some(path.to_owned()), pipelines: None, chosen: Mutex::new(chosen) })
    }

    /// The same, with the pipelines of what it times kept for the plans: what is chosen is compiled already.
    pub fn with_pipelines(self, pipelines: &Pipelines) -> Self {
        Self { pipelines: Some(pipelines.clone()), ..self }
    }

    /// `options` with the strategy that was the fastest here. Takes a second or so the first time, most of it for
    /// compiling; afterwards nothing. Where `options` already names a strategy, they come back as they are.
    ///
    /// Waits for the device, so it belongs before the training loop. The device should have nothing else to do.
    ///
    /// # Errors
    /// [`AutotuneError::Host`] where spec, shape and options do not fit, or the device fails; [`AutotuneError::Write`]
    /// where the file cannot be written: the choice is remembered in memory all the same.
    pub fn choose(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        spec: &Spec,
        shape: Shape,
        options: &Options,
    ) -> Result<Options, AutotuneError> {
        if options.strategy.is_some() {
            return Ok(*options);
        }
        let key = key(device, spec, &shape, options);
        let known = self.chosen.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if let Some(known) = known {
            let options = known.options(options);
            // A file that was written by hand may say what this device does not take.
            if Config::new(device, spec, shape, &options).is_ok() {
                return Ok(options);
            }
        }
        let timings = self.time(device, queue, spec, shape, options)?;
        // The table's choice comes first, and stays unless another is clearly faster.
        let (Some(table), Some(best)) = (timings.first(), timings.iter().min_by_key(|timing| timing.time))
        else {
            return Ok(*options);
        };
        let gains = best.time.as_secs_f64() < (1.0 - GAIN) * table.time.as_secs_f64();
        let taken = if gains { best } else { table };
        let config = Config::new(device, spec, shape, &taken.options).map_err(HostError::from)?;
        let choice = Chosen::of(&config);
        log::debug!("{key}: {} of {timings:?}", choice.line());
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        chosen.insert(key, choice);
        if let Some(path) = &self.file {
            let lines = chosen.iter().map(|(key, choice)| format!("{key}\t{}\n", choice.line()));
            std::fs::write(path, lines.collect::<String>())
                .map_err(|error| AutotuneError::Write { path: path.clone(), message: error.to_string() })?;
        }
        Ok(choice.options(options))
    }

    /// Times the table's choice, which comes first, and its neighbours.
    ///
    /// # Errors
    /// [`AutotuneError::Host`] where spec, shape and options do not fit, or the device fails.
    pub fn time(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        spec: &Spec,
        shape: Shape,
        options: &Options,
    ) -> Result<Vec<Timing>, AutotuneError> {
        let caps = Capabilities::of(device);
        let candidates = Config::candidates(caps, spec, shape, options).map_err(HostError::from)?;
        let sample = Sample::new(spec, shape, &caps);
        let mut runs = Vec::new();
        for options in candidates {
            let mut config = Config::new(device, spec, sample.shape, &options).map_err(HostError::from)?;
            if let Some(pipelines) = &self.pipelines {
                config = config.with_pipelines(pipelines);
            }
            let plan = CrossEntropy::with_config(device, config).map_err(HostError::from)?;
            let step = plan.upload(device, &sample.inputs(spec, &options))?.0;
            // Twice the whole step: the first time zero-fills and compiles what drivers leave until then.
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            plan.encode(&mut encoder, &step);
            plan.encode(&mut encoder, &step);
            queue.submit([encoder.finish()]);
            wait(device)?;
            runs.push((options, plan, step, 1u32, Duration::MAX));
        }
        for (_, _, step, times, _) in &mut runs {
            // So many times that a sample is long enough.
            while *times < 1 << 12 {
                let took = timed(device, queue, step, *times)?;
                if took >= SAMPLE {
                    break;
                }
                *times *= 2;
            }
        }
        for _ in 0..TURNS {
            for (_, _, step, times, least) in &mut runs {
                *least = (*least).min(timed(device, queue, step, *times)? / *times);
            }
        }
        Ok(runs.into_iter().map(|(options, _, _, _, time)| Timing { options, time }).collect())
    }
}

/// The fused kernel so many times, from submission to the end.
fn timed(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    step: &crate::plan::BoundStep,
    times: u32,
) -> Result<Duration, AutotuneError> {
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for _ in 0..times {
            step.cross_entropy.encode(&mut pass);
        }
    }
    let commands = encoder.finish();
    let began = Instant::now();
    queue.submit([commands]);
    wait(device)?;
    Ok(began.elapsed())
}

fn wait(device: &wgpu::Device) -> Result<(), AutotuneError> {
    let poll = device
        .poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(crate::host::READ_TIMEOUT) });
    match poll {
        Ok(_) => Ok(()),
        Err(error) => Err(HostError::Device { message: error.to_string() }.into()),
    }
}

/// What a choice is good for.
fn key(device: &wgpu::Device, spec: &Spec, shape: &Shape, options: &Options) -> String {
    let info = device.adapter_info();
    let caps = Capabilities::of(device);
    let key = format!(
        "{} | {} {} {} {} | {caps:?} | {shape:?} | {:?} {:?} {:?} smoothing {} cost {} bias {} | {:?} {:?} {} {} {:?} {:?} \
         {:?} {:?}",
        env!("CARGO_PKG_VERSION"),
        info.name,
        info.backend,
        info.driver,
        info.driver_info,
        spec.targets,
        spec.scores,
        spec.sample_weights,
        spec.label_smoothing != 0.0,
        spec.cost_lambda != 0.0,
        spec.logit_bias != crate::spec::LogitBias::None,
        options.dtype,
        options.labels,
        options.in_place,
        options.grad_out,
        options.workgroup_size,
        options.subgroups,
        options.vectorize,
        options.max_binding_size,
    );
    // A line is one choice, and a tab ends its key.
    key.replace(['\t', '\n', '\r'], " ")
}

/// Made-up data to time with: what the numbers are matters little, but labels all alike would meet in one counter.
struct Sample {
    shape: Shape,
    logits: Vec<f32>,
    labels: Vec<i32>,
    second_labels: Vec<i32>,
    ones: Vec<f32>,
    target_probs: Vec<f32>,
}

impl Sample {
    fn new(spec: &Spec, shape: Shape, caps: &Capabilities) -> Self {
        let most = if caps.cpu { CPU_LOGITS } else { LOGITS };
        // Whole blocks, whole samples.
        let unit = u64::from(shape.inner) * u64::from(shape.steps.max(1));
        let row = u64::from(shape.row_stride).div_ceil(u64::from(shape.inner)).max(1);
        let rows = (most / row / unit * unit).max(unit).min(u64::from(shape.rows));
        let shape = Shape { rows: u32::try_from(rows).unwrap_or(shape.rows), ..shape };
        // The multiplier of Knuth's MMIX generator.
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1 << 24) as f32
        };
        let logits: Vec<f32> = (0..shape.logits_len()).map(|_| 8.0 * next() - 4.0).collect();
        let soft = spec.targets == Targets::Soft;
        let labels = |step: u32| (0..shape.rows).map(|row| ((row * step) % shape.classes) as i32).collect();
        Self {
            target_probs: if soft { logits.iter().map(|_| next() / 2.0).collect() } else { Vec::new() },
            labels: if soft { Vec::new() } else { labels(1) },
            second_labels: labels(3),
            ones: vec![1.0; shape.rows as usize],
            logits,
            shape,
        }
    }

    fn inputs(&self, spec: &Spec, options: &Options) -> Inputs<'_> {
        let two_hot = spec.targets == Targets::TwoHot;
        let weights = sample_weights_len(spec, &self.shape);
        Inputs {
            logits: &self.logits,
            labels: &self.labels,
            second_labels: two_hot.then_some(&self.second_labels),
            mix: two_hot.then_some(&self.ones),
            target_probs: (spec.targets == Targets::Soft).then_some(&self.target_probs),
            sample_weights: weights.map(|length| &self.ones[..length as usize]),
            grad_out: options.grad_out.then_some(&self.ones),
            external_denominator: (spec.reduction == Reduction::Mean(Denominator::External)).then_some(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        for strategy in Strategy::ALL {
            let choice = Chosen { strategy, workgroup_size: 64, threads_a_row: 8, workgroups_a_row: 3 };
            assert_eq!(Chosen::parse(&choice.line()), Some(choice));
        }
        for broken in ["", "Tile", "Tile 1 2", "Tile 1 2 3 4", "Tile 1 2 x", "tile 1 2 3", "Tile 1 2 -3"] {
            assert_eq!(Chosen::parse(broken), None, "{broken}");
        }
    }
}
