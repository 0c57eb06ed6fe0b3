//! Weighted softmax cross-entropy, forward and backward, by our kernels and by what one would use instead: the same batches,
//! the same process, and, of what runs on a GPU, the same adapter.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml                            # every shape that the device takes
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- --quick                 # smaller batches
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- --shape 8192x1000       # the shapes whose name holds this
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- --peer ours --peer burn # some of the peers
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- --out FOLDER            # also report.json
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- --json                  # the last line is JSON
//! ```
//!
//! Each peer's loss and gradients are held against the oracle's before it is timed, and how far they are off is a column: see
//! [`Errors`]. The JSON is that of `cargo bench --bench report`, whose `--compare` puts it beside other runs.

mod candle;
#[path = "../../kernels/data.rs"]
#[allow(dead_code, reason = "the benches of the kernels use more of it")]
mod data;
mod errors;
#[path = "../../measure/mod.rs"]
mod measure;
mod peers;
#[path = "../../report/results.rs"]
#[allow(dead_code, reason = "the report compares runs too")]
mod results;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wgpu_cross_entropy::{DeviceOptions, Gpu, Shape, Spec, cpu};

use data::{Data, at_most, distinct, name_of, traffic};
use errors::Errors;
use measure::{CPU_LOGITS, Clock, Copies, Failure};
use peers::{Peer, Which, burn_device, name_of_adapter};
use results::{Machine, Report, Row};

/// The most rows of a batch on a CPU device. burn adds up rows, up to four at a time, in one loop of one invocation, and
/// llvmpipe leaves every loop after 65,535 turns without a word: the sum of 419,430 ones is 131,066 there, gradients are 3.2
/// times too large, and the check refuses them.
const CPU_ROWS: u64 = 1 << 17;
/// The most logits of a batch with `--quick`.
const QUICK_LOGITS: u64 = 1 << 18;
/// Rounds in which each peer takes a step: at least so many, and more while they take less than [`LONG_ENOUGH`] together.
const ROUNDS: usize = 5;
const MOST_ROUNDS: usize = 51;
const LONG_ENOUGH: Duration = Duration::from_secs(2);
/// Untimed steps after the one that is checked: a tuner may look at a key more than once.
const WARM: usize = 2;

/// What the command line asks for.
#[derive(Default)]
struct Wanted {
    out: Option<PathBuf>,
    quick: bool,
    json: bool,
    shape: Option<String>,
    peers: Vec<Which>,
}

impl Wanted {
    fn parse() -> Result<Self, Failure> {
        use lexopt::Arg::Long;
        use lexopt::ValueExt;
        let mut wanted = Self::default();
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("out") => wanted.out = Some(parser.value()?.into()),
                Long("shape") => wanted.shape = Some(parser.value()?.string()?),
                Long("peer") => wanted.peers.push(parser.value()?.parse_with(Which::named)?),
                Long("quick") => wanted.quick = true,
                Long("json") => wanted.json = true,
                other => return Err(other.unexpected().into()),
            }
        }
        if wanted.peers.is_empty() {
            wanted.peers = Which::ALL.to_vec();
        }
        Ok(wanted)
    }
}

/// A peer at a shape: what it took, and how right it was.
struct Found {
    which: Which,
    ms: f64,
    /// Until all was queued; the device may have begun long before.
    host_ms: f64,
    dispatches: Option<usize>,
    /// Beyond the batch itself.
    peak_bytes: Option<u64>,
    errors: Errors,
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
    let wanted = Wanted::parse()?;
    let device = burn_device();
    // Another device on the adapter that burn took, for our own plan and the copies.
    let adapter_name = Some(name_of_adapter(&device)?);
    let gpu = Gpu::new_blocking(&DeviceOptions { adapter_name, ..DeviceOptions::default() })?;
    println!("{}", gpu.describe());
    let (clock, copies) = (Clock::new(&gpu), Copies::new(&gpu)?);
    let on_cpu = gpu.info.device_type == wgpu::DeviceType::Cpu;
    let mut most = gpu.device.limits().max_storage_buffer_binding_size / 4;
    if on_cpu {
        most = most.min(CPU_LOGITS);
    }
    if wanted.quick {
        most = most.min(QUICK_LOGITS);
    }
    let here = |shape: Shape| {
        let of_rows = if on_cpu { CPU_ROWS * u64::from(shape.classes) } else { u64::MAX };
        at_most(shape, most.min(of_rows))
    };
    let (mut rows, mut extras, mut failed) = (Vec::new(), Vec::new(), false);
    let mut least: Option<(f64, f64, String)> = None;
    let mut best_copy = 0.0f64;
    println!(
        "{:<13} {:>14} {:>10} {:>9} {:>7} {:>7} {:>8} {:>9} {:>9} {:>10}",
        "peer",
        "shape",
        "ms",
        "host ms",
        "GB/s",
        "of copy",
        "peak MiB",
        "loss off",
        "grads off",
        "times ours"
    );
    for (_, shape) in distinct(|case| here(case.shape)) {
        let name = name_of(&shape);
        if wanted.shape.as_ref().is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        let bytes = traffic(&shape, 8, 8);
        let ceiling = copies.measure(&clock, bytes, false)?.best_shader();
        best_copy = best_copy.max(ceiling);
        let found = compare(&wanted.peers, shape, &gpu, &device, &mut failed)?;
        let of = |which| found.iter().find(|found| found.which == which).map(|found| found.ms);
        let ours = of(Which::Ours);
        for found in &found {
            let Found { which, ms, host_ms, dispatches, peak_bytes, errors } = found;
            let gbps = bytes as f64 / ms / 1e6;
            let times = ours.map(|ours| ms / ours);
            println!(
                "{:<13} {name:>14} {ms:>10.3} {host_ms:>9.3} {gbps:>7.3} {:>6.1}% {:>8} {:>9.1e} {:>9.1e} {:>10}",
                which.name(),
                100.0 * gbps / ceiling,
                peak_bytes.map_or("-".into(), |bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20))),
                errors.loss,
                errors.grads,
                times.map_or("-".into(), |times| format!("{times:.2}")),
            );
            rows.push(Row {
                kernel: which.name().into(),
                shape: name.clone(),
                rows: shape.rows,
                classes: shape.classes,
                dtype: "f32".into(),
                strategy: "forward and backward".into(),
                ms: *ms,
                gbps,
                ceiling_fraction: gbps / ceiling,
                dispatches: dispatches.unwrap_or(0),
            });
            extras.push(json!({
                "dispatches": dispatches,
                "host_ms": host_ms,
                "peak_bytes": peak_bytes,
                "loss_error": errors.loss,
                "gradient_error": errors.grads,
                "times_ours": times,
            }));
        }
        if let (Some(burn), Some(ours), Some(inside)) = (of(Which::Burn), ours, of(Which::OursInBurn)) {
            let (alone, inside) = (burn / ours, burn / inside);
            let host = found.iter().find(|found| found.which == Which::Burn).map_or(0.0, |burn| burn.host_ms);
            println!(
                "{name}: burn takes {alone:.1} times our plan's time, {inside:.1} times ours inside burn; its host {:.0} % of it",
                100.0 * host / burn
            );
            if least.as_ref().is_none_or(|(least, ..)| alone < *least) {
                least = Some((alone, inside, name));
            }
        }
    }
    if let Some((alone, inside, name)) = least {
        println!("the least: {alone:.1} times our plan's ({inside:.1} times ours inside burn) at {name}");
    }
    println!("{} tensors were read back by our loss", wgpu_cross_entropy_burn::read_backs());
    let report = Report { machine: Machine::of(&gpu), ceiling_gbps: best_copy, rows };
    let mut report = report.to_json();
    let results = report["results"].as_array_mut().into_iter().flatten();
    for (row, extra) in results.zip(extras) {
        if let (Value::Object(row), Value::Object(extra)) = (row, extra) {
            row.extend(extra);
        }
    }
    if let Some(folder) = &wanted.out {
        std::fs::create_dir_all(folder)?;
        let file = folder.join("report.json");
        std::fs::write(&file, format!("{report}\n"))?;
        println!("{}", file.display());
    }
    if wanted.json {
        println!("{report}");
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Checks each peer, then lets them take their steps in turns: a shared machine changes from second to second. A peer that
/// cannot take the shape or is wrong is left out, and said.
fn compare(
    wanted: &[Which],
    shape: Shape,
    gpu: &Gpu,
    device: &burn::tensor::Device,
    failed: &mut bool,
) -> Result<Vec<Found>, Failure> {
    let data = Data::new(shape);
    let logits = data.logits();
    let spec = Spec { class_weights: data.class_weights(), ..Spec::default() };
    let oracle = cpu::compute(&spec, &shape, &data.inputs(&logits))?;
    let mut ready: Vec<(Which, Box<dyn Peer>, Errors, Option<u64>)> = Vec::new();
    for &which in wanted {
        let set_up = || -> Result<_, Failure> {
            let mut peer = which.set_up(&data, &spec, gpu, device)?;
            let (loss, grads) = peer.answer()?;
            let errors = Errors::of(loss, &grads, &oracle);
            errors.check(&shape)?;
            drop(grads);
            let peak_bytes = peer.peak_bytes()?;
            for _ in 0..WARM {
                peer.step()?;
            }
            Ok((peer, errors, peak_bytes))
        };
        match set_up() {
            Ok((peer, errors, peak_bytes)) => ready.push((which, peer, errors, peak_bytes)),
            Err(error) => {
                eprintln!("FAILED {} {}: {error}", which.name(), name_of(&shape));
                *failed = true;
            }
        }
    }
    let mut times = vec![Vec::new(); ready.len()];
    let began = Instant::now();
    for round in 0..MOST_ROUNDS {
        if round >= ROUNDS && began.elapsed() > LONG_ENOUGH {
            break;
        }
        for ((_, peer, ..), times) in ready.iter_mut().zip(&mut times) {
            times.push(peer.step()?);
        }
    }
    let found = ready.into_iter().zip(times).map(|((which, peer, errors, peak_bytes), mut times)| {
        times.sort_by_key(|took| took.whole);
        let median = times[times.len() / 2];
        Found {
            which,
            ms: median.whole.as_secs_f64() * 1e3,
            host_ms: median.host.as_secs_f64() * 1e3,
            dispatches: peer.dispatches(),
            peak_bytes,
            errors,
        }
    });
    Ok(found.collect())
}
