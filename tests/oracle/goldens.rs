//! The golden cases of Keras, PyTorch and scikit-learn, through the oracle.
//!
//! A case is run as a whole, every expected output compared, or it has a reason why the present [`Spec`]
//! cannot say it. Where the crate means something else than the framework on purpose, the case is still
//! compared: against the crate's rule, after a check that the framework has the value that the rule replaces
//! ([`Deviation`]).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use wgpu_cross_entropy::{
    ClassWeights, CostMatrix, Denominator, Inputs, LOGIT_LIMIT, LiveWeights, Output, Reduction,
    SampleWeights, Shape, Spec, Totals, WeightScheme, cpu,
};

use crate::golden::{self, Case, Goldens, Part, Tensor};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

/// How many cases of each op the oracle runs, and how many there are. A case that stops running, or a new one
/// that nobody looked at, fails here.
const RUN: [(&str, usize, usize); 27] = [
    ("accuracy", 5, 10),
    ("bce", 0, 65),
    ("binary_accuracy", 0, 2),
    ("class_counts", 18, 18),
    ("class_counts_soft", 0, 4),
    ("class_counts_weighted", 0, 8),
    ("class_weight_to_sample_weight", 5, 12),
    ("class_weights", 7, 9),
    ("class_weights_from_counts", 5, 5),
    ("cost_matrix_ce", 18, 32),
    ("cost_matrix_ce_onehot", 0, 1),
    ("dynamic_bce", 0, 40),
    ("dynamic_bce_losses_api", 0, 3),
    ("dynamic_ce", 18, 24),
    ("dynamic_class_weight_ce", 4, 10),
    ("effective_number", 0, 38),
    ("fit_epoch", 8, 8),
    ("log_loss", 0, 12),
    ("log_softmax", 0, 10),
    ("nll", 0, 14),
    ("sample_weight_indices", 0, 1),
    ("sample_weight_multioutput", 0, 1),
    ("seed_mse", 0, 5),
    ("sigmoid_focal", 0, 18),
    ("softmax_ce", 282, 455),
    ("softmax_focal", 4, 46),
    ("threshold_mse", 0, 1),
];

/// How often each deviation was needed.
const DEVIATIONS: [(Deviation, usize); 3] =
    [(Deviation::EmptyMean, 3), (Deviation::IgnoredRow, 2), (Deviation::LogitLimit, 1)];

/// Where the crate means something else than the framework.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deviation {
    /// A mean over nothing is 0 with gradient 0; PyTorch gives NaN for the loss, and for the gradient of rows
    /// of weight 0.
    EmptyMean,
    /// An ignored row has gradient 0 whatever its logits hold; PyTorch multiplies NaN by 0.
    IgnoredRow,
    /// Logits are clamped to `LOGIT_LIMIT`, so that a loss stays finite in `f32`; in `f64` nothing overflows
    /// and PyTorch gives the difference of the logits.
    LogitLimit,
}

/// Why a case did not run to its end.
enum Stop {
    /// The spec cannot say it.
    Reason(&'static str),
    /// It failed.
    Wrong(String),
}

impl From<golden::Error> for Stop {
    fn from(error: golden::Error) -> Self {
        Self::Wrong(error.to_string())
    }
}

impl From<wgpu_cross_entropy::error::InputError> for Stop {
    fn from(error: wgpu_cross_entropy::error::InputError) -> Self {
        Self::Wrong(format!("the oracle refuses the case: {error}"))
    }
}

fn wrong<T>(what: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Wrong(what.into()))
}

#[test]
fn oracle_equals_the_frameworks() {
    let goldens = Goldens::open(FOLDER).unwrap();
    let results = run_all(&goldens);

    let mut table: BTreeMap<&str, (usize, usize, BTreeMap<&str, usize>)> = BTreeMap::new();
    let mut deviations: BTreeMap<Deviation, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for (case, (result, used)) in goldens.cases.iter().zip(&results) {
        let (run, all, reasons) = table.entry(&case.op).or_default();
        *all += 1;
        for deviation in used {
            *deviations.entry(*deviation).or_default() += 1;
        }
        match result {
            Ok(()) => *run += 1,
            Err(Stop::Reason(reason)) => *reasons.entry(reason).or_default() += 1,
            Err(Stop::Wrong(what)) => failures.push(format!("{}: {what}", case.id())),
        }
    }
    println!("{:<32}{:>6}{:>6}  not expressible", "op", "cases", "run");
    for (op, (run, all, reasons)) in &table {
        let reasons: Vec<String> = reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        println!("{op:<32}{all:>6}{run:>6}  {}", reasons.join("; "));
    }
    println!("deviations: {deviations:?}");

    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
    let counts: Vec<(&str, usize, usize)> =
        table.iter().map(|(op, (run, all, _))| (*op, *run, *all)).collect();
    assert_eq!(counts, RUN);
    assert_eq!(deviations.into_iter().collect::<Vec<_>>(), DEVIATIONS);
}

type Outcome = (Result<(), Stop>, Vec<Deviation>);

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
                    let mut deviations = Vec::new();
                    let result = run(goldens, case, &mut deviations);
                    outcomes.lock().unwrap().push((index, (result, deviations)));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap();
    outcomes.sort_by_key(|(index, _)| *index);
    assert_eq!(outcomes.len(), goldens.cases.len());
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn run(goldens: &Goldens, case: &Case, deviations: &mut Vec<Deviation>) -> Result<(), Stop> {
    if case.expect_error.is_some() {
        return Err(Stop::Reason("the framework raises an error and gives no values"));
    }
    let reason = match case.op.as_str() {
        "softmax_ce" if case.has(Part::Inputs, "logits") && !case.generated.is_empty() => {
            return softmax_ce_by_formula(goldens, case);
        }
        "softmax_ce" => return softmax_ce(goldens, case, deviations),
        "softmax_focal" => return softmax_focal(goldens, case, deviations),
        "cost_matrix_ce" => return cost_matrix_ce(goldens, case),
        "dynamic_class_weight_ce" => return dynamic_class_weight_ce(goldens, case),
        "dynamic_ce" => return dynamic_ce(goldens, case),
        "fit_epoch" => return fit_epoch(goldens, case),
        "class_counts" => return class_counts(goldens, case),
        "class_weights" => return class_weights(goldens, case),
        "class_weights_from_counts" => return class_weights_from_counts(goldens, case),
        "class_weight_to_sample_weight" => return class_weight_to_sample_weight(goldens, case),
        "accuracy" => return accuracy(goldens, case),
        "class_counts_soft" => "counts of soft targets",
        "class_counts_weighted" => "counts weighted by sample weights",
        "effective_number" => "class weights by effective number",
        "log_softmax" => "log-probabilities are no output",
        "nll" => "the gradient is with respect to log-probabilities",
        "cost_matrix_ce_onehot" => "costs summed over tied predictions",
        "bce" | "dynamic_bce" | "dynamic_bce_losses_api" | "sigmoid_focal" | "binary_accuracy" => {
            "sigmoid losses"
        }
        "log_loss" => "input is probabilities",
        "sample_weight_indices" | "sample_weight_multioutput" => "host helpers of scikit-learn",
        "seed_mse" | "threshold_mse" => "squared errors",
        other => return wrong(format!("op {other} is unknown")),
    };
    Err(Stop::Reason(reason))
}

/// A case as the crate takes it.
struct Batch {
    spec: Spec,
    shape: Shape,
    logits: Vec<f32>,
    labels: Vec<i32>,
    sample_weights: Option<Vec<f32>>,
    grad_out: Option<Vec<f32>>,
    /// The denominator in `f64`, where it is handed over as an `f32`.
    external: Option<f64>,
}

impl Batch {
    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            logits: &self.logits,
            labels: &self.labels,
            sample_weights: self.sample_weights.as_deref(),
            grad_out: self.grad_out.as_deref(),
            external_denominator: self.external.map(|d| d as f32),
        }
    }

    fn compute(&self) -> Result<Output<f64>, Stop> {
        let mut output = cpu::compute(&self.spec, &self.shape, &self.inputs())?;
        // The denominator was rounded on its way in, which is not what is tested here: take the rounding out.
        if let Some(exact) = self.external.filter(|exact| *exact != 0.0) {
            let scale = f64::from(exact as f32) / exact;
            output.totals.denominator = exact;
            output.totals.loss *= scale;
            output.logit_grads.iter_mut().for_each(|grad| *grad *= scale);
        }
        Ok(output)
    }
}

/// What all the ops on logits and hard labels share: the batch without weights, the mean over all positions.
fn batch(goldens: &Goldens, case: &Case) -> Result<Batch, Stop> {
    match case.text("input_kind")? {
        None | Some("logits") => {}
        Some(_) => return Err(Stop::Reason("input is probabilities")),
    }
    if case.number("label_smoothing")?.is_some_and(|smoothing| smoothing != 0.0) {
        return Err(Stop::Reason("label smoothing"));
    }
    let logits = goldens.f32s(case, Part::Inputs, "logits")?;
    let axis = case.size("class_axis")?;
    let Some(&classes) = logits.shape.get(axis) else { return wrong("class_axis is out of range") };
    let (outer, inner) =
        (logits.shape[..axis].iter().product::<usize>(), logits.shape[axis + 1..].iter().product::<usize>());
    let shape = match inner {
        0 | 1 => Shape::new((outer * inner) as u32, classes as u32),
        _ => Shape::class_first(outer as u32, classes as u32, inner as u32),
    };
    let labels = match case.text("target_kind")? {
        Some("soft") => one_hot(&shape, &goldens.f32s(case, Part::Inputs, "targets")?.values)?,
        _ => labels(&goldens.i64s(case, Part::Inputs, "labels")?)?,
    };
    if labels.len() != shape.rows as usize {
        return wrong(format!("{} labels for {} positions", labels.len(), shape.rows));
    }
    let ignore_index = match case.integer("ignore_index")? {
        None => None,
        Some(index) => Some(i32::try_from(index).map_err(|_| Stop::Wrong("ignore_index is no i32".into()))?),
    };
    let spec = Spec { ignore_index, reduction: Reduction::Mean(Denominator::Rows), ..Spec::default() };
    let logits = logits.values;
    Ok(Batch { spec, shape, logits, labels, sample_weights: None, grad_out: None, external: None })
}

fn labels(stored: &Tensor<i64>) -> Result<Vec<i32>, Stop> {
    let convert =
        |&label: &i64| i32::try_from(label).map_err(|_| Stop::Wrong(format!("label {label} is no i32")));
    stored.values.iter().map(convert).collect()
}

/// The labels of one-hot targets. Anything softer is not expressible.
fn one_hot(shape: &Shape, targets: &[f32]) -> Result<Vec<i32>, Stop> {
    let label = |row| {
        let at = |class: u32| targets[shape.index(row, class) as usize];
        let ones: Vec<u32> = (0..shape.classes).filter(|&class| at(class) == 1.0).collect();
        match ones.as_slice() {
            [label] if (0..shape.classes).all(|class| class == *label || at(class) == 0.0) => {
                Ok(*label as i32)
            }
            _ => Err(Stop::Reason("soft targets")),
        }
    };
    (0..shape.rows).map(label).collect()
}

/// Shape of the losses: the logits' without the class axis.
fn loss_shape(case: &Case) -> Result<Vec<usize>, Stop> {
    let Some(logits) = case.tensors(Part::Inputs).get("logits") else {
        return wrong("logits are not stored");
    };
    let mut shape = logits.shape.clone();
    shape.remove(case.size("class_axis")?);
    Ok(shape)
}

/// Broadcasts sample weights as NumPy does, without a copy where the crate can.
fn sample_weights(goldens: &Goldens, case: &Case, batch: &mut Batch) -> Result<(), Stop> {
    if !case.has(Part::Inputs, "sample_weight") {
        return Ok(());
    }
    let Tensor { shape: mut given, values } = goldens.f32s(case, Part::Inputs, "sample_weight")?;
    let over = loss_shape(case)?;
    // `[N, 1]` against `[N]` is one weight a row: Keras keeps the axis of length 1 in the losses.
    if given.len() == over.len() + 1 && given.last() == Some(&1) {
        given.pop();
    }
    if given.len() > over.len() {
        return wrong(format!("sample_weight {given:?} does not broadcast over {over:?}"));
    }
    let given: Vec<usize> = std::iter::repeat_n(1, over.len() - given.len()).chain(given).collect();
    let strides: Vec<usize> = (0..given.len())
        .map(|axis| if given[axis] == 1 { 0 } else { given[axis + 1..].iter().product() })
        .collect();
    let expanded: Vec<f32> = (0..batch.shape.rows as usize)
        .map(|row| {
            let mut rest = row;
            let offset = (0..over.len()).rev().fold(0, |offset, axis| {
                let at = rest % over[axis];
                rest /= over[axis];
                offset + at * strides[axis]
            });
            values[offset]
        })
        .collect();

    // Leading axes that agree and then ones: a weight a sample. Leading ones and then axes that agree: a
    // step.
    let agree = given.iter().zip(&over).take_while(|(a, b)| a == b).count();
    let ones = given.iter().take_while(|length| **length == 1).count();
    let product = |axes: &[usize]| axes.iter().product::<usize>() as u32;
    let (mode, steps) = if given == over {
        (SampleWeights::PerRow, 1)
    } else if given[agree..].iter().all(|length| *length == 1) {
        (SampleWeights::PerSample, product(&over[agree..]))
    } else if given[ones..] == over[ones..] {
        (SampleWeights::PerStep, product(&over[ones..]))
    } else {
        (SampleWeights::PerRow, 1)
    };
    batch.spec.sample_weights = SampleWeights::PerRow;
    batch.sample_weights = Some(expanded);
    if mode != SampleWeights::PerRow {
        let by_row = batch.compute()?;
        batch.spec.sample_weights = mode;
        batch.shape = batch.shape.with_steps(steps);
        batch.sample_weights = Some(values);
        if !same_bits(&by_row, &batch.compute()?) {
            return wrong("broadcast sample weights give another result than the same weights row by row");
        }
    }
    Ok(())
}

fn same_bits(a: &Output<f64>, b: &Output<f64>) -> bool {
    let bits = |values: &[f64]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    bits(&a.row_losses) == bits(&b.row_losses)
        && bits(&a.logit_grads) == bits(&b.logit_grads)
        && a.totals.loss.to_bits() == b.totals.loss.to_bits()
        && a.totals.denominator.to_bits() == b.totals.denominator.to_bits()
}

/// Masked positions are ignored positions.
fn mask(goldens: &Goldens, case: &Case, batch: &mut Batch) -> Result<(), Stop> {
    if !case.has(Part::Inputs, "mask") {
        return Ok(());
    }
    let mask = goldens.i64s(case, Part::Inputs, "mask")?.values;
    let ignore = *batch.spec.ignore_index.get_or_insert(i32::MIN);
    if mask.len() != batch.labels.len() {
        return wrong("mask is not of the labels' shape");
    }
    for (label, mask) in batch.labels.iter_mut().zip(mask) {
        if mask == 0 {
            *label = ignore;
        }
    }
    Ok(())
}

fn given_class_weights(goldens: &Goldens, case: &Case, batch: &mut Batch) -> Result<(), Stop> {
    // Per term and per row agree for hard labels without smoothing.
    match case.text("class_weight_mode")? {
        None => return Ok(()),
        Some("per_class" | "target_class") => {}
        Some(other) => return wrong(format!("class_weight_mode {other} is unknown")),
    }
    let weights = goldens.f32s(case, Part::Inputs, "class_weight")?.values;
    let negative = weights.iter().any(|w| *w < 0.0);
    batch.spec.class_weights = ClassWeights::Given(weights);
    match (negative, batch.spec.check(batch.shape.classes)) {
        (true, Err(_)) => Err(Stop::Reason("negative class weights, which the spec refuses")),
        (true, Ok(())) => wrong("the spec takes negative class weights"),
        (false, _) => Ok(()),
    }
}

fn reduction(goldens: &Goldens, case: &Case, batch: &mut Batch) -> Result<(), Stop> {
    let weighted = batch.spec.sample_weights != SampleWeights::None;
    batch.spec.reduction = match (case.text("reduction")?, case.text("denominator")?) {
        (Some("none"), _) => Reduction::None,
        (Some("sum"), _) => Reduction::Sum,
        (Some("mean"), Some(denominator)) => Reduction::Mean(match denominator {
            "count" => Denominator::Rows,
            "count_valid" => Denominator::ValidRows,
            "sum_target_weight" if !weighted => Denominator::WeightSum,
            "sum_product" => Denominator::WeightSum,
            "sum_sample_weight" => Denominator::SampleWeightSum,
            "count_nonzero_weight" => Denominator::NonZeroWeights,
            // What Keras divides by when it is given weights to broadcast is for the caller to say.
            "sum_sample_weight_raw" => {
                let weights = goldens.f64s(case, Part::Inputs, "sample_weight")?.values;
                batch.external = Some(weights.iter().sum());
                Denominator::External
            }
            other => return wrong(format!("denominator {other} is unknown here")),
        }),
        other => return wrong(format!("reduction {other:?} is unknown")),
    };
    let rows = batch.shape.rows as usize;
    let upstream = case.number("upstream_scalar")?.unwrap_or(1.0);
    if upstream != 1.0 {
        batch.grad_out = Some(vec![upstream as f32; rows]);
    }
    if case.has(Part::Inputs, "upstream") {
        if upstream != 1.0 {
            return wrong("upstream and upstream_scalar at once");
        }
        batch.grad_out = Some(goldens.f32s(case, Part::Inputs, "upstream")?.values);
    }
    Ok(())
}

fn softmax_ce(goldens: &Goldens, case: &Case, deviations: &mut Vec<Deviation>) -> Result<(), Stop> {
    let mut batch = batch(goldens, case)?;
    given_class_weights(goldens, case, &mut batch)?;
    sample_weights(goldens, case, &mut batch)?;
    mask(goldens, case, &mut batch)?;
    reduction(goldens, case, &mut batch)?;
    let output = batch.compute()?;
    let mut expected = expected(goldens, case)?;
    deviate(case, &batch, &output, &mut expected, deviations)?;
    compare(&batch, &output, &expected)
}

/// Without focusing the focal loss is the cross-entropy.
fn softmax_focal(goldens: &Goldens, case: &Case, deviations: &mut Vec<Deviation>) -> Result<(), Stop> {
    match (case.text("variant")?, case.number("gamma")?) {
        (Some("plain"), Some(0.0)) => softmax_ce(goldens, case, deviations),
        _ => Err(Stop::Reason("focal loss")),
    }
}

type Expected = BTreeMap<String, Vec<f64>>;

fn expected(goldens: &Goldens, case: &Case) -> Result<Expected, Stop> {
    let mut expected = Expected::new();
    for name in case.tensors(Part::Expected).keys() {
        expected.insert(name.clone(), goldens.f64s(case, Part::Expected, name)?.values);
    }
    Ok(expected)
}

/// Puts the crate's rule where it differs from the framework's, after a check that it does.
fn deviate(
    case: &Case,
    batch: &Batch,
    output: &Output<f64>,
    expected: &mut Expected,
    used: &mut Vec<Deviation>,
) -> Result<(), Stop> {
    let ignored = |row: u32| Some(batch.labels[row as usize]) == batch.spec.ignore_index;
    let row_logits = |row| (0..batch.shape.classes).map(move |class| batch.shape.index(row, class) as usize);

    if matches!(batch.spec.reduction, Reduction::Mean(_)) && output.totals.denominator == 0.0 {
        let losses: Vec<f64> = expected.get("loss").cloned().unwrap_or_default();
        let grads = expected.entry("grad_logits".into()).or_default();
        match case.text("zero_denominator")? {
            Some("zero") => {}
            Some("nan") if losses.iter().all(|loss| loss.is_nan()) => {
                used.push(Deviation::EmptyMean);
                grads.iter_mut().for_each(|grad| *grad = 0.0);
                expected.insert("loss".into(), vec![0.0]);
            }
            _ => return wrong(format!("the framework's mean over nothing is {losses:?}")),
        }
    }
    if let Some(grads) = expected.get_mut("grad_logits") {
        let mut deviates = false;
        for row in (0..batch.shape.rows).filter(|&row| ignored(row)) {
            if row_logits(row).any(|i| grads[i].is_nan()) {
                deviates = true;
                row_logits(row).for_each(|i| grads[i] = 0.0);
            }
        }
        if deviates {
            used.push(Deviation::IgnoredRow);
        }
    }
    let beyond =
        |row| row_logits(row).any(|i| batch.logits[i].is_finite() && batch.logits[i].abs() > LOGIT_LIMIT);
    if (0..batch.shape.rows).any(beyond) {
        used.push(Deviation::LogitLimit);
        if batch.spec.reduction != Reduction::None {
            return wrong("a reduced loss of clamped logits is not worked out here");
        }
        for row in (0..batch.shape.rows).filter(|&row| beyond(row)) {
            // Logits this far apart leave one probability of 1: the loss is the largest logit less the
            // label's.
            let z = |i: usize| f64::from(batch.logits[i].clamp(-LOGIT_LIMIT, LOGIT_LIMIT));
            let largest = row_logits(row).map(z).fold(f64::NEG_INFINITY, f64::max);
            let loss = largest - z(batch.shape.index(row, batch.labels[row as usize] as u32) as usize);
            for name in ["loss", "per_sample"] {
                let Some(stored) = expected.get_mut(name).and_then(|losses| losses.get_mut(row as usize))
                else {
                    return wrong(format!("{name} is missing"));
                };
                if loss != 0.0 && *stored < f64::from(f32::MAX) {
                    return wrong(format!("{name} is {stored}, which needs no clamp"));
                }
                *stored = loss;
            }
        }
    }
    Ok(())
}

/// Compares every expected output; one that is not known here is an error.
fn compare(batch: &Batch, output: &Output<f64>, expected: &Expected) -> Result<(), Stop> {
    for (name, want) in expected {
        let got: Vec<f64> = match name.as_str() {
            "loss" if batch.spec.reduction == Reduction::None => output.row_losses.clone(),
            "loss" => vec![output.totals.loss],
            "per_sample" => output.row_losses.clone(),
            "grad_logits" => output.logit_grads.clone(),
            "denominator" => vec![output.totals.denominator],
            "class_counts" => match &output.class_counts {
                Some(counts) => counts.iter().map(|&n| f64::from(n)).collect(),
                None => as_f64(&cpu::class_counts(&batch.spec, &batch.shape, &batch.labels)),
            },
            "class_weight" => output.class_weights.clone().unwrap_or_default(),
            "accuracy_unweighted" => vec![accuracy_of(&output.totals)],
            "pred" | "cost_weight" => {
                cpu::cost_gather(&batch.spec, &batch.shape, &batch.logits, &batch.labels)
                    .iter()
                    .map(|row| if name == "pred" { f64::from(row.prediction) } else { row.cost })
                    .collect()
            }
            other => return wrong(format!("expected output {other} is unknown here")),
        };
        close(name, &got, want)?;
    }
    Ok(())
}

fn as_f64(counts: &[u32]) -> Vec<f64> {
    counts.iter().map(|&n| f64::from(n)).collect()
}

fn accuracy_of(totals: &Totals<f64>) -> f64 {
    f64::from(totals.correct_rows) / f64::from(totals.valid_rows)
}

/// Both sides are `f64` on the same inputs. The values came from formulas that cancel where the oracle's do
/// not (`p - 1` at a confident label), so the yardstick is the largest value of the tensor, and 1e-12 below
/// that.
fn close(name: &str, got: &[f64], want: &[f64]) -> Result<(), Stop> {
    if got.len() != want.len() {
        return wrong(format!("{name} holds {} values, not {}", got.len(), want.len()));
    }
    let largest = want.iter().filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.abs()));
    let tolerance = 1e-12 + 1e-9 * largest;
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let same = match want.is_finite() {
            true => (got - want).abs() <= tolerance,
            false => got == want || (got.is_nan() && want.is_nan()),
        };
        if !same {
            return wrong(format!("{name}[{i}] is {got:e}, not {want:e} (tolerance {tolerance:e})"));
        }
    }
    Ok(())
}

/// The large cases: inputs by formula, outputs sampled.
fn softmax_ce_by_formula(goldens: &Goldens, case: &Case) -> Result<(), Stop> {
    let mut batch = batch(goldens, case)?;
    given_class_weights(goldens, case, &mut batch)?;
    reduction(goldens, case, &mut batch)?;
    let output = batch.compute()?;
    let rows = goldens.i64s(case, Part::Inputs, "rows")?.values;
    let indices = goldens.i64s(case, Part::Inputs, "grad_index")?.values;
    let grads = &output.logit_grads;
    for (name, want) in expected(goldens, case)? {
        let got: Vec<f64> = match name.as_str() {
            "loss" => vec![output.totals.loss],
            "loss_sum_of_none" | "per_sample_sum" => vec![output.totals.loss_sum],
            "denominator" => vec![output.totals.denominator],
            "class_counts" => as_f64(&cpu::class_counts(&batch.spec, &batch.shape, &batch.labels)),
            "per_sample_rows" => rows.iter().map(|&row| output.row_losses[row as usize]).collect(),
            "lse_rows" => lse(&batch, &rows),
            "grad_at_index" => indices.iter().map(|&i| grads[i as usize]).collect(),
            "grad_at_label_rows" => {
                let at = |&row: &i64| {
                    let class = batch.labels[row as usize].max(0) as u32;
                    grads[batch.shape.index(row as u32, class) as usize]
                };
                rows.iter().map(at).collect()
            }
            "grad_abs_sum" => vec![grads.iter().map(|grad| grad.abs()).sum()],
            "grad_sq_sum" => vec![grads.iter().map(|grad| grad * grad).sum()],
            other => return wrong(format!("expected output {other} is unknown here")),
        };
        close(&name, &got, &want)?;
    }
    Ok(())
}

/// Log-sum-exp of some rows. It does not depend on the label, so class 0 stands in for it and no row is
/// ignored.
fn lse(batch: &Batch, rows: &[i64]) -> Vec<f64> {
    let classes = batch.shape.classes as usize;
    let logits: Vec<f32> =
        rows.iter().flat_map(|&row| &batch.logits[row as usize * classes..][..classes]).copied().collect();
    let (shape, labels) = (Shape::new(rows.len() as u32, batch.shape.classes), vec![0; rows.len()]);
    let inputs = Inputs { logits: &logits, labels: &labels, ..Inputs::default() };
    let (_, stats) =
        cpu::cross_entropy_forward(&Spec::default(), &shape, &inputs, None, &mut Totals::default());
    stats.iter().map(|row| row.lse).collect()
}

fn cost_matrix_ce(goldens: &Goldens, case: &Case) -> Result<(), Stop> {
    let mut batch = batch(goldens, case)?;
    let costs = goldens.f32s(case, Part::Inputs, "cost_matrix")?.values;
    let matrix = match case.text("orientation")? {
        Some("pred_true") => CostMatrix::from_predicted_true(batch.shape.classes, costs),
        Some("true_pred") => CostMatrix::from_true_predicted(batch.shape.classes, costs),
        other => return wrong(format!("orientation {other:?} is unknown")),
    };
    batch.spec.cost_matrix = Some(matrix.map_err(|error| Stop::Wrong(error.to_string()))?);
    given_class_weights(goldens, case, &mut batch)?;
    sample_weights(goldens, case, &mut batch)?;
    reduction(goldens, case, &mut batch)?;
    compare(&batch, &batch.compute()?, &expected(goldens, case)?)
}

fn scheme(method: Option<&str>) -> Result<WeightScheme, Stop> {
    match method {
        Some("inverse_count") => Ok(WeightScheme::Inverse),
        Some("balanced_present") => Ok(WeightScheme::Balanced),
        Some("inverse_frequency" | "balanced_num_classes" | "effective_number" | "balanced_weighted") => {
            Err(Stop::Reason("another formula for class weights"))
        }
        other => wrong(format!("method {other:?} is unknown")),
    }
}

fn dynamic_class_weight_ce(goldens: &Goldens, case: &Case) -> Result<(), Stop> {
    let mut batch = batch(goldens, case)?;
    let absent_weight = case.number("absent_class_weight")?.unwrap_or(0.0) as f32;
    let scheme = scheme(case.text("method")?)?;
    batch.spec.class_weights = ClassWeights::Live(LiveWeights { scheme, absent_weight });
    reduction(goldens, case, &mut batch)?;
    compare(&batch, &batch.compute()?, &expected(goldens, case)?)
}

/// Each row's loss over the count of its class in the batch.
fn dynamic_ce(goldens: &Goldens, case: &Case) -> Result<(), Stop> {
    let mut batch = batch(goldens, case)?;
    batch.spec.class_weights = WeightScheme::Inverse.into();
    sample_weights(goldens, case, &mut batch)?;
    reduction(goldens, case, &mut batch)?;
    compare(&batch, &batch.compute()?, &expected(goldens, case)?)
}

/// A fit over consecutive batches: one call a batch, their losses averaged by their sizes.
fn fit_epoch(goldens: &Goldens, case: &Case) -> Result<(), Stop> {
    let mut whole = batch(goldens, case)?;
    sample_weights(goldens, case, &mut whole)?;
    if case.has(Part::Inputs, "class_weight") {
        whole.spec.class_weights =
            ClassWeights::Given(goldens.f32s(case, Part::Inputs, "class_weight")?.values);
    }
    let (rows, classes, size) =
        (whole.shape.rows as usize, whole.shape.classes as usize, case.size("batch_size")?);
    let (mut losses, mut running, mut grads) = (Vec::new(), Vec::new(), Vec::new());
    let (mut loss_sum, mut correct, mut weighted, mut weight_sum) = (0.0, 0, 0.0, 0.0);
    for start in (0..rows).step_by(size) {
        let range = start..rows.min(start + size);
        let part = Batch {
            spec: whole.spec.clone(),
            shape: Shape::new(range.len() as u32, whole.shape.classes),
            logits: whole.logits[range.start * classes..range.end * classes].to_vec(),
            labels: whole.labels[range.clone()].to_vec(),
            sample_weights: whole.sample_weights.as_ref().map(|weights| weights[range.clone()].to_vec()),
            grad_out: None,
            external: None,
        };
        let output = part.compute()?;
        if case.params.contains_key("method") {
            // These weights were computed from the batch's own counts and stored as `f32`.
            let live = LiveWeights { scheme: scheme(case.text("method")?)?, absent_weight: 0.0 };
            let counts = cpu::class_counts(&part.spec, &part.shape, &part.labels);
            let weights = cpu::class_weights(&live, &counts);
            let live: Vec<f32> = part.labels.iter().map(|&label| weights[label as usize] as f32).collect();
            if Some(&live) != part.sample_weights.as_ref() {
                return wrong(format!("live weights are {live:?}, not {:?}", part.sample_weights));
            }
        }
        loss_sum += output.totals.loss * range.len() as f64;
        losses.push(output.totals.loss);
        running.push(loss_sum / range.end as f64);
        grads.extend(output.logit_grads);
        correct += output.totals.correct_rows;
        weight_sum += output.totals.weight_sum;
        // Row by row: the weight of a single row is its weight sum.
        for (row, gathered) in
            cpu::cost_gather(&part.spec, &part.shape, &part.logits, &part.labels).iter().enumerate()
        {
            if i64::from(gathered.prediction) == i64::from(part.labels[row]) {
                let s = part.sample_weights.as_ref().map_or(1.0, |weights| f64::from(weights[row]));
                let w =
                    output.class_weights.as_ref().map_or(1.0, |weights| weights[part.labels[row] as usize]);
                weighted += s * w;
            }
        }
    }
    for (name, want) in expected(goldens, case)? {
        let got = match name.as_str() {
            "batch_loss" => losses.clone(),
            "running_loss" => running.clone(),
            "epoch_loss" => running.last().copied().into_iter().collect(),
            "grad_logits" => grads.clone(),
            "accuracy" => vec![f64::from(correct) / rows as f64],
            "weighted_accuracy" => vec![weighted / weight_sum],
            "class_counts" => as_f64(&cpu::class_counts(&whole.spec, &whole.shape, &whole.labels)),
            other => return wrong(format!("expected output {other} is unknown here")),
        };
        close(&name, &got, &want)?;
    }
    Ok(())
}

/// A spec and a shape for labels alone.
fn counting(case: &Case, rows: usize) -> Result<(Spec, Shape), Stop> {
    let ignore_index = case.integer("ignore_index")?.map(|index| index as i32);
    let shape = Shape::new(rows as u32, case.size("num_classes")? as u32);
    Ok((Spec { ignore_index, ..Spec::default() }, shape))
}

fn class_counts(goldens: &Goldens, case: &Case) -> Result<(), Stop> {
    let labels = labels(&goldens.i64s(case, Part::Inputs, "labels")?)?;
    let (spec, shape) = counting(case, labels.len())?;
    let counts = cpu::class_counts(&spec, &shape, &labels);
    exactly("class_counts", &counts, &goldens.i64s(case, Part::Expected, "class_counts")?.values)
}

fn exactly(name: &str, got: &[u32], want: &[i64]) -> Result<(), Stop> {
    match got.iter().map(|&n| i64::from(n)).eq(want.iter().copied()) {
        true => Ok(()),
        false => wrong(format!("{name} is {got:?}, not {want:?}")),
    }
}

fn class_weights(goldens: &Goldens, case: &Case) -> Result<(), Stop> {
    let live = LiveWeights { scheme: scheme(case.text("method")?)?, absent_weight: 0.0 };
    let labels = labels(&goldens.i64s(case, Part::Inputs, "labels")?)?;
    let (spec, shape) = counting(case, labels.len())?;
    let counts = cpu::class_counts(&spec, &shape, &labels);
    exactly("class_counts", &counts, &goldens.i64s(case, Part::Inputs, "class_counts")?.values)?;
    let present: Vec<u32> = (0..shape.classes).filter(|&class| counts[class as usize] > 0).collect();
    exactly("classes_present", &present, &goldens.i64s(case, Part::Expected, "classes_present")?.values)?;
    let want = goldens.f64s(case, Part::Expected, "class_weight")?.values;
    close("class_weight", &cpu::class_weights(&live, &counts), &want)
}

/// One case holds every formula; the two that the crate has are compared.
fn class_weights_from_counts(goldens: &Goldens, case: &Case) -> Result<(), Stop> {
    let counts = goldens.i64s(case, Part::Inputs, "class_counts")?.values;
    let counts: Vec<u32> = counts.iter().map(|&n| n as u32).collect();
    for (name, scheme) in
        [("inverse_count", WeightScheme::Inverse), ("balanced_present", WeightScheme::Balanced)]
    {
        let want = goldens.f64s(case, Part::Expected, name)?.values;
        let live = LiveWeights { scheme, absent_weight: 0.0 };
        close(name, &cpu::class_weights(&live, &counts), &want)?;
    }
    Ok(())
}

fn class_weight_to_sample_weight(goldens: &Goldens, case: &Case) -> Result<(), Stop> {
    if case.text("method")? != Some("balanced_present") {
        return Err(Stop::Reason("host helpers of scikit-learn"));
    }
    let labels = labels(&goldens.i64s(case, Part::Inputs, "labels")?)?;
    let (spec, shape) = counting(case, labels.len())?;
    let weights = cpu::class_weights(&LiveWeights::default(), &cpu::class_counts(&spec, &shape, &labels));
    close("class_weight", &weights, &goldens.f64s(case, Part::Inputs, "class_weight")?.values)?;
    let rows: Vec<f64> = labels.iter().map(|&label| weights[label as usize]).collect();
    close("sample_weight", &rows, &goldens.f64s(case, Part::Expected, "sample_weight")?.values)
}

fn accuracy(goldens: &Goldens, case: &Case) -> Result<(), Stop> {
    if case.has(Part::Inputs, "sample_weight") {
        return Err(Stop::Reason("weighted accuracy is no output"));
    }
    let batch = batch(goldens, case)?;
    let output = batch.compute()?;
    let correct: Vec<f64> = cpu::cost_gather(&batch.spec, &batch.shape, &batch.logits, &batch.labels)
        .iter()
        .zip(&batch.labels)
        .map(|(row, &label)| f64::from(row.prediction as i32 == label))
        .collect();
    close("correct", &correct, &goldens.f64s(case, Part::Expected, "correct")?.values)?;
    close("accuracy", &[accuracy_of(&output.totals)], &[goldens.scalar(case, Part::Expected, "accuracy")?])
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
