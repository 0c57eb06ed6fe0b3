//! From a golden case to what the crate is asked: the one mapping, for the oracle's tests, for devices and for the
//! example.
//!
//! A case is expressed in a [`Spec`], or there is a reason why the spec cannot say it. Where the crate means something
//! else than the framework on purpose, the crate's rule replaces the expected values, and the work says so
//! ([`Deviation`]).

#![allow(dead_code, reason = "each binary that includes this file uses a part of it")]

#[path = "binary_cases.rs"]
mod binary;

use std::rc::Rc;

use wgpu_cross_entropy::cpu;
use wgpu_cross_entropy::{
    ClassWeights, ClassesOver, Clip, ClipOrder, CostMatrix, Denominator, LiveCounts, LiveWeights, Reduction,
    SampleWeights, Scores, Shape, Spec, Targets, WeightScheme, WeightScope,
};

use crate::golden::{self, Case, Goldens, Part, Tensor};
use crate::rules::{
    Expected, PADDING, Rules, argmax, class_of, class_weight, deviate, empty_targets, gradient_name, is_bad,
    probabilities, row_logits, sample_weight,
};
use crate::work::{Answer, Call, Check, Deviation, LeftOut, Loss, Number, Read, Work};

const NOT_AN_OUTPUT: &str = "the crate has no such output";

/// Why a case is no work.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    /// The crate cannot say it.
    Unsupported {
        /// Why.
        reason: String,
    },
    /// The case contradicts its format.
    Malformed(String),
}

impl From<golden::Error> for Stop {
    fn from(error: golden::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

fn unsupported<T>(reason: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Unsupported { reason: reason.into() })
}

fn malformed<T>(what: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Malformed(what.into()))
}

/// The work of a case.
///
/// # Errors
/// [`Stop`] says why there is none.
pub fn work(goldens: &Goldens, case: &Case) -> Result<Work, Stop> {
    if case.expect_error.is_some() {
        return unsupported("the framework raises an error and gives no values");
    }
    let mapper = Mapper { goldens, case };
    let reason = match case.op.as_str() {
        "softmax_ce" => return mapper.softmax_ce(),
        "softmax_focal" => return mapper.softmax_focal(),
        "cost_matrix_ce" => return mapper.cost_matrix_ce(),
        "dynamic_class_weight_ce" => return mapper.dynamic_class_weight_ce(),
        "dynamic_ce" => return mapper.dynamic_ce(),
        "fit_epoch" => return mapper.fit_epoch(),
        "log_softmax" => return mapper.log_softmax(1 << 25),
        "class_counts" => return mapper.class_counts(),
        "class_counts_soft" => return mapper.class_counts_soft(),
        "class_counts_weighted" => return mapper.class_counts_weighted(),
        "class_weights" => return mapper.class_weights(),
        "class_weights_from_counts" => return mapper.class_weights_from_counts(),
        "effective_number" => return mapper.effective_number(),
        "class_weight_to_sample_weight" => return mapper.class_weight_to_sample_weight(),
        "accuracy" => return mapper.accuracy(),
        "nll" => return mapper.nll(),
        "log_loss" => return mapper.log_loss(),
        "cost_matrix_ce_onehot" => return mapper.cost_matrix_ce_onehot(),
        "bce" => return mapper.bce(),
        "sigmoid_focal" => return mapper.sigmoid_focal(),
        "dynamic_bce" => return mapper.dynamic_bce(),
        "dynamic_bce_losses_api" => return mapper.dynamic_bce_losses_api(),
        "binary_accuracy" => return mapper.binary_accuracy(),
        "sample_weight_indices" | "sample_weight_multioutput" => "host helpers of scikit-learn",
        "seed_mse" | "threshold_mse" => "squared errors",
        other => return unsupported(format!("op {other} is unknown")),
    };
    unsupported(reason)
}

/// A case of `log_softmax` as if it had too many classes for a call with each label.
///
/// # Errors
/// As [`work`].
pub fn log_softmax_of_many(goldens: &Goldens, case: &Case) -> Result<Work, Stop> {
    Mapper { goldens, case }.log_softmax(0)
}

struct Mapper<'a> {
    goldens: &'a Goldens,
    case: &'a Case,
}

/// What the cases call the scores.
fn scores_name(scores: Scores) -> &'static str {
    match scores {
        Scores::Logits | Scores::SoftmaxProbs(_) => "logits",
        Scores::LogProbs => "log_probs",
        Scores::Probs(_) => "probs",
    }
}

/// Reads one number.
fn one(read: impl Fn(&[Answer]) -> Number + 'static) -> Read {
    Box::new(move |answers| vec![read(answers)])
}

fn exact(values: impl IntoIterator<Item = f64>) -> Vec<Number> {
    values.into_iter().map(Number::exact).collect()
}

fn length(n: usize) -> Result<u32, Stop> {
    u32::try_from(n).map_err(|_| Stop::Malformed(format!("a length of {n} passes 32 bits")))
}

fn product(axes: &[usize]) -> Result<usize, Stop> {
    let product = axes.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    product.ok_or_else(|| Stop::Malformed(format!("the shape {axes:?} is too large")))
}

impl Mapper<'_> {
    /// An input as the crate takes it. Wider numbers will do where `f32` holds them.
    fn input(&self, name: &str) -> Result<Tensor<f32>, Stop> {
        let stored = self.case.tensors(Part::Inputs).get(name);
        if !stored.is_some_and(|entry| matches!(entry.dtype.as_str(), "F64" | "I64")) {
            return Ok(self.goldens.f32s(self.case, Part::Inputs, name)?);
        }
        let Tensor { shape, values } = self.goldens.f64s(self.case, Part::Inputs, name)?;
        let narrow: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        if values.iter().zip(&narrow).any(|(&a, &b)| a != f64::from(b) && !a.is_nan()) {
            return unsupported(format!("{name} holds what f32 cannot"));
        }
        Ok(Tensor { shape, values: narrow })
    }

    fn has(&self, name: &str) -> bool {
        self.case.has(Part::Inputs, name)
    }

    fn expected(&self) -> Result<Expected, Stop> {
        let mut expected = Expected::new();
        for name in self.case.tensors(Part::Expected).keys() {
            expected.insert(name.clone(), self.goldens.f64s(self.case, Part::Expected, name)?.values);
        }
        Ok(expected)
    }

    fn labels(&self, name: &str) -> Result<Vec<i32>, Stop> {
        let convert = |&label: &i64| {
            i32::try_from(label).map_err(|_| Stop::Malformed(format!("label {label} is no i32")))
        };
        self.goldens.i64s(self.case, Part::Inputs, name)?.values.iter().map(convert).collect()
    }

    fn ignore_index(&self) -> Result<Option<i32>, Stop> {
        match self.case.integer("ignore_index")? {
            None => Ok(None),
            Some(index) => match i32::try_from(index) {
                Ok(index) => Ok(Some(index)),
                Err(_) => malformed(format!("ignore_index {index} is no i32")),
            },
        }
    }

    /// Where the classes lie, and the losses' shape: the logits' without the class axis.
    fn shape(&self, logits: &[usize]) -> Result<(Shape, Vec<usize>), Stop> {
        let axis = self.case.size("class_axis")?;
        let Some(&classes) = logits.get(axis) else {
            return malformed(format!("class_axis {axis} is none of {logits:?}"));
        };
        let (outer, inner) = (product(&logits[..axis])?, product(&logits[axis + 1..])?);
        let classes = length(classes)?;
        let rows = length(product(&[outer, inner])?)?;
        let shape = match inner {
            0 | 1 => Shape::new(rows, classes),
            _ => Shape::class_first(length(outer)?, classes, length(inner)?),
        };
        shape.check().map_err(|error| Stop::Malformed(error.to_string()))?;
        Ok((shape, [&logits[..axis], &logits[axis + 1..]].concat()))
    }

    /// What all the ops on logits share: the batch without weights, the mean over all positions.
    fn loss(&self) -> Result<Loss, Stop> {
        let case = self.case;
        let scores = self.scores()?;
        let logits = self.input(scores_name(scores))?;
        let (shape, _) = self.shape(&logits.shape)?;
        let label_smoothing = case.number("label_smoothing")?.unwrap_or(0.0);
        let over = case.number("smoothing_k")?;
        if label_smoothing != 0.0 && over.is_some_and(|over| over != f64::from(shape.classes)) {
            return unsupported(
                "label smoothing over another number than the classes (Keras with axis != -1)",
            );
        }
        let mut spec = Spec {
            scores,
            ignore_index: self.ignore_index()?,
            label_smoothing: label_smoothing as f32,
            reduction: Reduction::Mean(Denominator::Rows),
            ..Spec::default()
        };
        let (mut labels, mut target_probs) = (Vec::new(), None);
        match case.text("target_kind")? {
            Some("soft") => {
                spec.targets = Targets::Soft;
                // No label can equal it.
                spec.ignore_index = None;
                target_probs = Some(self.input("targets")?.values);
            }
            None | Some("labels") => labels = self.labels("labels")?,
            Some(other) => return unsupported(format!("target_kind {other} is unknown")),
        }
        let positions = if spec.targets == Targets::Soft { 0 } else { shape.rows as usize };
        if labels.len() != positions {
            return malformed(format!("{} labels for {positions} positions", labels.len()));
        }
        let loss = Loss { target_probs, label_smoothing, ..Loss::new(spec, shape, logits.values, labels) };
        self.fits(&loss)?;
        Ok(loss)
    }

    /// What the batch's scores are.
    fn scores(&self) -> Result<Scores, Stop> {
        let case = self.case;
        let clip = || -> Result<Clip, Stop> {
            let order = match case.text("prob_renorm")? {
                // The focal loss says it in words.
                None | Some("divide_by_sum") => ClipOrder::AfterNormalizing,
                Some("softmax_of_log") => ClipOrder::BeforeNormalizing,
                Some(other) => return unsupported(format!("prob_renorm {other} is unknown")),
            };
            match case.number("prob_eps")? {
                Some(eps) => Ok(Clip { eps, order }),
                None => malformed("params.prob_eps is missing"),
            }
        };
        Ok(match case.text("input_kind")? {
            None | Some("logits") => Scores::Logits,
            Some("softmax_probs") => Scores::SoftmaxProbs(clip()?),
            Some("probs") => Scores::Probs(clip()?),
            Some("log_probs") => Scores::LogProbs,
            Some(other) => return unsupported(format!("input_kind {other} is unknown")),
        })
    }

    /// The slices fit; else indexing them below would panic.
    fn fits(&self, loss: &Loss) -> Result<(), Stop> {
        loss.inputs().check(&loss.spec, &loss.shape).map_err(|error| Stop::Malformed(error.to_string()))
    }

    /// Broadcasts sample weights as NumPy does, without a copy where the crate can.
    fn sample_weights(&self, loss: &mut Loss) -> Result<(), Stop> {
        if !self.has("sample_weight") {
            return Ok(());
        }
        let Tensor { shape: mut given, values } = self.input("sample_weight")?;
        let scores = self.input(scores_name(loss.spec.scores))?.shape;
        let (_, over) = self.shape(&scores)?;
        // `[N, 1]` against `[N]` is one weight a row: Keras keeps the axis of length 1 in the losses.
        if given.len() == over.len() + 1 && given.last() == Some(&1) {
            given.pop();
        }
        let pads = over.len().checked_sub(given.len());
        let padded: Vec<usize> = pads
            .map(|pads| std::iter::repeat_n(1, pads).chain(given.iter().copied()).collect())
            .unwrap_or_default();
        if padded.len() != over.len() || padded.iter().zip(&over).any(|(&a, &b)| a != 1 && a != b) {
            return malformed(format!("sample_weight {given:?} does not broadcast over {over:?}"));
        }
        let given = padded;
        if product(&given)? != values.len() {
            return malformed("sample_weight does not fill its shape");
        }
        // Leading axes that agree and then ones: a weight a sample. Leading ones and then axes that agree: a step.
        let agree = given.iter().zip(&over).take_while(|(a, b)| a == b).count();
        let ones = given.iter().take_while(|n| **n == 1).count();
        let (mode, steps) = if given == over || loss.shape.rows == 0 {
            (SampleWeights::PerRow, 1)
        } else if given[agree..].iter().all(|n| *n == 1) {
            (SampleWeights::PerSample, product(&over[agree..])?)
        } else if given[ones..] == over[ones..] {
            (SampleWeights::PerStep, product(&over[ones..])?)
        } else {
            (SampleWeights::PerRow, 1)
        };
        loss.spec.sample_weights = mode;
        loss.sample_weights = Some(match mode {
            SampleWeights::PerRow => {
                let offset = |row: usize| {
                    let (mut rest, mut offset, mut stride) = (row, 0, 1);
                    for (&given, &over) in given.iter().zip(&over).rev() {
                        offset += if given == 1 { 0 } else { rest % over * stride };
                        rest /= over;
                        stride *= given;
                    }
                    offset
                };
                (0..loss.shape.rows as usize).map(|row| values[offset(row)]).collect()
            }
            _ => values,
        });
        loss.shape = loss.shape.with_steps(length(steps)?);
        self.fits(loss)
    }

    /// Masked positions are ignored positions; with soft targets, positions of weight 0.
    fn mask(&self, loss: &mut Loss) -> Result<(), Stop> {
        if !self.has("mask") {
            return Ok(());
        }
        let mask = self.goldens.i64s(self.case, Part::Inputs, "mask")?.values;
        if mask.len() != loss.shape.rows as usize {
            return malformed(format!(
                "mask holds {} elements for {} positions",
                mask.len(),
                loss.shape.rows
            ));
        }
        if loss.spec.targets == Targets::Soft {
            let weights = (0..loss.shape.rows).zip(&mask);
            let weight = |(row, &mask)| if mask == 0 { 0.0 } else { sample_weight(loss, row) as f32 };
            loss.sample_weights = Some(weights.map(weight).collect());
            loss.spec.sample_weights = SampleWeights::PerRow;
            loss.shape = loss.shape.with_steps(1);
            return Ok(());
        }
        let ignore = *loss.spec.ignore_index.get_or_insert(i32::MIN);
        for (label, mask) in loss.labels.iter_mut().zip(mask) {
            if mask == 0 {
                *label = ignore;
            }
        }
        Ok(())
    }

    fn given_class_weights(&self, loss: &mut Loss) -> Result<(), Stop> {
        loss.spec.weight_scope = match self.case.text("class_weight_mode")? {
            None => return Ok(()),
            Some("per_class") => WeightScope::PerTerm,
            Some("target_class") => WeightScope::PerRow,
            Some(other) => return unsupported(format!("class_weight_mode {other} is unknown")),
        };
        self.set_class_weights(loss)
    }

    fn set_class_weights(&self, loss: &mut Loss) -> Result<(), Stop> {
        let weights = self.input("class_weight")?.values;
        if weights.iter().any(|w| *w < 0.0 || !w.is_finite()) {
            return unsupported("class weights that are negative or not finite, which the spec refuses");
        }
        loss.spec.class_weights = ClassWeights::Given(weights);
        self.fits(loss)
    }

    fn reduction(&self, loss: &mut Loss) -> Result<(), Stop> {
        let case = self.case;
        let given = loss.sample_weights.is_some();
        let soft = loss.spec.targets == Targets::Soft;
        // The weight of a row whose terms have weights of their own is not its label's.
        let per_label = !soft || loss.spec.weight_scope == WeightScope::PerRow;
        // Soft targets are not ignored: what a mask takes out has weight 0.
        let masked: Vec<bool> = match soft && self.has("mask") {
            true => {
                self.goldens.i64s(case, Part::Inputs, "mask")?.values.iter().map(|mask| *mask == 0).collect()
            }
            false => Vec::new(),
        };
        let counted = |row: &u32| masked.get(*row as usize) != Some(&true);
        let denominator = match (case.text("reduction")?, case.text("denominator")?) {
            (Some("none"), _) => None,
            (Some("sum"), _) => {
                loss.spec.reduction = Reduction::Sum;
                return self.upstream(loss);
            }
            (Some("mean"), Some(denominator)) => Some(match denominator {
                "count" => Denominator::Rows,
                "count_valid" if masked.is_empty() => Denominator::ValidRows,
                "sum_target_weight" if !given && per_label && masked.is_empty() => Denominator::WeightSum,
                "sum_product" if per_label => Denominator::WeightSum,
                "sum_sample_weight" => Denominator::SampleWeightSum,
                "count_nonzero_weight" if per_label => Denominator::NonZeroWeights,
                // What the crate has no name for is for the caller to say.
                "count_valid" | "sum_target_weight" | "sum_product" | "count_nonzero_weight" => {
                    let weight = |row| match (class_of(loss, row), denominator) {
                        (None, _) => 0.0,
                        (_, "count_valid") => 1.0,
                        (Some(class), "sum_target_weight") => class_weight(loss, class),
                        (Some(class), "sum_product") => sample_weight(loss, row) * class_weight(loss, class),
                        _ => f64::from(u8::from(sample_weight(loss, row) != 0.0)),
                    };
                    loss.external = Some((0..loss.shape.rows).filter(counted).map(weight).sum());
                    Denominator::External
                }
                "sum_sample_weight_raw" => {
                    let weights = self.goldens.f64s(case, Part::Inputs, "sample_weight")?.values;
                    loss.external = Some(weights.iter().sum());
                    Denominator::External
                }
                other => return unsupported(format!("denominator {other} is not here")),
            }),
            (reduction, denominator) => {
                return unsupported(format!("reduction {reduction:?} with denominator {denominator:?}"));
            }
        };
        loss.spec.reduction = denominator.map_or(Reduction::None, Reduction::Mean);
        self.upstream(loss)
    }

    fn upstream(&self, loss: &mut Loss) -> Result<(), Stop> {
        let scalar = self.case.number("upstream_scalar")?.unwrap_or(1.0);
        if self.has("upstream") {
            loss.grad_out = Some(self.input("upstream")?.values);
            loss.grad_scale = scalar;
        } else if scalar != 1.0 {
            loss.grad_out = Some(vec![scalar as f32; loss.shape.rows as usize]);
            loss.grad_scale = if scalar == 0.0 { 1.0 } else { scalar / f64::from(scalar as f32) };
        }
        if loss.grad_scale != 1.0 && self.has("upstream") {
            return unsupported("upstream and upstream_scalar at once");
        }
        self.fits(loss)
    }

    fn softmax_ce(&self) -> Result<Work, Stop> {
        let mut loss = self.loss()?;
        self.given_class_weights(&mut loss)?;
        self.sample_weights(&mut loss)?;
        self.mask(&mut loss)?;
        self.reduction(&mut loss)?;
        self.finish(loss)
    }

    fn softmax_focal(&self) -> Result<Work, Stop> {
        let case = self.case;
        let gamma = case.number("gamma")?.unwrap_or(0.0);
        let mut loss = match case.text("variant")? {
            Some("plain") => {
                let mut loss = self.loss()?;
                self.given_class_weights(&mut loss)?;
                loss
            }
            // Soft targets with a weight for each term; what is special is the clip.
            Some("keras") => {
                let mut loss = self.loss_of_targets()?;
                let classes = loss.shape.classes as usize;
                loss.spec.class_weights = ClassWeights::Given(match case.number("alpha")? {
                    _ if self.has("alpha") => self.input("alpha")?.values,
                    Some(alpha) => {
                        loss.weight_scale = alpha / f64::from(alpha as f32);
                        vec![alpha as f32; classes]
                    }
                    None => vec![1.0; classes],
                });
                loss
            }
            other => return unsupported(format!("variant {other:?} is unknown")),
        };
        if gamma < 0.0 {
            return unsupported("a negative gamma, which the spec refuses");
        }
        loss.focal_gamma = gamma;
        loss.spec.focal_gamma = gamma as f32;
        self.sample_weights(&mut loss)?;
        self.mask(&mut loss)?;
        self.reduction(&mut loss)?;
        self.fits(&loss)?;
        self.finish(loss)
    }

    /// [`Mapper::loss`] of an op whose targets are always soft and say so nowhere.
    fn loss_of_targets(&self) -> Result<Loss, Stop> {
        let mut case = self.case.clone();
        case.params.insert("target_kind".into(), "soft".into());
        // This op clips the softmax of logits as well.
        if matches!(case.text("input_kind")?, None | Some("logits")) {
            case.params.insert("input_kind".into(), "softmax_probs".into());
        }
        Mapper { goldens: self.goldens, case: &case }.loss()
    }

    fn cost_matrix_ce(&self) -> Result<Work, Stop> {
        let mut loss = self.loss()?;
        let costs = self.input("cost_matrix")?.values;
        if costs.iter().any(|cost| *cost < 0.0 || !cost.is_finite()) {
            return unsupported("costs that are negative or not finite, which the spec refuses");
        }
        let matrix = match self.case.text("orientation")? {
            Some("pred_true") => CostMatrix::from_predicted_true(loss.shape.classes, costs),
            Some("true_pred") => CostMatrix::from_true_predicted(loss.shape.classes, costs),
            other => return unsupported(format!("orientation {other:?} is unknown")),
        };
        loss.spec.cost_matrix = Some(matrix.map_err(|error| Stop::Malformed(error.to_string()))?);
        // This op weights whole rows.
        loss.spec.weight_scope = WeightScope::PerRow;
        if self.has("class_weight") {
            self.set_class_weights(&mut loss)?;
        }
        self.sample_weights(&mut loss)?;
        self.mask(&mut loss)?;
        self.reduction(&mut loss)?;
        self.finish(loss)
    }

    /// Costs of all tied predictions, added up: the gathered cost where there is no tie.
    fn cost_matrix_ce_onehot(&self) -> Result<Work, Stop> {
        let loss = self.loss()?;
        let tied = |row| {
            let p = probabilities(loss.spec.scores, &row_logits(&loss, row)).1;
            let top = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            // In the framework's f32 more may be tied than in f64.
            p.iter().filter(|p| **p >= top * (1.0 - 1e-6)).count() > 1
        };
        if (0..loss.shape.rows).any(tied) {
            return unsupported("costs summed over tied predictions");
        }
        self.cost_matrix_ce()
    }

    /// Log-probabilities as they came.
    fn nll(&self) -> Result<Work, Stop> {
        let mut case = self.case.clone();
        case.params.insert("input_kind".into(), "log_probs".into());
        Mapper { goldens: self.goldens, case: &case }.softmax_ce()
    }

    /// Probabilities, normalized and clipped to the resolution of their type; a weighted mean or a sum.
    fn log_loss(&self) -> Result<Work, Stop> {
        let mut case = self.case.clone();
        let eps = match case.tensors(Part::Inputs).get("probs").map(|entry| entry.dtype.as_str()) {
            Some("F64") => f64::EPSILON,
            Some("F32") => f64::from(f32::EPSILON),
            other => return unsupported(format!("probabilities of type {other:?}")),
        };
        let mean = match case.params.get("normalize").and_then(serde_json::Value::as_bool) {
            Some(mean) => mean,
            None => return malformed("params.normalize is missing"),
        };
        let axis = case.tensors(Part::Inputs).get("probs").map_or(0, |entry| entry.shape.len().max(1) - 1);
        for (name, value) in [
            ("class_axis", axis.into()),
            ("input_kind", "probs".into()),
            ("prob_renorm", "divide_by_sum".into()),
            ("prob_eps", eps.into()),
            ("reduction", if mean { "mean" } else { "sum" }.into()),
            ("denominator", "sum_sample_weight".into()),
        ] {
            case.params.insert(name.into(), value);
        }
        Mapper { goldens: self.goldens, case: &case }.softmax_ce()
    }

    fn live(&self) -> Result<LiveWeights, Stop> {
        let Some(method) = self.case.text("method")? else { return malformed("params.method is missing") };
        self.live_of(method)
    }

    fn live_of(&self, method: &str) -> Result<LiveWeights, Stop> {
        let absent = self.case.number("absent_class_weight")?.unwrap_or(0.0);
        let absent_weight = absent as f32;
        if f64::from(absent_weight) != absent {
            return unsupported("a weight of absent classes that f32 cannot hold");
        }
        let (scheme, over) = match method {
            "inverse_count" => (WeightScheme::Inverse, ClassesOver::Present),
            "balanced_present" => (WeightScheme::Balanced, ClassesOver::Present),
            "balanced_num_classes" => (WeightScheme::Balanced, ClassesOver::All),
            "median_frequency" => (WeightScheme::MedianFrequency, ClassesOver::Present),
            "effective_number" => (WeightScheme::EffectiveNumber(self.beta()?), ClassesOver::All),
            "inverse_frequency" => (WeightScheme::InverseFrequency(1.0), ClassesOver::Present),
            "sqrt_inverse" => (WeightScheme::InverseFrequency(0.5), ClassesOver::Present),
            "balanced_weighted" => return unsupported("sample weights of 64 bits; the crate takes f32"),
            other => return unsupported(format!("scheme {other} is not here yet")),
        };
        Ok(LiveWeights { scheme, over, absent_weight, ..LiveWeights::default() })
    }

    fn beta(&self) -> Result<f64, Stop> {
        match self.case.number("beta")? {
            Some(beta) if (0.0..1.0).contains(&beta) => Ok(beta),
            Some(_) => unsupported("a beta that is not from 0 to below 1, which the spec refuses"),
            None => malformed("params.beta is missing"),
        }
    }

    fn dynamic_class_weight_ce(&self) -> Result<Work, Stop> {
        let live = self.live()?;
        let mut loss = self.loss()?;
        if counted_labels(&mut loss)? {
            return unsupported("rows without a target among counted ones");
        }
        loss.spec.class_weights = ClassWeights::Live(live);
        self.sample_weights(&mut loss)?;
        self.reduction(&mut loss)?;
        self.finish(loss)
    }

    /// Each row's loss over the count of its class in the batch. The targets are one-hot: their column sums are the
    /// labels' counts. A row of zeros has no label and is ignored.
    fn dynamic_ce(&self) -> Result<Work, Stop> {
        let mut loss = self.loss()?;
        let padding = counted_labels(&mut loss)?;
        loss.spec.class_weights = WeightScheme::Inverse.into();
        self.sample_weights(&mut loss)?;
        self.reduction(&mut loss)?;
        self.fits(&loss)?;
        let mut expected = self.expected()?;
        let mut deviations = Vec::new();
        if padding {
            empty_targets(&loss, &mut expected);
            deviations.push(Deviation::EmptyTarget);
        }
        self.finish_with(loss, expected, deviations)
    }

    /// A fit over consecutive batches: one call a batch, their losses averaged by their sizes. `method` says where the
    /// sample weights came from; they are given.
    fn fit_epoch(&self) -> Result<Work, Stop> {
        let mut whole = self.loss()?;
        let (rows, classes, size) =
            (whole.shape.rows as usize, whole.shape.classes as usize, self.case.size("batch_size")?);
        if size == 0 || whole.shape.inner != 1 || whole.spec.targets == Targets::Soft {
            return unsupported("a fit of other than labelled rows");
        }
        self.sample_weights(&mut whole)?;
        if whole.sample_weights.is_some() && whole.spec.sample_weights != SampleWeights::PerRow {
            return unsupported("a fit with broadcast sample weights");
        }
        if self.has("class_weight") {
            self.set_class_weights(&mut whole)?;
        }
        let mut work = Work::default();
        let mut sizes = Vec::new();
        for start in (0..rows).step_by(size) {
            let range = start..rows.min(start + size);
            let part = Loss {
                shape: Shape::new(length(range.len())?, whole.shape.classes),
                logits: whole.logits[range.start * classes..range.end * classes].to_vec(),
                labels: whole.labels[range.clone()].to_vec(),
                sample_weights: whole.sample_weights.as_ref().map(|weights| weights[range.clone()].to_vec()),
                by_products: true,
                ..whole.clone()
            };
            sizes.push(range.len() as f64);
            work.calls.push(Call::Loss(Box::new(part)));
        }
        let batches = work.calls.len();
        for (name, want) in self.expected()? {
            let sizes = sizes.clone();
            let running = move |answers: &[Answer]| -> Vec<Number> {
                let (mut sum, mut done) = (Number::default(), 0.0);
                let mut running = Vec::new();
                for (answer, size) in answers.iter().zip(&sizes) {
                    sum = sum.plus(answer.loss.scaled(*size));
                    done += size;
                    running.push(sum.scaled(1.0 / done));
                }
                running
            };
            let read: Read = match name.as_str() {
                "batch_loss" => Box::new(move |answers| answers[..batches].iter().map(|a| a.loss).collect()),
                "running_loss" => Box::new(move |answers| running(&answers[..batches])),
                "epoch_loss" => {
                    Box::new(move |answers| running(&answers[..batches]).pop().into_iter().collect())
                }
                "grad_logits" => Box::new(move |answers| {
                    answers[..batches].iter().flat_map(|a| a.logit_grads.iter()).collect()
                }),
                "accuracy" => one(move |a| {
                    Number::exact(
                        a[..batches].iter().map(|a| f64::from(a.correct_rows)).sum::<f64>() / rows as f64,
                    )
                }),
                "weighted_accuracy" => one(move |answers| Answer::weighted_accuracy(&answers[..batches])),
                "class_counts" => {
                    // Each batch counts its own; the sum is the whole's.
                    let counts: Vec<Call> = work.calls[..batches].iter().filter_map(counts_of).collect();
                    let at = work.calls.len();
                    work.calls.extend(counts);
                    Box::new(move |answers| {
                        let mut sums = vec![0.0; classes];
                        for answer in &answers[at..at + batches] {
                            let counts = answer.class_counts.iter().map(|&n| f64::from(n));
                            sums.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
                        }
                        exact(sums)
                    })
                }
                _ => {
                    work.left_out.push(LeftOut::new(name, NOT_AN_OUTPUT));
                    continue;
                }
            };
            work.checks.push(Check { name, want, read });
        }
        compared(work)
    }

    /// Losses are `-log p` of the label and their gradients `p` elsewhere: each row once with each label. With the
    /// upstream gradient as targets, the gradient is that of `-sum(upstream * log p)`.
    fn log_softmax(&self, most_elements: u64) -> Result<Work, Stop> {
        let logits = self.input("logits")?;
        let (shape, _) = self.shape(&logits.shape)?;
        let Shape { rows, classes, .. } = shape;
        let upstream = self.input("upstream")?;
        if logits.values.len() as u64 != shape.logits_len() || upstream.values.len() != logits.values.len() {
            return malformed("logits and upstream do not fill the shape");
        }
        let spec = Spec { reduction: Reduction::None, ..Spec::default() };
        let mut by_upstream = Loss::new(spec.clone(), shape, logits.values, Vec::new());
        by_upstream.spec.targets = Targets::Soft;
        by_upstream.target_probs = Some(upstream.values.clone());
        // The largest logit is finite unless the row is not.
        let rows_logits: Vec<Vec<f64>> = (0..rows).map(|row| row_logits(&by_upstream, row)).collect();
        let tops: Vec<usize> = rows_logits.iter().map(|values| argmax(values)).collect();
        let bad: Vec<bool> = rows_logits.iter().map(|values| is_bad(values)).collect();

        // With each label; with the likeliest class and one more where that would be too much.
        let c = classes as usize;
        let all = u64::from(rows) * u64::from(classes) * u64::from(classes) <= most_elements;
        let copies = if all { c } else { c.min(2) };
        let label = |row: usize, copy: usize| if all { copy } else { (tops[row] + copy) % c };
        let (mut repeated, mut labels) = (Vec::new(), Vec::new());
        for (row, values) in rows_logits.iter().enumerate() {
            for copy in 0..copies {
                repeated.extend(values.iter().map(|&x| x as f32));
                labels.push(label(row, copy) as i32);
            }
        }
        let by_class = Loss::new(spec, Shape::new(length(labels.len())?, classes), repeated, labels);
        let elements = by_upstream.logits.len();
        let mut work = Work {
            calls: vec![Call::Loss(Box::new(by_class)), Call::Loss(Box::new(by_upstream))],
            ..Work::default()
        };

        let top = Rc::new(tops);
        let tops = Rc::clone(&top);
        let lse = {
            let rows_logits = rows_logits.clone();
            Rc::new(move |answers: &[Answer], row: usize| {
                let copy = if all { tops[row] } else { 0 };
                answers[0].row_losses.at(row * copies + copy).plus(Number::exact(rows_logits[row][tops[row]]))
            })
        };
        let probability = Rc::new(move |answers: &[Answer], row: usize, class: usize| {
            let grads = &answers[0].logit_grads;
            // Where it is the label the gradient is `p - 1`.
            let copy = match () {
                () if c == 1 => return Number { value: 1.0 + grads.at(row).value, ..grads.at(row) },
                () if all => (class + 1) % c,
                () => usize::from(class == top[row]),
            };
            grads.at((row * copies + copy) * c + class)
        });
        // Row and class of each element, in the layout of the logits.
        let mut places = vec![(0, 0); elements];
        for row in 0..rows {
            for class in 0..classes {
                places[shape.index(row, class) as usize] = (row as usize, class as usize);
            }
        }
        let upstream: Vec<f64> = upstream.values.iter().map(|g| f64::from(*g)).collect();
        for (name, mut want) in self.expected()? {
            let places = places.clone();
            let per_row = name == "lse";
            for (index, want) in want.iter_mut().enumerate() {
                let row = if per_row { index } else { places.get(index).map_or(0, |place| place.0) };
                if bad.get(row) == Some(&true) && !want.is_nan() {
                    *want = f64::NAN;
                    deviate(&mut work.deviations, Deviation::NotFinite);
                }
            }
            let read: Read = match name.as_str() {
                "log_prob" => {
                    let (lse, rows_logits) = (Rc::clone(&lse), rows_logits.clone());
                    let log_prob = move |a: &[Answer], row: usize, class: usize| match all {
                        true => a[0].row_losses.at(row * copies + class).scaled(-1.0),
                        false => lse(a, row).scaled(-1.0).plus(Number::exact(rows_logits[row][class])),
                    };
                    Box::new(move |a| places.iter().map(|&(row, class)| log_prob(a, row, class)).collect())
                }
                "prob" => {
                    let probability = Rc::clone(&probability);
                    Box::new(move |a| places.iter().map(|&(row, class)| probability(a, row, class)).collect())
                }
                "lse" => {
                    let lse = Rc::clone(&lse);
                    Box::new(move |a| (0..rows as usize).map(|row| lse(a, row)).collect())
                }
                "grad_log_softmax" => {
                    Box::new(|a| a[1].logit_grads.iter().map(|grad| grad.scaled(-1.0)).collect())
                }
                "grad_softmax" => {
                    let (upstream, probability) = (upstream.clone(), Rc::clone(&probability));
                    Box::new(move |a| {
                        let mut means = vec![Number::default(); rows as usize];
                        for (&(row, class), g) in places.iter().zip(&upstream) {
                            let mean = &mut means[row];
                            *mean = mean.plus(probability(a, row, class).scaled(*g));
                        }
                        let grad = |(&(row, class), g): (&(usize, usize), &f64)| {
                            let less = means[row].scaled(-1.0).plus(Number::exact(*g));
                            probability(a, row, class).times(less)
                        };
                        places.iter().zip(&upstream).map(grad).collect()
                    })
                }
                _ => {
                    work.left_out.push(LeftOut::new(name, NOT_AN_OUTPUT));
                    continue;
                }
            };
            work.checks.push(Check { name, want, read });
        }
        compared(work)
    }

    /// A spec and a shape for labels alone.
    fn counting(&self, rows: usize) -> Result<(Spec, Shape), Stop> {
        let shape = Shape::new(length(rows)?, length(self.case.size("num_classes")?)?);
        shape.check().map_err(|error| Stop::Malformed(error.to_string()))?;
        Ok((Spec { ignore_index: self.ignore_index()?, ..Spec::default() }, shape))
    }

    fn class_counts(&self) -> Result<Work, Stop> {
        let labels = self.labels("labels")?;
        let (spec, shape) = self.counting(labels.len())?;
        self.only_counts(Call::Counts { spec, shape, labels })
    }

    fn class_counts_soft(&self) -> Result<Work, Stop> {
        let targets = self.input("targets")?;
        let (rows, classes) = match targets.shape.as_slice() {
            [leading @ .., classes] => (product(leading)?, *classes),
            [] => return malformed("targets is a scalar"),
        };
        let shape = Shape::new(length(rows)?, length(classes)?);
        shape.check().map_err(|error| Stop::Malformed(error.to_string()))?;
        let spec = Spec { targets: Targets::Soft, ..Spec::default() };
        let target_probs = Some(targets.values.clone());
        self.only_mass(Call::Mass { spec, shape, labels: Vec::new(), target_probs, sample_weights: None })
    }

    fn class_counts_weighted(&self) -> Result<Work, Stop> {
        let labels = self.labels("labels")?;
        let (spec, shape) = self.counting(labels.len())?;
        let sample_weights = Some(self.input("sample_weight")?.values);
        let spec = Spec {
            sample_weights: SampleWeights::PerRow,
            live_counts: LiveCounts { sample_weighted: true, ..LiveCounts::default() },
            ..spec
        };
        self.only_mass(Call::Mass { spec, shape, labels, target_probs: None, sample_weights })
    }

    fn only_mass(&self, mass: Call) -> Result<Work, Stop> {
        let mut work = Work { calls: vec![mass], ..Work::default() };
        for (name, want) in self.expected()? {
            let read: Read = Box::new(|answers| answers[0].class_mass.iter().collect());
            match name.as_str() {
                "class_counts" => work.checks.push(Check { name, want, read }),
                _ => work.left_out.push(LeftOut::new(name, NOT_AN_OUTPUT)),
            }
        }
        compared(work)
    }

    fn only_counts(&self, counts: Call) -> Result<Work, Stop> {
        let mut work = Work { calls: vec![counts], ..Work::default() };
        for (name, want) in self.expected()? {
            match name.as_str() {
                "class_counts" => work.checks.push(Check { name, want, read: counts_read(0) }),
                _ => work.left_out.push(LeftOut::new(name, NOT_AN_OUTPUT)),
            }
        }
        compared(work)
    }

    fn class_weights(&self) -> Result<Work, Stop> {
        let live = self.live()?;
        let labels = self.labels("labels")?;
        let (spec, shape) = self.counting(labels.len())?;
        let counts = match self.has("class_counts") {
            true => self.counts("class_counts")?,
            false => cpu::class_counts(&spec, &shape, &labels),
        };
        if counts.len() != shape.classes as usize {
            return malformed(format!("{} counts for {} classes", counts.len(), shape.classes));
        }
        let want_counts = counts.iter().map(|&n| f64::from(n)).collect();
        let mut work = Work {
            calls: vec![
                Call::Counts { spec: spec.clone(), shape, labels },
                Call::Weights {
                    spec: Spec { class_weights: ClassWeights::Live(live), ..spec },
                    shape,
                    counts,
                },
            ],
            checks: vec![Check { name: "class_counts".into(), want: want_counts, read: counts_read(0) }],
            ..Work::default()
        };
        for (name, want) in self.expected()? {
            let read: Read = match name.as_str() {
                "class_weight" => Box::new(|answers| answers[1].class_weights.iter().collect()),
                "classes_present" => Box::new(|answers| {
                    let counts = answers[0].class_counts.iter().enumerate();
                    exact(counts.filter(|(_, count)| **count > 0).map(|(class, _)| class as f64))
                }),
                _ => {
                    work.left_out.push(LeftOut::new(name, NOT_AN_OUTPUT));
                    continue;
                }
            };
            work.checks.push(Check { name, want, read });
        }
        compared(work)
    }

    fn counts(&self, name: &str) -> Result<Vec<u32>, Stop> {
        let counts = self.goldens.i64s(self.case, Part::Inputs, name)?.values;
        let convert = |&n: &i64| {
            u32::try_from(n).map_err(|_| Stop::Malformed(format!("{name} holds {n}, which is no u32")))
        };
        counts.iter().map(convert).collect()
    }

    /// One case holds every formula; those that the crate has are compared.
    fn class_weights_from_counts(&self) -> Result<Work, Stop> {
        self.weights_of_counts(|name| self.live_of(name))
    }

    /// Normalised over all classes and over those present.
    fn effective_number(&self) -> Result<Work, Stop> {
        let scheme = WeightScheme::EffectiveNumber(self.beta()?);
        let live = |over| Ok(LiveWeights { scheme, over, ..LiveWeights::default() });
        self.weights_of_counts(|name| match name {
            "weight_c" => live(ClassesOver::All),
            "weight_p" => live(ClassesOver::Present),
            "raw" => unsupported("the crate scales these weights to a sum"),
            _ => unsupported(NOT_AN_OUTPUT),
        })
    }

    /// Each expected output is weights of the same counts.
    fn weights_of_counts(&self, live: impl Fn(&str) -> Result<LiveWeights, Stop>) -> Result<Work, Stop> {
        if self.case.text("absent")?.is_some_and(|absent| absent != "0") {
            return unsupported("absent classes that weigh something");
        }
        let counts = self.counts("class_counts")?;
        let shape = Shape::new(1, length(counts.len())?);
        shape.check().map_err(|error| Stop::Malformed(error.to_string()))?;
        let mut work = Work::default();
        for (name, want) in self.expected()? {
            let live = match live(&name) {
                Ok(live) => live,
                Err(Stop::Unsupported { reason }) => {
                    work.left_out.push(LeftOut::new(name, reason));
                    continue;
                }
                Err(malformed) => return Err(malformed),
            };
            let at = work.calls.len();
            let spec = Spec { class_weights: ClassWeights::Live(live), ..Spec::default() };
            work.calls.push(Call::Weights { spec, shape, counts: counts.clone() });
            let read: Read = Box::new(move |answers| answers[at].class_weights.iter().collect());
            work.checks.push(Check { name, want, read });
        }
        compared(work)
    }

    /// The weight of each row, as seen in its loss: where all of `n` logits are alike the loss is the weight times
    /// `ln n`.
    fn class_weight_to_sample_weight(&self) -> Result<Work, Stop> {
        let labels = self.labels("labels")?;
        let (spec, shape) = self.counting(labels.len())?;
        let stored = self.goldens.f64s(self.case, Part::Inputs, "class_weight")?.values;
        if stored.len() != shape.classes as usize {
            return malformed(format!("{} class weights for {} classes", stored.len(), shape.classes));
        }
        // One class alone has a loss of 0; a class that no row has changes no weight.
        let classes = shape.classes.max(2);
        let class_weights = match self.case.text("method")? {
            Some(method) if method != "dict" => ClassWeights::Live(self.live_of(method)?),
            _ => {
                let mut weights: Vec<f32> = stored.iter().map(|&w| w as f32).collect();
                if stored.iter().zip(&weights).any(|(&a, &b)| a != f64::from(b)) {
                    return unsupported("class weights that f32 cannot hold");
                }
                weights.resize(classes as usize, 0.0);
                ClassWeights::Given(weights)
            }
        };
        let rows = labels.len();
        let elements = product(&[rows, classes as usize])?;
        if elements > 1 << 25 {
            return unsupported("row weights of this many rows and classes");
        }
        let live = matches!(class_weights, ClassWeights::Live(_));
        let loss = Loss::new(
            Spec { class_weights, reduction: Reduction::None, ..spec.clone() },
            Shape::new(shape.rows, classes),
            vec![0.0; elements],
            labels.clone(),
        );
        self.fits(&loss)?;
        let mut work = Work {
            calls: vec![Call::Loss(Box::new(loss)), Call::Counts { spec, shape, labels }],
            ..Work::default()
        };
        if live {
            let read: Read = Box::new(move |answers| {
                answers[0].class_weights.iter().take(shape.classes as usize).collect()
            });
            work.checks.push(Check { name: "class_weight".into(), want: stored, read });
        }
        for (name, want) in self.expected()? {
            let read: Read = match name.as_str() {
                "sample_weight" => {
                    let by = 1.0 / f64::from(classes).ln();
                    Box::new(move |answers| {
                        answers[0].row_losses.iter().map(|loss| loss.scaled(by)).collect()
                    })
                }
                "class_counts" => counts_read(1),
                _ => {
                    work.left_out.push(LeftOut::new(name, NOT_AN_OUTPUT));
                    continue;
                }
            };
            work.checks.push(Check { name, want, read });
        }
        compared(work)
    }

    fn accuracy(&self) -> Result<Work, Stop> {
        let mut loss = self.loss()?;
        self.sample_weights(&mut loss)?;
        self.mask(&mut loss)?;
        loss.by_products = true;
        let classes: Vec<Option<u32>> = (0..loss.shape.rows).map(|row| class_of(&loss, row)).collect();
        let weighted = loss.sample_weights.is_some() || classes.contains(&None);
        let mut work = Work { calls: vec![Call::Loss(Box::new(loss))], ..Work::default() };
        for (name, want) in self.expected()? {
            let classes = classes.clone();
            let read: Read = match name.as_str() {
                "correct" => Box::new(move |answers| {
                    let rows = answers[0].predictions.iter().zip(&classes);
                    exact(rows.map(|(predicted, class)| f64::from(u8::from(Some(*predicted) == *class))))
                }),
                "accuracy" if weighted => one(|answers| Answer::weighted_accuracy(&answers[..1])),
                "accuracy" => one(|answers| Number::exact(plain_accuracy(&answers[0]))),
                _ => {
                    work.left_out.push(LeftOut::new(name, NOT_AN_OUTPUT));
                    continue;
                }
            };
            work.checks.push(Check { name, want, read });
        }
        compared(work)
    }

    fn finish(&self, loss: Loss) -> Result<Work, Stop> {
        self.fits(&loss)?;
        let expected = self.expected()?;
        self.finish_with(loss, expected, Vec::new())
    }

    /// Applies the crate's rules to the expected values, and names where each is read.
    fn finish_with(
        &self,
        loss: Loss,
        mut expected: Expected,
        mut deviations: Vec<Deviation>,
    ) -> Result<Work, Stop> {
        let rules = Rules::new(&loss);
        if self.case.text("grad_variant")? == Some("tf_softmax_minus_t") && loss.spec.targets == Targets::Soft
        {
            if loss.spec.weight_scope == WeightScope::PerTerm && loss.spec.class_weights != ClassWeights::None
            {
                return unsupported("TensorFlow's gradient with a weight for each term");
            }
            rules.true_derivative(&mut expected, &mut deviations)?;
        }
        rules.apply(&mut expected, &mut deviations);

        let mut work = Work { deviations, ..Work::default() };
        let labels_of_rows = loss.labels.clone();
        let (shape, unreduced) = (loss.shape, loss.spec.reduction == Reduction::None);
        let scores = loss.spec.scores;
        let live = loss.spec.needs_counts();
        let gather = (loss.spec.targets != Targets::Soft).then(|| gather_of(&loss));
        let counts = counts_of_loss(&loss);
        let sampled_rows = match self.has("rows") {
            true => self.goldens.i64s(self.case, Part::Inputs, "rows")?.values,
            false => Vec::new(),
        };
        if sampled_rows.iter().any(|row| !(0..i64::from(shape.rows)).contains(row)) {
            return malformed("rows holds what is no row");
        }
        let lse = expected.contains_key("lse_rows").then(|| lse_call(&loss, &sampled_rows));
        work.calls.push(Call::Loss(Box::new(loss)));
        for (name, want) in expected {
            let next = work.calls.len();
            let rows = sampled_rows.clone();
            let read: Read = match name.as_str() {
                "loss" if unreduced => Box::new(|a| a[0].row_losses.iter().collect()),
                "loss" => one(|a| a[0].loss),
                "per_sample" => Box::new(|a| a[0].row_losses.iter().collect()),
                name if name == gradient_name(scores) => Box::new(|a| a[0].logit_grads.iter().collect()),
                "denominator" => one(|a| a[0].denominator),
                "class_weight" => Box::new(|a| a[0].class_weights.iter().collect()),
                "class_counts" if live => counts_read(0),
                "class_counts" if counts.is_some() => {
                    work.calls.extend(counts.clone());
                    counts_read(next)
                }
                "accuracy_unweighted" => one(|a| Number::exact(plain_accuracy(&a[0]))),
                "pred" if gather.is_some() => {
                    work.calls.extend(gather.clone());
                    Box::new(move |a| exact(a[next].gathered.iter().map(|row| f64::from(row.0))))
                }
                "cost_weight" if gather.is_some() => {
                    work.calls.extend(gather.clone());
                    Box::new(move |a| exact(a[next].gathered.iter().map(|row| row.1)))
                }
                // The large cases: inputs by formula, outputs sampled.
                "loss_sum_of_none" | "per_sample_sum" => one(|a| a[0].loss_sum),
                "per_sample_rows" => {
                    Box::new(move |a| rows.iter().map(|&row| a[0].row_losses.at(row as usize)).collect())
                }
                "lse_rows" if lse.is_some() => {
                    let Some((call, largest)) = lse.clone() else { continue };
                    work.calls.push(call);
                    Box::new(move |a| {
                        let lse = |(loss, x): (Number, &f64)| loss.plus(Number::exact(*x));
                        a[next].row_losses.iter().zip(&largest).map(lse).collect()
                    })
                }
                "grad_at_index" => {
                    let indices = self.goldens.i64s(self.case, Part::Inputs, "grad_index")?.values;
                    let index = |i: i64| usize::try_from(i).unwrap_or(usize::MAX);
                    Box::new(move |a| indices.iter().map(|&i| a[0].logit_grads.at(index(i))).collect())
                }
                "grad_at_label_rows" => {
                    let at = |&row: &i64| {
                        let class =
                            labels_of_rows.get(row as usize).map_or(0, |label| (*label).max(0) as u32);
                        shape.index(row as u32, class) as usize
                    };
                    let indices: Vec<usize> = rows.iter().map(at).collect();
                    Box::new(move |a| indices.iter().map(|&i| a[0].logit_grads.at(i)).collect())
                }
                "grad_abs_sum" => one(|a| {
                    a[0].logit_grads.iter().fold(Number::default(), |sum, grad| sum.plus(grad.magnitude()))
                }),
                "grad_sq_sum" => one(|a| {
                    a[0].logit_grads.iter().fold(Number::default(), |sum, grad| sum.plus(grad.times(grad)))
                }),
                _ => {
                    work.left_out.push(LeftOut::new(name, NOT_AN_OUTPUT));
                    continue;
                }
            };
            work.checks.push(Check { name, want, read });
        }
        compared(work)
    }
}

/// A work without a check would pass whatever the crate did.
fn compared(work: Work) -> Result<Work, Stop> {
    match work.checks.is_empty() {
        false => Ok(work),
        true => {
            let names: Vec<&str> = work.left_out.iter().map(|left| left.name.as_str()).collect();
            unsupported(format!("none of the outputs {names:?} is the crate's"))
        }
    }
}

/// The labels of one-hot targets, [`PADDING`] where all are 0; `None` where one is softer.
fn one_hot(shape: &Shape, targets: &[f32]) -> Option<Vec<i32>> {
    if (targets.len() as u64) < shape.logits_len() {
        return None;
    }
    let label = |row| {
        let at = |class: u32| targets[shape.index(row, class) as usize];
        let mut nonzero = (0..shape.classes).filter(|&class| at(class) != 0.0);
        match (nonzero.next(), nonzero.next()) {
            (None, _) => Some(PADDING),
            (Some(class), None) if at(class) == 1.0 => i32::try_from(class).ok(),
            _ => None,
        }
    };
    (0..shape.rows).map(label).collect()
}

/// Makes labels of one-hot targets, so that they are counted, and one that is all 0 is ignored. Whether a row has none.
fn counted_labels(loss: &mut Loss) -> Result<bool, Stop> {
    let Some(targets) = loss.target_probs.take() else { return Ok(false) };
    let Some(labels) = one_hot(&loss.shape, &targets) else {
        // Softer ones have mass.
        loss.target_probs = Some(targets);
        return Ok(false);
    };
    loss.labels = labels;
    loss.spec.targets = Targets::Labels;
    loss.spec.ignore_index = Some(PADDING);
    Ok(loss.labels.contains(&PADDING))
}

fn counts_read(call: usize) -> Read {
    Box::new(move |answers| exact(answers[call].class_counts.iter().map(|&n| f64::from(n))))
}

fn counts_of(call: &Call) -> Option<Call> {
    match call {
        Call::Loss(loss) => counts_of_loss(loss),
        _ => None,
    }
}

fn counts_of_loss(loss: &Loss) -> Option<Call> {
    let spec = Spec { ignore_index: loss.spec.ignore_index, ..Spec::default() };
    (loss.spec.targets == Targets::Labels).then(|| Call::Counts {
        spec,
        shape: loss.shape,
        labels: loss.labels.clone(),
    })
}

fn gather_of(loss: &Loss) -> Call {
    let Spec { ignore_index, cost_matrix, .. } = &loss.spec;
    Call::Gather {
        spec: Spec { ignore_index: *ignore_index, cost_matrix: cost_matrix.clone(), ..Spec::default() },
        shape: loss.shape,
        logits: loss.logits.clone(),
        labels: loss.labels.clone(),
    }
}

/// Log-sum-exp of some rows: the loss of the largest logit, and that logit.
fn lse_call(loss: &Loss, rows: &[i64]) -> (Call, Vec<f64>) {
    let (mut logits, mut labels, mut largest) = (Vec::new(), Vec::new(), Vec::new());
    for &row in rows {
        let row = row as u32;
        let values = row_logits(loss, row);
        let top = argmax(&values);
        labels.push(top as i32);
        largest.push(values[top]);
        logits
            .extend((0..loss.shape.classes).map(|class| loss.logits[loss.shape.index(row, class) as usize]));
    }
    let spec = Spec { reduction: Reduction::None, ..Spec::default() };
    let call = Loss::new(spec, Shape::new(rows.len() as u32, loss.shape.classes), logits, labels);
    (Call::Loss(Box::new(call)), largest)
}

fn plain_accuracy(answer: &Answer) -> f64 {
    match answer.valid_rows {
        0 => 0.0,
        rows => f64::from(answer.correct_rows) / f64::from(rows),
    }
}
