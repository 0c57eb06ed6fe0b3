//! Weighted cross-entropy, forward and backward, as burn composes it and as our kernels do inside burn: the same tensors, the
//! same adapter, the same run. Nothing is timed before losses and gradients of both agree.
//!
//! ```text
//! cargo bench --manifest-path integrations/burn/Cargo.toml                            # every shape that the device takes
//! cargo bench --manifest-path integrations/burn/Cargo.toml -- --quick                 # smaller batches
//! cargo bench --manifest-path integrations/burn/Cargo.toml -- --shape 8192x1000       # one of them
//! cargo bench --manifest-path integrations/burn/Cargo.toml -- --json                  # the last line is JSON, as the report's
//! ```

#[path = "../../../benches/kernels/data.rs"]
#[allow(dead_code, reason = "the benches of the kernels use more of it")]
mod data;
#[path = "../../../benches/measure/mod.rs"]
mod measure;
#[path = "../../../benches/report/results.rs"]
#[allow(dead_code, reason = "the report compares runs too")]
mod results;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use burn::backend::DispatchDevice;
use burn::nn::loss::{CrossEntropyLoss as Composed, CrossEntropyLossConfig as ComposedConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::{Value, json};
use wgpu_cross_entropy::{ClassWeights, DeviceOptions, Gpu, Shape, Spec, cpu};
use wgpu_cross_entropy_burn::{CrossEntropyLoss, CrossEntropyLossConfig, read_backs};

use data::{CASES, Data, at_most, name_of, traffic};
use measure::{CPU_LOGITS, Clock, Copies};
use results::{Machine, Report, Row};

/// The most logits of a batch with `--quick`.
const QUICK_LOGITS: u64 = 1 << 18;
/// Timed steps of each, one after the other in turn.
const STEPS: usize = 5;
/// How far our loss may be from the oracle's, of its value.
const OF_THE_ORACLE: f64 = 1e-5;
/// How far burn's may be from ours: it adds up the losses of all rows in `f32`, 1.3e-3 off of 3.2 at 419,430 rows.
const LOSSES: f32 = 1e-2;
/// How far gradients may be apart, of the largest.
const GRADIENTS: f32 = 1e-4;

type Failure = Box<dyn Error>;

/// One of the two.
#[allow(clippy::large_enum_variant, reason = "there are two of them")]
enum Peer {
    Burn(Composed),
    Ours(CrossEntropyLoss),
}

impl Peer {
    fn name(&self) -> &'static str {
        match self {
            Self::Burn(_) => "burn",
            Self::Ours(_) => "ours_in_burn",
        }
    }

    fn loss(&self, logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
        match self {
            Self::Burn(loss) => loss.forward(logits, labels),
            Self::Ours(loss) => loss.forward(logits, labels),
        }
    }
}

/// A batch on the device.
struct Batch {
    logits: Tensor<2>,
    labels: Tensor<1, Int>,
}

impl Batch {
    fn new(data: &Data, device: &Device) -> Self {
        let shape = [data.shape.rows as usize, data.shape.classes as usize];
        Self {
            logits: Tensor::from_data(TensorData::new(data.logits(), shape), device),
            labels: Tensor::from_data(TensorData::new(data.labels.clone(), [shape[0]]), device),
        }
    }

    /// One step, to its end on the device.
    fn step(&self, peer: &Peer, device: &Device) -> Result<(Tensor<1>, Tensor<2>), Failure> {
        let logits = self.logits.clone().require_grad();
        let loss = peer.loss(logits.clone(), self.labels.clone());
        let grads = loss.backward();
        let grads = logits.grad(&grads).ok_or("the logits have no gradient")?;
        device.sync()?;
        Ok((loss, grads))
    }
}

/// What a peer took for a batch.
struct Taken {
    ms: f64,
    /// What burn's allocator took from the driver for one step beyond the batch.
    peak_bytes: u64,
}

fn main() -> ExitCode {
    match bench() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<ExitCode, Failure> {
    let (mut quick, mut as_json, mut wanted) = (false, false, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => quick = true,
            "--json" => as_json = true,
            // What cargo adds.
            "--bench" => {}
            "--shape" => wanted = Some(arguments.next().ok_or("--shape takes ROWSxCLASSES")?),
            other => return Err(format!("{other} is no option; --quick, --json and --shape NAME are").into()),
        }
    }
    let device = Device::wgpu(Default::default()).autodiff();
    // The same adapter, for the copies.
    let gpu =
        Gpu::new_blocking(&DeviceOptions { adapter_name: Some(adapter_of(&device)?), ..Default::default() })?;
    println!("{}", gpu.describe());
    let (clock, copies) = (Clock::new(&gpu), Copies::new(&gpu)?);
    let cpu = gpu.info.device_type == wgpu::DeviceType::Cpu;
    let mut most = gpu.device.limits().max_storage_buffer_binding_size / 4;
    if cpu {
        most = most.min(CPU_LOGITS);
    }
    if quick {
        most = most.min(QUICK_LOGITS);
    }
    let (mut rows, mut extras, mut failed) = (Vec::new(), Vec::new(), false);
    let mut best_copy = 0.0f64;
    println!("{}  peak MiB  times ours", Row::HEAD);
    // burn's own loss is of two dimensions, class-last.
    for shape in CASES.iter().map(|case| case.shape).filter(|shape| shape.inner == 1) {
        let shape = at_most(shape, most);
        if wanted.as_ref().is_some_and(|wanted| !name_of(&shape).contains(wanted.as_str())) {
            continue;
        }
        let ceiling = copies.measure(&clock, traffic(&shape, 8, 8), false)?.best_shader();
        best_copy = best_copy.max(ceiling);
        let [burn, ours] = match compare(shape, &device) {
            Ok(both) => both,
            Err(error) => {
                eprintln!("FAILED {}: {error}", name_of(&shape));
                failed = true;
                continue;
            }
        };
        for (peer, taken) in [("burn", &burn), ("ours_in_burn", &ours)] {
            let gbps = traffic(&shape, 8, 8) as f64 / taken.ms / 1e6;
            let row = Row {
                kernel: peer.into(),
                shape: name_of(&shape),
                rows: shape.rows,
                classes: shape.classes,
                dtype: "f32".into(),
                strategy: "forward and backward".into(),
                ms: taken.ms,
                gbps,
                ceiling_fraction: gbps / ceiling,
                dispatches: 0,
            };
            let ratio = taken.ms / ours.ms;
            println!("{row} {:>9.1} {ratio:>11.2}", taken.peak_bytes as f64 / f64::from(1 << 20));
            rows.push(row);
            extras.push(json!({ "peak_bytes": taken.peak_bytes, "times_ours": ratio }));
        }
    }
    println!("{} tensors were read back by our loss", read_backs());
    if as_json {
        let report = Report { machine: Machine::of(&gpu), ceiling_gbps: best_copy, rows };
        let mut report = report.to_json();
        let results = report["results"].as_array_mut().into_iter().flatten();
        for (row, extra) in results.zip(extras) {
            // Dispatches are not counted here.
            if let (Value::Object(row), Value::Object(extra)) = (row, extra) {
                row.remove("dispatches");
                row.extend(extra);
            }
        }
        println!("{report}");
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The name of the adapter that burn took.
fn adapter_of(device: &Device) -> Result<String, Failure> {
    match device.clone().without_autodiff().as_dispatch() {
        DispatchDevice::Cube(device) => Ok(device.client().properties().identity.name.clone()),
        other => Err(format!("burn's device is no wgpu device: {other:?}").into()),
    }
}

/// burn's, and ours.
fn compare(shape: Shape, device: &Device) -> Result<[Taken; 2], Failure> {
    let data = Data::new(shape);
    let batch = Batch::new(&data, device);
    let ClassWeights::Given(weights) = data.class_weights() else { return Err("no weights".into()) };
    let spec = Spec { class_weights: ClassWeights::Given(weights.clone()), ..Spec::default() };
    let burn = Peer::Burn(ComposedConfig::new().with_weights(Some(weights)).init(device));
    let ours = Peer::Ours(CrossEntropyLossConfig::new(spec.clone(), shape.classes as usize).init(device));
    let peers = [burn, ours];

    let [(loss, grads), (our_loss, our_grads)] =
        [batch.step(&peers[0], device)?, batch.step(&peers[1], device)?];
    let (our_loss, logits) = (our_loss.into_data(), data.logits());
    let want = cpu::compute(&spec, &shape, &data.inputs(&logits))?.totals.loss;
    let got = our_loss.iter::<f32>().next().map_or(f64::NAN, f64::from);
    // A NaN is no agreement.
    if got.is_nan() || (got - want).abs() > OF_THE_ORACLE * want.abs() {
        return Err(format!("our loss is {got}, the oracle's {want}").into());
    }
    agree("losses", loss.into_data(), our_loss, LOSSES)?;
    agree("gradients", grads.into_data(), our_grads.into_data(), GRADIENTS)?;

    let reserved = || device.memory_pool_usage().map_or(0, |usage| usage.bytes_reserved);
    let mut peaks = [0; 2];
    let mut times = [Vec::new(), Vec::new()];
    for ((peer, peak), times) in peers.iter().zip(&mut peaks).zip(&mut times) {
        device.sync()?;
        device.memory_cleanup();
        device.sync()?;
        let before = reserved();
        batch.step(peer, device)?;
        *peak = reserved().saturating_sub(before);
        for _ in 0..STEPS {
            let began = Instant::now();
            batch.step(peer, device)?;
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        eprintln!("{} {}: {times:.3?} ms", peer.name(), name_of(&shape));
    }
    let [burn, ours] = times.map(|times| times[STEPS / 2]);
    Ok([Taken { ms: burn, peak_bytes: peaks[0] }, Taken { ms: ours, peak_bytes: peaks[1] }])
}

fn agree(what: &str, burn: TensorData, ours: TensorData, bound: f32) -> Result<(), Failure> {
    let pairs = || burn.iter::<f32>().zip(ours.iter::<f32>());
    let largest = pairs().map(|(burn, ours)| burn.abs().max(ours.abs())).fold(0.0, f32::max);
    let worst = pairs().map(|(burn, ours)| (burn - ours).abs()).fold(0.0, f32::max);
    // A NaN is no agreement.
    match worst <= bound * largest && pairs().all(|(burn, ours)| burn.is_finite() && ours.is_finite()) {
        true => Ok(()),
        false => Err(format!("{what} differ by {worst:e}, the largest being {largest:e}").into()),
    }
}
