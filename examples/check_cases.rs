//! Checks this crate against a folder of golden cases: the oracle, and every adapter of this machine.
//!
//! ```text
//! cargo run --release --example check_cases -- tests/golden
//! ```
//!
//! `--help` lists the options; `tests/golden/README.md` describes the folder's format. Exit code 1: a case failed; 2:
//! bad usage, a folder that cannot be read, no such case, or none of the adapters asked for.

#[path = "../tests/support/cases.rs"]
mod cases;
#[path = "../tests/support/golden.rs"]
mod golden;
#[path = "../tests/support/on_device.rs"]
mod on_device;
#[path = "../tests/support/rules.rs"]
mod rules;
#[path = "../tests/support/work.rs"]
mod work;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use cases::Stop;
use golden::{Case, Goldens, Part};
use lexopt::prelude::*;
use on_device::{Device, Refusal};
use serde_json::{Value as Json, json};
use wgpu_cross_entropy::{DeviceOptions, Gpu};

const HELP: &str = "\
Checks this crate against a folder of golden cases.

Usage: check_cases [OPTIONS] FOLDER

    --cpu            the oracle alone
    --gpu            every adapter, without a verdict on the oracle
    --adapter NAME   the adapters whose name or driver holds NAME, in any case of letters, and the oracle
    --filter TEXT    only cases whose op, group or name (group/name) holds TEXT
    --errors         a table of errors against f64: the framework's own f32 results beside this crate's
    --json           a summary as JSON in the last line
    --help           this text
";

/// What the command line asks for.
struct Arguments {
    folder: PathBuf,
    oracle: bool,
    devices: bool,
    adapter: Option<String>,
    filter: Option<String>,
    errors: bool,
    json: bool,
}

/// `None` where only help was asked for.
fn arguments() -> Result<Option<Arguments>, lexopt::Error> {
    let (mut folder, mut cpu, mut gpu, mut adapter, mut filter) = (None, false, false, None, None);
    let (mut errors, mut json) = (false, false);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("cpu") => cpu = true,
            Long("gpu") => gpu = true,
            Long("adapter") => adapter = Some(parser.value()?.string()?),
            Long("filter") => filter = Some(parser.value()?.string()?),
            Long("errors") => errors = true,
            Long("json") => json = true,
            Short('h') | Long("help") => return Ok(None),
            Value(path) if folder.is_none() => folder = Some(PathBuf::from(path)),
            other => return Err(other.unexpected()),
        }
    }
    if cpu && (gpu || adapter.is_some()) {
        return Err("--cpu does not go with --gpu and --adapter".into());
    }
    let folder = folder.ok_or("a folder of cases is missing; --help lists the options")?;
    Ok(Some(Arguments { folder, oracle: !gpu, devices: !cpu, adapter, filter, errors, json }))
}

/// What became of a case.
enum Verdict {
    Passed,
    Failed(Vec<Json>),
    Skipped(String),
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return unusable(&error),
    };
    let goldens = match Goldens::open(&arguments.folder) {
        Ok(goldens) => goldens,
        Err(error) => return unusable(&error),
    };
    let mut devices = match devices(&arguments) {
        Ok(devices) => devices,
        Err(error) => return unusable(&error),
    };
    if arguments.oracle {
        println!("oracle: f64 on the CPU");
    }
    devices.iter().for_each(|device| println!("device: {}", device.describe()));

    let began = Instant::now();
    let mut summary = Summary::default();
    for case in goldens.cases.iter().filter(|case| wanted(case, arguments.filter.as_deref())) {
        // A folder may hold anything: what no check foresaw fails its own case alone.
        let verdict = catch_unwind(AssertUnwindSafe(|| {
            check(&goldens, case, arguments.oracle, &mut devices, &mut summary)
        }));
        let panicked = || {
            let message = "it panicked; the message stands above";
            Verdict::Failed(vec![json!({ "case": case.id(), "op": case.op, "on": "?", "message": message })])
        };
        summary.add(case, verdict.unwrap_or_else(|_| panicked()));
    }
    if summary.by_op.is_empty() {
        return unusable(&"there is no such case in the folder");
    }
    summary.print();
    if arguments.errors {
        summary.errors.print(&devices);
    }
    println!("{:.1} s", began.elapsed().as_secs_f64());
    if arguments.json {
        println!("{}", summary.json());
    }
    if summary.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn unusable(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("check_cases: {error}");
    ExitCode::from(2)
}

fn wanted(case: &Case, filter: Option<&str>) -> bool {
    filter.is_none_or(|text| case.op.contains(text) || case.id().contains(text))
}

/// The adapters asked for; the oracle alone will do where there are none and nobody asked for one.
fn devices(arguments: &Arguments) -> Result<Vec<Device>, String> {
    if !arguments.devices {
        return Ok(Vec::new());
    }
    let gpus = pollster::block_on(Gpu::all(&DeviceOptions::default()));
    let names: Vec<String> = gpus.iter().map(Gpu::describe).collect();
    let named = |gpu: &Gpu| {
        let name = gpu.describe().to_lowercase();
        arguments.adapter.as_ref().is_none_or(|wanted| name.contains(&wanted.to_lowercase()))
    };
    let devices: Vec<Device> = gpus.into_iter().filter(named).map(Device::new).collect();
    match (devices.is_empty(), &arguments.adapter) {
        (true, Some(wanted)) => Err(format!("no adapter is named like {wanted:?}; there are {names:?}")),
        (true, None) if !arguments.oracle => Err("there is no adapter".into()),
        _ => Ok(devices),
    }
}

/// Asks the oracle and the devices. The summary collects what was not compared and what passed a limit of a device.
fn check(
    goldens: &Goldens,
    case: &Case,
    with_oracle: bool,
    devices: &mut [Device],
    summary: &mut Summary,
) -> Verdict {
    let failure =
        |on: &str, what: String| json!({ "case": case.id(), "op": case.op, "on": on, "message": what });
    let work = match cases::work(goldens, case) {
        Ok(work) => work,
        Err(Stop::Unsupported { reason }) => return Verdict::Skipped(reason),
        Err(Stop::Malformed(what)) => return Verdict::Failed(vec![failure("the case itself", what)]),
    };
    let solved = match work.solve() {
        Ok(solved) => solved,
        Err(error) => return Verdict::Failed(vec![failure("oracle", error.to_string())]),
    };
    for output in &work.left_out {
        *summary.left_out.entry(output.clone()).or_default() += 1;
    }
    let oracle: Vec<work::Answer> = solved.iter().map(|solved| solved.answer.clone()).collect();
    let mut failures = Vec::new();
    let mut runs = 0;
    if with_oracle {
        runs += 1;
        failures.extend(work.failures(&oracle, None).iter().map(|wrong| failed(case, "oracle", wrong)));
    }
    let mut answered = Vec::new();
    for (number, device) in devices.iter_mut().enumerate() {
        let name = device.describe();
        match pollster::block_on(device.answers(&work.calls, &solved)) {
            Ok(answers) => {
                runs += 1;
                let wrong = work.failures(&answers, Some(&oracle));
                failures.extend(wrong.iter().map(|wrong| failed(case, &name, wrong)));
                answered.push((number, answers));
            }
            Err(Refusal::Limit(what)) => summary.not_run.push(format!("{}, {name}: {what}", case.id())),
            Err(Refusal::Failed(what)) => failures.push(failure(&name, what)),
        }
    }
    summary.errors.add(goldens, case, &work, &oracle, &answered);
    match (failures.is_empty(), runs) {
        (false, _) => Verdict::Failed(failures),
        (true, 0) => Verdict::Skipped("it passes a limit of every device".into()),
        (true, _) => Verdict::Passed,
    }
}

fn failed(case: &Case, on: &str, wrong: &work::Failure) -> Json {
    let mut value = json!({ "case": case.id(), "op": case.op, "on": on, "message": wrong.to_string(), "output": wrong.output });
    if let Some(at) = &wrong.at {
        value["index"] = at.index.into();
        value["got"] = number(at.got);
        value["expected"] = number(at.want);
        value["tolerance"] = number(at.derived + at.oracle_off);
    }
    value
}

/// JSON has no NaN and no infinities: those are texts.
fn number(x: f64) -> Json {
    if x.is_finite() { x.into() } else { x.to_string().into() }
}

/// The worst errors against `f64`, by the size of the logits, the framework, and losses or gradients.
#[derive(Default)]
struct Errors(BTreeMap<(u32, &'static str, &'static str), ErrorRow>);

/// Each error is the largest difference of an output over its largest value; of all outputs the worst counts.
#[derive(Default)]
struct ErrorRow {
    outputs: usize,
    framework: f64,
    /// Where the framework's error is.
    worst_case: String,
    /// The oracle rounded to `f32`: what no `f32` result can beat by much.
    oracle: f64,
    /// By number of the device.
    devices: BTreeMap<usize, f64>,
}

impl Errors {
    /// Compares the losses and gradients that the framework has computed in `f32` by rules that are the crate's too.
    /// `devices`: number and answers.
    fn add(
        &mut self,
        goldens: &Goldens,
        case: &Case,
        work: &work::Work,
        oracle: &[work::Answer],
        devices: &[(usize, Vec<work::Answer>)],
    ) {
        let framework = match case.framework.to_lowercase() {
            name if name.starts_with("torch") => "PyTorch",
            name if name.starts_with("keras 3") || name.starts_with("tf_keras") => "Keras",
            _ => return,
        };
        let Some(work::Call::Loss(loss)) = work.calls.first() else { return };
        let largest = loss.logits.iter().filter(|x| x.is_finite()).fold(0.0f32, |m, x| m.max(x.abs()));
        let Some(scale) = [3, 30, 300].into_iter().find(|most| largest <= *most as f32) else { return };
        if !work.deviations.is_empty() {
            return;
        }
        for check in &work.checks {
            let kind = match check.name.as_str() {
                "loss" | "per_sample" => "losses",
                name if name.starts_with("grad_") => "gradients",
                _ => continue,
            };
            let single = case
                .tensors(Part::FrameworkResult)
                .get(&check.name)
                .is_some_and(|entry| entry.dtype == "F32");
            let Ok(theirs) = goldens.f64s(case, Part::FrameworkResult, &check.name) else { continue };
            let finite = || (0..check.want.len()).filter(|&i| check.want[i].is_finite());
            let size = finite().fold(0.0f64, |m, i| m.max(check.want[i].abs()));
            let error = |got: &dyn Fn(usize) -> f64| {
                finite().fold(0.0f64, |m, i| m.max((got(i) - check.want[i]).abs())) / size
            };
            // Where all is below f32's normal numbers no f32 result means anything.
            let comparable = single && theirs.values.len() == check.want.len();
            if !comparable || size < f64::from(f32::MIN_POSITIVE) {
                continue;
            }
            let of = |answers: &[work::Answer]| (check.read)(answers);
            let exact = of(oracle);
            // The expected values are of formulas that cancel where nearly nothing is left of a loss; the oracle's do not.
            if error(&|i| exact[i].value) > 1e-9 {
                continue;
            }
            let row = self.0.entry((scale, framework, kind)).or_default();
            row.outputs += 1;
            let their_error = error(&|i| theirs.values[i]);
            if their_error > row.framework {
                (row.framework, row.worst_case) = (their_error, case.id());
            }
            row.oracle = row.oracle.max(error(&|i| f64::from(exact[i].value as f32)));
            for (number, answers) in devices {
                let got = of(answers);
                let worst = row.devices.entry(*number).or_default();
                *worst = worst.max(error(&|i| got[i].value));
            }
        }
    }

    fn print(&self, devices: &[Device]) {
        println!("\nworst error over the largest value of an output, against f64:");
        print!(
            "{:<14}{:<10}{:<11}{:>8}{:>12}{:>16}",
            "logits up to", "against", "", "outputs", "theirs", "oracle in f32"
        );
        (0..devices.len()).for_each(|number| print!("{:>12}", format!("device {number}")));
        println!("  their worst case");
        for ((scale, framework, kind), row) in &self.0 {
            print!(
                "{scale:<14}{framework:<10}{kind:<11}{:>8}{:>12.1e}{:>16.1e}",
                row.outputs, row.framework, row.oracle
            );
            row.devices.values().for_each(|error| print!("{error:>12.1e}"));
            println!("  {}", row.worst_case);
        }
        for (number, device) in devices.iter().enumerate() {
            println!("device {number}: {}", device.describe());
        }
    }
}

/// Counts of one op.
#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

#[derive(Default)]
struct Summary {
    by_op: BTreeMap<String, Counts>,
    failures: Vec<Json>,
    skips: Vec<Json>,
    reasons: BTreeMap<String, usize>,
    left_out: BTreeMap<work::LeftOut, usize>,
    not_run: Vec<String>,
    errors: Errors,
}

impl Summary {
    /// Counts a verdict, and prints a failure at once.
    fn add(&mut self, case: &Case, verdict: Verdict) {
        let counts = self.by_op.entry(case.op.clone()).or_default();
        match verdict {
            Verdict::Passed => counts.passed += 1,
            Verdict::Failed(failures) => {
                counts.failed += 1;
                for failure in failures {
                    let text = |key: &str| failure[key].as_str().unwrap_or_default();
                    println!("FAIL {} ({}), {}: {}", text("case"), text("op"), text("on"), text("message"));
                    self.failures.push(failure);
                }
            }
            Verdict::Skipped(reason) => {
                counts.skipped += 1;
                self.skips.push(json!({ "case": case.id(), "reason": reason }));
                *self.reasons.entry(reason).or_default() += 1;
            }
        }
    }

    fn sum(&self, of: impl Fn(&Counts) -> usize) -> usize {
        self.by_op.values().map(of).sum()
    }

    fn failed(&self) -> usize {
        self.sum(|counts| counts.failed)
    }

    fn print(&self) {
        println!("{:<32}{:>8}{:>8}{:>8}", "op", "passed", "failed", "skipped");
        for (op, Counts { passed, failed, skipped }) in &self.by_op {
            println!("{op:<32}{passed:>8}{failed:>8}{skipped:>8}");
        }
        self.reasons.iter().for_each(|(reason, n)| println!("{n:>4} skipped: {reason}"));
        for (work::LeftOut { name, reason }, n) in &self.left_out {
            println!("{n:>4} outputs {name} not compared: {reason}");
        }
        self.not_run.iter().for_each(|what| println!("not run: {what}"));
        println!(
            "{} passed, {} failed, {} skipped",
            self.sum(|counts| counts.passed),
            self.failed(),
            self.sum(|counts| counts.skipped)
        );
    }

    fn json(&self) -> Json {
        let by_op: serde_json::Map<String, Json> = self
            .by_op
            .iter()
            .map(|(op, Counts { passed, failed, skipped })| {
                let cases = passed + failed + skipped;
                let counts =
                    json!({ "cases": cases, "passed": passed, "failed": failed, "skipped": skipped });
                (op.clone(), counts)
            })
            .collect();
        json!({
            "cases": self.sum(|counts| counts.passed + counts.failed + counts.skipped),
            "passed": self.sum(|counts| counts.passed),
            "failed": self.failed(),
            "skipped": self.sum(|counts| counts.skipped),
            "by_op": by_op,
            "failures": self.failures,
            "skips": self.skips,
            "not_run": self.not_run,
        })
    }
}
