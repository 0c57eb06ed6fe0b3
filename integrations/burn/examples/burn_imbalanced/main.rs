//! Trains one small network on rare classes with burn's own training loop, each time with another loss: burn's, and ours
//! in its place.
//!
//! ```text
//! cargo run --release --manifest-path integrations/burn/Cargo.toml --example burn_imbalanced -- [--json] [--epochs N]
//! ```

mod data;
mod progress;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use burn::data::dataloader::DataLoaderBuilder;
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::InMemDataset;
use burn::lr_scheduler::constant::ConstantLr;
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig as BurnLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::AdamConfig;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn::train::logger::InMemoryMetricLogger;
use burn::train::metric::{AccuracyMetric, ClassReduction, LossMetric, RecallMetric};
use burn::train::{ClassificationOutput, InferenceStep, Learner, SupervisedTraining, TrainOutput, TrainStep};
use serde_json::json;
use wgpu_cross_entropy_burn::wgpu_cross_entropy::{
    ClassWeights, CountsOver, LiveCounts, LogitBias, Spec, WeightScheme, cpu,
};
use wgpu_cross_entropy_burn::{CrossEntropyLoss, CrossEntropyLossConfig, read_backs};

use data::{Batch, CLASSES, FEATURES, Wine, WineBatcher, class_rows, wines};

/// Batches of an epoch, and of the rows held out: no batch is shorter than the others, for each shape has kernels of its own,
/// which burn compiles and tunes.
const BATCHES: usize = 5;
const BATCHES_HELD_OUT: usize = 2;
const RATE: f64 = 1e-3;
/// How much of the counts of earlier batches stays.
const MOMENTUM: f32 = 0.9;
/// Rows of the batch on which the loss alone is timed.
const STEP_ROWS: usize = 1 << 16;
const STEPS: usize = 5;

/// The line that a user of burn changes.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a network has one")]
enum Loss {
    Burn(burn::nn::loss::CrossEntropyLoss),
    Ours(CrossEntropyLoss),
}

impl Loss {
    fn forward(&self, logits: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<1> {
        match self {
            Self::Burn(loss) => loss.forward(logits, classes),
            Self::Ours(loss) => loss.forward(logits, classes),
        }
    }
}

/// 11 - 32 - 6.
#[derive(Module, Debug)]
struct Layers {
    first: Linear,
    last: Linear,
}

impl Layers {
    fn new(device: &Device) -> Self {
        Self {
            first: LinearConfig::new(FEATURES, 32).init(device),
            last: LinearConfig::new(32, CLASSES).init(device),
        }
    }

    fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        let hidden = relu(self.first.forward(features));
        self.last.forward(hidden)
    }
}

#[derive(Module, Debug)]
struct Network {
    layers: Layers,
    loss: Loss,
}

impl Network {
    fn classify(&self, batch: Batch) -> ClassificationOutput {
        let logits = self.layers.forward(batch.features);
        let loss = self.loss.forward(logits.clone(), batch.classes.clone());
        ClassificationOutput::new(loss, logits, batch.classes)
    }
}

impl TrainStep for Network {
    type Input = Batch;
    type Output = ClassificationOutput;

    fn step(&self, batch: Batch) -> TrainOutput<ClassificationOutput> {
        let output = self.classify(batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Network {
    type Input = Batch;
    type Output = ClassificationOutput;

    fn step(&self, batch: Batch) -> ClassificationOutput {
        self.classify(batch)
    }
}

/// A run's name and its loss.
struct Run {
    name: &'static str,
    loss: Loss,
}

fn runs(train: &[Wine], device: &Device) -> Vec<Run> {
    let counts = class_rows(train).map(|rows| rows as u32);
    let balanced: Vec<f32> =
        cpu::class_weights(&Default::default(), &counts).into_iter().map(|weight| weight as f32).collect();
    let ours = |spec: Spec| Loss::Ours(CrossEntropyLossConfig::new(spec, CLASSES).init(device));
    let live_counts = LiveCounts { over: CountsOver::Ema { momentum: MOMENTUM }, ..LiveCounts::default() };
    let given = Spec { class_weights: ClassWeights::Given(balanced.clone()), ..Spec::default() };
    let live = Spec { class_weights: WeightScheme::Balanced.into(), live_counts, ..Spec::default() };
    let prior =
        Spec { logit_bias: LogitBias::LogPrior { tau: 1.0, smoothing: 1.0 }, live_counts, ..Spec::default() };
    vec![
        Run { name: "burn, no weights", loss: Loss::Burn(BurnLossConfig::new().init(device)) },
        Run {
            name: "burn, balanced weights",
            loss: Loss::Burn(BurnLossConfig::new().with_weights(Some(balanced)).init(device)),
        },
        Run { name: "ours, the same weights", loss: ours(given) },
        Run { name: "ours, live weights", loss: ours(live) },
        Run { name: "ours, live log-prior", loss: ours(prior) },
    ]
}

/// What a run gave.
struct Outcome {
    name: &'static str,
    /// Recall of each class, on the held-out rows.
    recalls: Vec<f64>,
    /// Forward and backward of the loss alone, on the batch of [`STEP_ROWS`].
    step_ms: f64,
    /// What burn's allocator took for that step.
    peak_bytes: u64,
    /// Tensors that the loss read back, from the first step to the last.
    read_backs: u64,
}

fn main() -> ExitCode {
    match train_all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn train_all() -> Result<(), Box<dyn Error>> {
    let (mut as_json, mut epochs) = (false, 40);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => as_json = true,
            "--epochs" => {
                let value = arguments.next().unwrap_or_default();
                epochs = value.parse().map_err(|_| format!("--epochs takes a number, not {value:?}"))?;
            }
            other => return Err(format!("{other} is no option; --json and --epochs N are").into()),
        }
    }
    let device = Device::wgpu(Default::default()).autodiff();
    device.seed(7);
    // All runs start from the same parameters.
    let layers = Layers::new(&device);
    let (train, test) = wines();
    println!(
        "red-wine quality: {:?} training rows a class, {:?} held out; {epochs} epochs of {BATCHES} batches",
        class_rows(&train),
        class_rows(&test)
    );
    let mut outcomes = Vec::new();
    for Run { name, loss } in runs(&train, &device) {
        let before = read_backs();
        let network = Network { layers: layers.clone(), loss };
        let trained = fit(name, network, &train, &test, epochs, &device)?;
        let read_backs = read_backs() - before;
        let recalls = recalls(&trained, &test)?;
        // Last: a step moves live counts on.
        let (step_ms, peak_bytes) = loss_step(&trained.loss.train(), &device)?;
        outcomes.push(Outcome { name, recalls, step_ms, peak_bytes, read_backs });
    }
    let mean = |recalls: &[f64]| recalls.iter().sum::<f64>() / recalls.len() as f64;
    println!("\nrecall of each grade from 3 to 8 on the held-out rows; loss step of {STEP_ROWS} x {CLASSES}");
    for outcome in &outcomes {
        let Outcome { name, recalls, step_ms, peak_bytes, read_backs } = outcome;
        let each: Vec<_> = recalls.iter().map(|recall| format!("{recall:.2}")).collect();
        println!(
            "{name:<24} {} mean {:.3}; {step_ms:>8.2} ms, {:>6.1} MiB, {read_backs} read-backs",
            each.join(" "),
            mean(recalls),
            *peak_bytes as f64 / f64::from(1 << 20),
        );
    }
    if as_json {
        let all = |of: &dyn Fn(&Outcome) -> serde_json::Value| outcomes.iter().map(of).collect::<Vec<_>>();
        let object = json!({
            "runs": all(&|outcome| json!(outcome.name)),
            "recalls": all(&|outcome| json!(outcome.recalls)),
            "mean_recalls": all(&|outcome| json!(mean(&outcome.recalls))),
            "step_ms": all(&|outcome| json!(outcome.step_ms)),
            "step_shape": [STEP_ROWS, CLASSES],
            "peak_bytes": all(&|outcome| json!(outcome.peak_bytes)),
            "read_backs": all(&|outcome| json!(outcome.read_backs)),
            "epochs": epochs,
        });
        println!("{object}");
    }
    Ok(())
}

/// Burn's own loop, with its metrics.
fn fit(
    name: &str,
    network: Network,
    train: &[Wine],
    test: &[Wine],
    epochs: usize,
    device: &Device,
) -> Result<Network, Box<dyn Error>> {
    let loader = |wines: &[Wine], batches: usize, device: Device| {
        DataLoaderBuilder::new(WineBatcher)
            .batch_size(wines.len().div_ceil(batches))
            .shuffle(7)
            .set_device(device)
            .build(InMemDataset::new(wines.to_vec()))
    };
    let learner = Learner::new(network, AdamConfig::new().init(), ConstantLr::new(RATE));
    let folder = std::env::temp_dir().join("burn_imbalanced");
    let training = SupervisedTraining::new(
        folder,
        loader(train, BATCHES, device.clone()),
        loader(test, BATCHES_HELD_OUT, device.clone().without_autodiff()),
    )
    .metrics((AccuracyMetric::new(), LossMetric::new(), RecallMetric::multiclass(1, ClassReduction::Macro)))
    .num_epochs(epochs)
    .label(name)
    .with_metric_logger(InMemoryMetricLogger::new())
    .with_application_logger(None)
    .renderer(Box::new(progress::Lines::default()));
    let result = training.launch(learner);
    match result.error {
        Some(error) => Err(format!("{name}: {error}").into()),
        None => Ok(result.model),
    }
}

/// Recall of each class.
fn recalls(network: &Network, wines: &[Wine]) -> Result<Vec<f64>, Box<dyn Error>> {
    let device = network.devices().first().cloned().ok_or("a network without parameters")?;
    let mut correct = [0.0; CLASSES];
    for wines in wines.chunks(wines.len().div_ceil(BATCHES_HELD_OUT)) {
        let batch = WineBatcher.batch(wines.to_vec(), &device);
        let predicted = network.layers.forward(batch.features).argmax(1).reshape([wines.len()]);
        let predicted: Vec<i32> = predicted.into_data().iter::<i32>().collect();
        for (wine, class) in wines.iter().zip(predicted) {
            correct[wine.class as usize] += f64::from(u8::from(wine.class == class));
        }
    }
    Ok(correct.iter().zip(class_rows(wines)).map(|(correct, rows)| correct / rows as f64).collect())
}

/// Milliseconds of one forward and backward of the loss, and what burn's allocator took for it.
fn loss_step(loss: &Loss, device: &Device) -> Result<(f64, u64), Box<dyn Error>> {
    let values = (0..STEP_ROWS * CLASSES).map(|i| (i * 733 % 1013) as f32 / 100.0 - 5.0).collect();
    let classes = (0..STEP_ROWS as i32).map(|i| i * 7 % 5).collect();
    let logits: Tensor<2> =
        Tensor::from_data(TensorData::new::<f32, _>(values, [STEP_ROWS, CLASSES]), device);
    let classes: Tensor<1, Int> = Tensor::from_data(TensorData::new::<i32, _>(classes, [STEP_ROWS]), device);
    let step = || -> Result<(), Box<dyn Error>> {
        let logits = logits.clone().require_grad();
        let grads = loss.forward(logits.clone(), classes.clone()).backward();
        let _of_logits = logits.grad(&grads).ok_or("no gradient")?;
        Ok(device.sync()?)
    };
    device.sync()?;
    device.memory_cleanup();
    let reserved = || device.memory_pool_usage().map_or(0, |usage| usage.bytes_reserved);
    let before = reserved();
    step()?;
    let peak_bytes = reserved().saturating_sub(before);
    let mut times = Vec::new();
    for _ in 0..STEPS {
        let began = Instant::now();
        step()?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[STEPS / 2], peak_bytes))
}
