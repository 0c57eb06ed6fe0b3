//! The golden cases of Keras, PyTorch and scikit-learn, through the oracle.
//!
//! What a case asks is worked out in `tests/support/cases.rs`. A case that stops running, or a new one that nobody
//! looked at, fails here by the numbers.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cases::{self, Stop};
use crate::golden::{self, Goldens, Part};
use crate::work::{Answer, Deviation, LeftOut, Number, Numbers, Work};
use wgpu_cross_entropy::ClassStats;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

/// How many cases of each op the oracle runs, and how many there are.
const RUN: [(&str, usize, usize); 27] = [
    ("accuracy", 10, 10),
    ("bce", 65, 65),
    ("binary_accuracy", 2, 2),
    ("class_counts", 18, 18),
    ("class_counts_soft", 4, 4),
    ("class_counts_weighted", 8, 8),
    ("class_weight_to_sample_weight", 12, 12),
    ("class_weights", 7, 9),
    ("class_weights_from_counts", 5, 5),
    ("cost_matrix_ce", 32, 32),
    ("cost_matrix_ce_onehot", 1, 1),
    ("dynamic_bce", 40, 40),
    ("dynamic_bce_losses_api", 3, 3),
    ("dynamic_ce", 24, 24),
    ("dynamic_class_weight_ce", 10, 10),
    ("effective_number", 38, 38),
    ("fit_epoch", 8, 8),
    ("log_loss", 11, 12),
    ("log_softmax", 10, 10),
    ("nll", 14, 14),
    ("sample_weight_indices", 0, 1),
    ("sample_weight_multioutput", 0, 1),
    ("seed_mse", 0, 5),
    ("sigmoid_focal", 18, 18),
    ("softmax_ce", 440, 455),
    ("softmax_focal", 46, 46),
    ("threshold_mse", 0, 1),
];

/// How many cases each deviation was needed in.
const DEVIATIONS: [(Deviation, usize); 8] = [
    (Deviation::EmptyMean, 4),
    (Deviation::IgnoredRow, 2),
    (Deviation::LogitLimit, 1),
    (Deviation::ZeroTimesInfinity, 3),
    (Deviation::NotFinite, 1),
    (Deviation::TrueDerivative, 3),
    (Deviation::EmptyTarget, 4),
    (Deviation::OneSidedBatch, 5),
];

/// Expected outputs that are none of the crate's, by name.
const LEFT_OUT: [(&str, usize); 2] = [("effective_sample_weight", 10), ("raw", 38)];

#[test]
fn oracle_equals_the_frameworks() {
    let goldens = Goldens::open(FOLDER).unwrap();
    let mut table: BTreeMap<&str, (usize, usize, BTreeMap<String, usize>)> = BTreeMap::new();
    let mut deviations: BTreeMap<Deviation, usize> = BTreeMap::new();
    let mut left_out: BTreeMap<LeftOut, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for (case, outcome) in goldens.cases.iter().zip(run_all(&goldens)) {
        let (run, all, reasons) = table.entry(&case.op).or_default();
        *all += 1;
        match outcome {
            Outcome::Ran(used, outputs, wrong) => {
                *run += 1;
                used.into_iter().for_each(|deviation| *deviations.entry(deviation).or_default() += 1);
                outputs.into_iter().for_each(|output| *left_out.entry(output).or_default() += 1);
                failures.extend(wrong.into_iter().map(|what| format!("{}: {what}", case.id())));
            }
            Outcome::Stopped(Stop::Unsupported { reason }) => *reasons.entry(reason).or_default() += 1,
            Outcome::Stopped(Stop::Malformed(what)) => failures.push(format!("{}: {what}", case.id())),
        }
    }
    // Written past the test harness, which keeps what passing tests print: CI shows how many cases ran.
    let mut out = std::io::stdout();
    writeln!(out, "\ngolden cases on the oracle:\n{:<32}{:>6}{:>6}  not expressible", "op", "cases", "run")
        .unwrap();
    for (op, (run, all, reasons)) in &table {
        let reasons: Vec<String> = reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        writeln!(out, "{op:<32}{all:>6}{run:>6}  {}", reasons.join("; ")).unwrap();
    }
    println!("deviations: {deviations:?}");
    for (LeftOut { name, reason }, n) in &left_out {
        println!("left out {n} times: {name}: {reason}");
    }

    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    let counts: Vec<(&str, usize, usize)> =
        table.iter().map(|(op, (run, all, _))| (*op, *run, *all)).collect();
    assert_eq!(counts, RUN);
    assert_eq!(deviations.into_iter().collect::<Vec<_>>(), DEVIATIONS);
    assert!(left_out.iter().map(|(output, n)| (output.name.as_str(), *n)).eq(LEFT_OUT), "{left_out:?}");
}

enum Outcome {
    Ran(Vec<Deviation>, Vec<LeftOut>, Vec<String>),
    Stopped(Stop),
}

/// One outcome a case, in order. The large cases take seconds, so all processors share them.
fn run_all(goldens: &Goldens) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = goldens.cases.get(index) else { break };
                    let outcome = cases::work(goldens, case).map_or_else(Outcome::Stopped, run);
                    outcomes.lock().unwrap().push((index, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap();
    outcomes.sort_by_key(|(index, _)| *index);
    assert_eq!(outcomes.len(), goldens.cases.len());
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn run(work: Work) -> Outcome {
    let failures = match work.solve() {
        Err(error) => vec![format!("the oracle refuses the case: {error}")],
        Ok(solved) => {
            let answers: Vec<_> = solved.into_iter().map(|solved| solved.answer).collect();
            work.failures(&answers, None).iter().map(ToString::to_string).collect()
        }
    };
    Outcome::Ran(work.deviations, work.left_out, failures)
}

#[test]
fn log_softmax_of_many_classes() {
    let goldens = Goldens::open(FOLDER).unwrap();
    let mut run_cases = 0;
    for case in goldens.cases.iter().filter(|case| case.op == "log_softmax") {
        let Outcome::Ran(.., failures) =
            cases::log_softmax_of_many(&goldens, case).map_or_else(Outcome::Stopped, run)
        else {
            panic!("{} is no work", case.id());
        };
        assert!(failures.is_empty(), "{}: {failures:?}", case.id());
        run_cases += 1;
    }
    assert_eq!(run_cases, 10);
}

/// Weights of 0 have accuracy 0, whatever is predicted.
const IDLE: [&str; 1] = ["keras_metrics/acc_zero_weights: accuracy"];

/// No check passes whatever it is given: every number that an answer holds is moved, and every check with a value to
/// compare must fail.
#[test]
fn answers_that_are_moved_fail() {
    let goldens = Goldens::open(FOLDER).unwrap();
    let mut checks = 0;
    let mut idle = Vec::new();
    for case in goldens.cases.iter().filter(|case| case.generated.is_empty()) {
        let Ok(work) = cases::work(&goldens, case) else { continue };
        let answers: Vec<Answer> =
            work.solve().unwrap().into_iter().map(|solved| moved(solved.answer)).collect();
        let failed: Vec<String> =
            work.failures(&answers, None).into_iter().map(|failure| failure.output).collect();
        for check in work.checks.iter().filter(|check| !check.want.is_empty()) {
            checks += 1;
            if !failed.contains(&check.name) {
                idle.push(format!("{}: {}", case.id(), check.name));
            }
        }
    }
    println!("{checks} checks");
    assert_eq!(idle, IDLE);
}

fn moved(answer: Answer) -> Answer {
    // NaN and infinities become numbers. Neither 0, 1 nor -1 stays where it is.
    let value = |x: f64| if x.is_finite() { x * 1.001 + 1.7e-3 } else { 1.0 };
    let number = |x: Number| Number { value: value(x.value), ..x };
    let numbers = |x: Numbers| Numbers { values: x.values.into_iter().map(value).collect(), ..x };
    Answer {
        loss: number(answer.loss),
        loss_sum: number(answer.loss_sum),
        denominator: number(answer.denominator),
        row_losses: numbers(answer.row_losses),
        logit_grads: numbers(answer.logit_grads),
        class_weights: numbers(answer.class_weights),
        class_mass: numbers(answer.class_mass),
        class_counts: answer.class_counts.into_iter().map(|n| if n == 0 { 7 } else { 0 }).collect(),
        correct_rows: answer.correct_rows + 1,
        valid_rows: answer.valid_rows + 3,
        gathered: answer.gathered.into_iter().map(|(class, cost)| (class + 1, value(cost))).collect(),
        predictions: answer.predictions.into_iter().map(|class| class.wrapping_add(1)).collect(),
        class_stats: answer.class_stats.map(|stats| ClassStats {
            correct_weight: stats.correct_weight.into_iter().map(value).collect(),
            ..stats
        }),
        weights_error: answer.weights_error,
        element_losses: numbers(answer.element_losses),
        // By other amounts, so that their ratio moves too.
        binary_counts: Numbers {
            values: answer.binary_counts.values.iter().zip([1.37, 1.98]).map(|(x, by)| x + by).collect(),
            errors: Vec::new(),
        },
        factors: numbers(answer.factors),
        sample_weight_sum: answer.sample_weight_sum,
        correct_weight: number(answer.correct_weight),
    }
}

/// A folder of `index.json` and one file without tensors.
fn folder(name: &str, index: &str) -> std::path::PathBuf {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("index.json"), index).unwrap();
    std::fs::write(folder.join("empty.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
    std::fs::write(folder.join("short.safetensors"), b"\x02\0\0").unwrap();
    folder
}

fn case_of(file: &str, more: &str) -> String {
    let case = format!(
        r#"{{"name": "a", "group": "g", "file": "{file}", "op": "o", "framework": "f", "params": {{"n": -1}},
            "inputs": {{"x": {{"key": "a/in/x", "dtype": "F32", "shape": [2]}}}}, "expected": {{}}{more}}}"#
    );
    format!(r#"{{"format": "loss-goldens-1", "cases": [{case}]}}"#)
}

#[test]
fn malformed_folders_are_named_errors() {
    let message = |name: &str, index: &str| match Goldens::open(folder(name, index)) {
        Ok(_) => panic!("{name} was read"),
        Err(error) => error.to_string(),
    };
    let ends = |message: String, end: &str| assert!(message.ends_with(end), "{message}");
    assert!(message("golden-no-json", "{").contains("index.json: "));
    ends(
        message("golden-format", r#"{"format": "other"}"#),
        "format is Some(\"other\"), not \"loss-goldens-1\"",
    );
    ends(message("golden-no-cases", r#"{"format": "loss-goldens-1"}"#), "cases is no list");
    let nameless = r#"{"format": "loss-goldens-1", "cases": [{}]}"#;
    ends(message("golden-nameless", nameless), "cases[0]: name is no text");
    assert!(message("golden-no-file", &case_of("absent.safetensors", "")).contains("absent.safetensors: "));
    assert!(message("golden-short", &case_of("short.safetensors", "")).contains("short.safetensors: "));
    let shapeless = case_of("empty.safetensors", r#", "framework_result": {"y": {}}"#);
    ends(message("golden-shapeless", &shapeless), "cases[0]: framework_result.y is no tensor entry");
}

#[test]
fn malformed_cases_are_named_errors() {
    let more = r#", "generated": {"z": {"kind": "irwin_hall4", "seed": 1}}"#;
    let goldens = Goldens::open(folder("golden-case", &case_of("empty.safetensors", more))).unwrap();
    let case = &goldens.cases[0];
    let message = |part, name| goldens.f32s(case, part, name).unwrap_err().to_string();
    assert_eq!(message(Part::Inputs, "x"), "g/a (empty.safetensors): the file holds no tensor a/in/x");
    assert_eq!(message(Part::Expected, "x"), "g/a (empty.safetensors): Expected holds no tensor x");
    assert_eq!(message(Part::Inputs, "z"), "g/a (empty.safetensors): generated.z.k is no number");
    assert_eq!(case.text("n").unwrap_err().0, "g/a (empty.safetensors): params.n is -1, not a text");
    assert_eq!(
        case.size("n").unwrap_err().0,
        "g/a (empty.safetensors): params.n is -1; it must be at least 0"
    );
    assert_eq!(case.size("m").unwrap_err().0, "g/a (empty.safetensors): params.m is missing");
}

#[test]
fn sixteen_bit_floats_widen_and_round_exactly() {
    for (bits, value) in
        [(0x3c00, 1.0), (0xc000, -2.0), (0x0001, 2f32.powi(-24)), (0x7bff, 65504.0), (0x0400, 2f32.powi(-14))]
    {
        assert_eq!(golden::f16_to_f32(bits), value);
        assert_eq!(golden::round_to_f16(value), value);
    }
    assert!(golden::f16_to_f32(0x7e00).is_nan() && golden::f16_to_f32(0xfc00) == f32::NEG_INFINITY);
    // Ties go to the even neighbour, in the subnormal range as well.
    assert_eq!(golden::round_to_f16(1.0 + 2f32.powi(-11)), 1.0);
    assert_eq!(golden::round_to_f16(1.0 + 3.0 * 2f32.powi(-11)), 1.0 + 2f32.powi(-9));
    assert_eq!(golden::round_to_f16(2f32.powi(-25)), 0.0);
    assert_eq!(golden::round_to_f16(65520.0), f32::INFINITY);
    assert_eq!(golden::bf16_to_f32(0x3f80), 1.0);
    assert_eq!(golden::round_to_bf16(1.0 + 2f32.powi(-8)), 1.0);
    assert_eq!(golden::round_to_bf16(1.0 + 3.0 * 2f32.powi(-8)), 1.0 + 2f32.powi(-6));
}
