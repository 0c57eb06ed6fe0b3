//! From a golden case of a sigmoid loss to what the crate is asked: see `cases.rs`.
//!
//! Elements keep the order of memory that the case has. Where losses are means over the last axis it is the columns;
//! else the columns are the axes that `pos_weight` varies over, which may lie anywhere: then the layout is class-first.

use wgpu_cross_entropy::{
    BinaryClip, BinaryDenominator, BinaryReduction, BinaryScores, BinarySpec, LOGIT_LIMIT, PosWeight, Shape,
};

use super::{Mapper, NOT_AN_OUTPUT, Stop, compared, length, malformed, one, product, unsupported};
use crate::golden::{Part, Tensor};
use crate::rules::{Expected, deviate};
use crate::work::{Answer, BinaryLoss, Call, Check, Deviation, LeftOut, Number, Read, Work};

/// A batch, and how its losses are read.
struct Batch {
    loss: BinaryLoss,
    /// The shape of the scores.
    shape: Vec<usize>,
    /// The shape of the losses: without the last axis where they are means over it.
    over: Vec<usize>,
    /// Whether they are.
    rows_are_losses: bool,
    /// The name of the gradient.
    grad: &'static str,
}

/// Where each element of a shape lies in a tensor that broadcasts over it by NumPy's rules.
fn places(given: &[usize], over: &[usize]) -> Result<Vec<usize>, Stop> {
    let Some(lead) = over.len().checked_sub(given.len()) else {
        return malformed(format!("{given:?} does not broadcast over {over:?}"));
    };
    if given.iter().zip(&over[lead..]).any(|(&a, &b)| a != 1 && a != b) {
        return malformed(format!("{given:?} does not broadcast over {over:?}"));
    }
    let place = |flat: usize| {
        let (mut rest, mut at, mut stride) = (flat, 0, 1);
        for (axis, &length) in over.iter().enumerate().rev() {
            let index = rest % length;
            rest /= length;
            if let Some(&own) = axis.checked_sub(lead).and_then(|axis| given.get(axis)) {
                at += if own == 1 { 0 } else { index * stride };
                stride *= own;
            }
        }
        at
    };
    Ok((0..product(over)?).map(place).collect())
}

fn broadcast<T: Copy>(tensor: &Tensor<T>, over: &[usize]) -> Result<Vec<T>, Stop> {
    let at = places(&tensor.shape, over)?;
    let value = |at: usize| tensor.values.get(at).copied();
    let values: Option<Vec<T>> = at.into_iter().map(value).collect();
    values.ok_or_else(|| Stop::Malformed("a tensor does not fill its shape".into()))
}

impl Mapper<'_> {
    pub(super) fn bce(&self) -> Result<Work, Stop> {
        let mut batch = self.batch(self.case.text("input_kind")?.unwrap_or("logits"), false)?;
        self.rest_of_batch(&mut batch)?;
        self.finish_binary(batch)
    }

    pub(super) fn sigmoid_focal(&self) -> Result<Work, Stop> {
        let case = self.case;
        let kind = case.text("input_kind")?.unwrap_or("logits");
        let (kind, by_row) = match (case.text("variant")?, kind) {
            (Some("torchvision"), kind) => (kind, false),
            // Keras takes the sigmoid of logits and goes on with probabilities.
            (Some("keras"), "logits") => ("sigmoid_probs", true),
            (Some("keras"), kind) => (kind, true),
            (other, _) => return unsupported(format!("variant {other:?} is unknown")),
        };
        let mut batch = self.batch(kind, by_row)?;
        let gamma = case.number("gamma")?.unwrap_or(0.0);
        if gamma < 0.0 {
            return unsupported("a negative gamma, which the spec refuses");
        }
        // torchvision takes a negative alpha for none.
        let alpha = case.number("alpha")?.filter(|alpha| *alpha >= 0.0);
        if alpha.is_some_and(|alpha| alpha > 1.0) {
            return unsupported("an alpha above 1, which the spec refuses");
        }
        let loss = &mut batch.loss;
        (loss.focal_gamma, loss.focal_alpha) = (gamma, alpha);
        loss.spec.focal_gamma = gamma as f32;
        loss.spec.focal_alpha = alpha.map(|alpha| alpha as f32);
        self.rest_of_batch(&mut batch)?;
        self.finish_binary(batch)
    }

    /// Factors from the ratio of positives in the whole batch.
    pub(super) fn dynamic_bce(&self) -> Result<Work, Stop> {
        let mut batch = self.batch(self.case.text("input_kind")?.unwrap_or("logits"), false)?;
        batch.loss.spec.pos_weight = PosWeight::Ratio { per_column: false };
        self.rest_of_batch(&mut batch)?;
        self.finish_binary(batch)
    }

    /// The same, with a loss that has already lost the last axis when the weights arrive: NumPy's rules decide which
    /// weight meets which loss, and they may meet all.
    pub(super) fn dynamic_bce_losses_api(&self) -> Result<Work, Stop> {
        let batch = self.batch(self.case.text("input_kind")?.unwrap_or("logits"), true)?;
        if self.has("sample_weight") || self.has("mask") || self.has("weight") {
            return unsupported("weights beside those of the ratio");
        }
        let Batch { mut loss, shape, over: losses, grad, .. } = batch;
        let columns = loss.shape.classes as usize;
        let mut weights = shape.clone();
        if self.case.params.get("squeeze").and_then(serde_json::Value::as_bool).unwrap_or(false) {
            match weights.pop() {
                Some(1) => {}
                other => return unsupported(format!("squeezing a last axis of {other:?}")),
            }
        }
        // The shape that both broadcast to.
        let rank = weights.len().max(losses.len());
        let padded = |shape: &[usize], axis: usize| {
            (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis])
        };
        let product_shape: Vec<usize> =
            (0..rank).map(|axis| padded(&weights, axis).max(padded(&losses, axis))).collect();
        let (of_weight, of_loss) = (places(&weights, &product_shape)?, places(&losses, &product_shape)?);
        let targets = loss.targets.clone();
        if targets.iter().all(|t| *t == 1.0) || targets.iter().all(|t| *t == 0.0) {
            return unsupported("one side only, with weights that meet other elements than their own");
        }
        let upstream = match self.has("upstream") {
            true => broadcast(&self.input("upstream")?, &product_shape)?,
            false => vec![self.case.number("upstream_scalar")?.unwrap_or(1.0) as f32; of_weight.len()],
        };
        let count = match self.case.text("reduction")? {
            Some("none" | "sum") => 1.0,
            Some("mean") => of_weight.len() as f64,
            other => return unsupported(format!("reduction {other:?}")),
        };
        let unreduced = self.case.text("reduction")? == Some("none");

        loss.spec.reduction = BinaryReduction::None;
        let plain = loss.clone();
        loss.spec.pos_weight = PosWeight::Ratio { per_column: false };
        let mut work = Work {
            calls: vec![Call::Binary(Box::new(loss)), Call::Binary(Box::new(plain))],
            ..Work::default()
        };
        let weight = move |answers: &[Answer], at: usize| weight_of(&answers[0], &targets, at);
        let each = {
            let (weight, of_weight, of_loss) = (weight.clone(), of_weight.clone(), of_loss.clone());
            move |answers: &[Answer]| -> Vec<Number> {
                let pairs = of_weight.iter().zip(&of_loss);
                let row = |row: usize| mean(&answers[1], row, columns);
                pairs.map(|(&w, &l)| weight(answers, w).times(row(l))).collect()
            }
        };
        for (name, want) in self.expected()? {
            let each = each.clone();
            let read: Read = match name.as_str() {
                "per_sample" => Box::new(each),
                "loss" if unreduced => Box::new(each),
                "loss" => one(move |answers| sum(each(answers)).scaled(1.0 / count)),
                "weights" => {
                    let (weight, n) = (weight.clone(), want.len());
                    Box::new(move |answers| (0..n).map(|at| weight(answers, at)).collect())
                }
                "positive_ratio" => one(|answers| positive_ratio(&answers[0])),
                name if name == grad => {
                    let (weight, of_weight, of_loss) = (weight.clone(), of_weight.clone(), of_loss.clone());
                    let upstream = upstream.clone();
                    Box::new(move |answers| {
                        // What meets a loss: the weights times the upstream gradients.
                        let mut met = vec![Number::default(); answers[1].logit_grads.values.len() / columns];
                        for ((&w, &l), &up) in of_weight.iter().zip(&of_loss).zip(&upstream) {
                            met[l] = met[l].plus(weight(answers, w).scaled(f64::from(up)));
                        }
                        let grads = answers[1].logit_grads.iter().enumerate();
                        let by = 1.0 / (count * columns as f64);
                        grads.map(|(at, grad)| grad.times(met[at / columns]).scaled(by)).collect()
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

    /// `sum(w correct) / sum(w)` over elements, predicted positive where `p` is above the threshold.
    pub(super) fn binary_accuracy(&self) -> Result<Work, Stop> {
        if !self.has("probs") {
            return unsupported("accuracy of other than probabilities");
        }
        let mut batch = self.batch("probs", true)?;
        if batch.loss.targets.iter().any(|t| *t != 0.0 && *t != 1.0) {
            return unsupported("accuracy of targets that are neither 0 nor 1");
        }
        batch.loss.spec.threshold = self.case.number("threshold")?.unwrap_or(0.5) as f32;
        self.binary_weights(&mut batch)?;
        self.fits_binary(&batch.loss)?;
        let mut work = Work { calls: vec![Call::Binary(Box::new(batch.loss))], ..Work::default() };
        for (name, want) in self.expected()? {
            if name != "accuracy" {
                work.left_out.push(LeftOut::new(name, NOT_AN_OUTPUT));
                continue;
            }
            let read = one(|answers| {
                let (correct, all) = (answers[0].correct_weight, answers[0].sample_weight_sum);
                match all.value {
                    0.0 => Number::exact(0.0),
                    sum => Number {
                        value: correct.value / sum,
                        error: (correct.error + all.error * (correct.value / sum).abs()) / sum.abs(),
                    },
                }
            });
            work.checks.push(Check { name, want, read });
        }
        compared(work)
    }

    /// The scores and targets of a case, with the mean over all elements.
    fn batch(&self, kind: &str, by_row: bool) -> Result<Batch, Stop> {
        let case = self.case;
        let clip = BinaryClip {
            eps: case.number("prob_eps")?.unwrap_or(1e-7),
            log_eps: case.number("prob_log_eps")?.unwrap_or(0.0),
        };
        let (scores, name, grad) = match kind {
            "logits" => (BinaryScores::Logits, "logits", "grad_logits"),
            "sigmoid_probs" => (BinaryScores::SigmoidProbs(clip), "logits", "grad_logits"),
            "probs" => (BinaryScores::Probs(clip), "probs", "grad_probs"),
            other => return unsupported(format!("input_kind {other} is unknown")),
        };
        let Tensor { shape, values } = self.input(name)?;
        let targets = broadcast(&self.input("targets")?, &shape)?;
        let stated = case.params.get("mean_last_axis").and_then(serde_json::Value::as_bool);
        let rows_are_losses = stated.unwrap_or(by_row);
        let columns = shape.last().copied().unwrap_or(1);
        let outer = product(&shape[..shape.len().saturating_sub(1)])?;
        let layout = match columns {
            0 => Shape::new(0, 1),
            _ => Shape::new(length(outer)?, length(columns)?),
        };
        let label_smoothing = case.number("label_smoothing")?.unwrap_or(0.0);
        let mut spec =
            BinarySpec { scores, label_smoothing: label_smoothing as f32, ..BinarySpec::default() };
        let mut layout = layout;
        if self.has("pos_weight") {
            (layout, spec.pos_weight) = self.pos_weight(&shape, layout, rows_are_losses)?;
        }
        layout.check().map_err(|error| Stop::Malformed(error.to_string()))?;
        let over = match rows_are_losses {
            true => shape[..shape.len().saturating_sub(1)].to_vec(),
            false => shape.clone(),
        };
        let loss = BinaryLoss { label_smoothing, ..BinaryLoss::new(spec, layout, values, targets) };
        Ok(Batch { loss, shape, over, rows_are_losses, grad })
    }

    /// The axes from the first to the last that `pos_weight` varies over are the columns.
    fn pos_weight(
        &self,
        shape: &[usize],
        layout: Shape,
        rows_are_losses: bool,
    ) -> Result<(Shape, PosWeight), Stop> {
        let given = self.input("pos_weight")?;
        if given.values.iter().any(|w| *w < 0.0 || !w.is_finite()) {
            return unsupported("a pos_weight that is negative or not finite, which the spec refuses");
        }
        if let [weight] = given.values[..] {
            return Ok((layout, PosWeight::Given(vec![weight])));
        }
        let Some(lead) = shape.len().checked_sub(given.shape.len()) else {
            return malformed(format!("pos_weight {:?} does not broadcast over {shape:?}", given.shape));
        };
        let varies = |axis: usize| axis >= lead && given.shape[axis - lead] != 1;
        let axes: Vec<usize> = (0..shape.len()).filter(|&axis| varies(axis)).collect();
        let (Some(&first), Some(&last)) = (axes.first(), axes.last()) else {
            return Ok((layout, PosWeight::None));
        };
        if rows_are_losses && (first, last) != (shape.len() - 1, shape.len() - 1) {
            return unsupported("a pos_weight over other axes than the mean's");
        }
        let columns = &shape[first..=last];
        // As if the axes before had a length of 1.
        let narrow =
            Tensor { shape: given.shape[first - lead..=last - lead].to_vec(), values: given.values.clone() };
        let weights = broadcast(&narrow, columns)?;
        let (outer, inner) = (product(&shape[..first])?, product(&shape[last + 1..])?);
        if product(shape)? == 0 {
            return Ok((layout, PosWeight::None));
        }
        let columns = length(product(columns)?)?;
        let layout = match inner {
            1 => Shape::new(length(outer)?, columns),
            _ => Shape::class_first(length(outer)?, columns, length(inner)?),
        };
        Ok((layout, PosWeight::Given(weights)))
    }

    /// Weights, mask, reduction, upstream gradient.
    fn rest_of_batch(&self, batch: &mut Batch) -> Result<(), Stop> {
        self.binary_weights(batch)?;
        self.binary_reduction(batch)?;
        self.fits_binary(&batch.loss)
    }

    fn fits_binary(&self, loss: &BinaryLoss) -> Result<(), Stop> {
        loss.inputs().check(&loss.spec, &loss.shape).map_err(|error| Stop::Malformed(error.to_string()))
    }

    /// `sample_weight` as stored, without the axis of length 1 that Keras keeps in the losses.
    fn binary_sample_weight(&self, batch: &Batch) -> Result<Option<Tensor<f32>>, Stop> {
        if !self.has("sample_weight") {
            return Ok(None);
        }
        let mut given = self.input("sample_weight")?;
        if given.shape.len() == batch.over.len() + 1 && given.shape.last() == Some(&1) {
            given.shape.pop();
        }
        Ok(Some(given))
    }

    fn binary_weights(&self, batch: &mut Batch) -> Result<(), Stop> {
        if self.has("weight") {
            batch.loss.element_weights = Some(broadcast(&self.input("weight")?, &batch.shape)?);
        }
        if let Some(given) = self.binary_sample_weight(batch)? {
            let weights = broadcast(&given, &batch.over)?;
            let loss = &mut batch.loss;
            match (batch.rows_are_losses, &loss.element_weights) {
                (true, _) => loss.sample_weights = Some(weights),
                (false, None) => loss.element_weights = Some(weights),
                (false, Some(others)) => {
                    let products: Vec<f32> = others.iter().zip(&weights).map(|(a, b)| a * b).collect();
                    let exact =
                        |((a, b), c): ((&f32, &f32), &f32)| f64::from(*a) * f64::from(*b) == f64::from(*c);
                    if !others.iter().zip(&weights).zip(&products).all(exact) {
                        return unsupported("products of weights that f32 cannot hold");
                    }
                    loss.element_weights = Some(products);
                }
            }
        }
        if self.has("mask") {
            let mask = self.goldens.i64s(self.case, Part::Inputs, "mask")?;
            let mask = broadcast(&mask, &batch.over)?;
            let each = if batch.rows_are_losses { batch.loss.shape.classes as usize } else { 1 };
            batch.loss.spec.ignore_value = Some(f32::NAN);
            for (at, target) in batch.loss.targets.iter_mut().enumerate() {
                if mask.get(at / each) == Some(&0) {
                    *target = f32::NAN;
                }
            }
        }
        batch.loss.spec.element_weights = batch.loss.element_weights.is_some();
        batch.loss.spec.sample_weights = batch.loss.sample_weights.is_some();
        Ok(())
    }

    fn binary_reduction(&self, batch: &mut Batch) -> Result<(), Stop> {
        let case = self.case;
        let by_row = batch.rows_are_losses;
        let each = if by_row { batch.loss.shape.classes as usize } else { 1 };
        let stored: Vec<f64> = match self.has("sample_weight") {
            true => self.goldens.f64s(case, Part::Inputs, "sample_weight")?.values,
            false => Vec::new(),
        };
        let mut external = None;
        let loss = &batch.loss;
        let spread = || -> Vec<f64> {
            let weights = if by_row { &loss.sample_weights } else { &loss.element_weights };
            let count = loss.targets.len() / each;
            let counts = |position: usize| !loss.spec.ignores(loss.targets[position * each]);
            let weight = |position: usize| weights.as_ref().map_or(1.0, |w| f64::from(w[position]));
            (0..count).filter(|&position| counts(position)).map(weight).collect()
        };
        let reduction = match (case.text("reduction")?, case.text("denominator")?) {
            (Some("none" | "sum"), _) if by_row => BinaryReduction::Mean(BinaryDenominator::Columns),
            (Some("none"), _) => BinaryReduction::None,
            (Some("sum"), _) => BinaryReduction::Sum,
            (Some("mean"), Some(denominator)) => BinaryReduction::Mean(match denominator {
                "count" => BinaryDenominator::Elements,
                "count_valid" => BinaryDenominator::ValidElements,
                "sum_sample_weight" if by_row => BinaryDenominator::SampleWeightSum,
                // What the crate has no name for is for the caller to say.
                "sum_sample_weight" | "sum_sample_weight_raw" | "count_nonzero_weight" => {
                    if self.has("weight") && !by_row {
                        return unsupported("two weights for each element, and a sum of one of them");
                    }
                    let sum = match denominator {
                        "sum_sample_weight" => spread().iter().sum::<f64>(),
                        "sum_sample_weight_raw" => stored.iter().sum(),
                        _ => spread().iter().filter(|weight| **weight != 0.0).count() as f64,
                    };
                    external = Some(sum * each as f64);
                    BinaryDenominator::External
                }
                other => return unsupported(format!("denominator {other} is not here")),
            }),
            (reduction, denominator) => {
                return unsupported(format!("reduction {reduction:?} with denominator {denominator:?}"));
            }
        };
        let loss = &mut batch.loss;
        loss.spec.reduction = reduction;
        loss.external = external;
        let scalar = case.number("upstream_scalar")?.unwrap_or(1.0);
        if self.has("upstream") {
            if scalar != 1.0 {
                return unsupported("upstream and upstream_scalar at once");
            }
            let mut given = self.input("upstream")?;
            if given.shape.len() == batch.over.len() + 1 && given.shape.last() == Some(&1) {
                given.shape.pop();
            }
            let upstream = broadcast(&given, &batch.over)?;
            let spread = upstream.iter().flat_map(|up| std::iter::repeat_n(*up, each));
            loss.grad_out = Some(spread.collect());
        } else if scalar != 1.0 {
            loss.grad_out = Some(vec![scalar as f32; loss.scores.len()]);
            loss.grad_scale = if scalar == 0.0 { 1.0 } else { scalar / f64::from(scalar as f32) };
        }
        Ok(())
    }

    /// Applies the crate's rules to the expected values, and names where each is read.
    fn finish_binary(&self, batch: Batch) -> Result<Work, Stop> {
        let mut expected = self.expected()?;
        let mut deviations = Vec::new();
        let unreduced = self.case.text("reduction")? == Some("none");
        Rules::new(&batch).apply(&mut expected, &mut deviations, unreduced);
        let Batch { loss, rows_are_losses, grad, .. } = batch;
        let columns = loss.shape.classes as usize;
        let each = if rows_are_losses { columns } else { 1 };
        let targets = loss.targets.clone();
        let mut work = Work { calls: vec![Call::Binary(Box::new(loss))], deviations, ..Work::default() };
        let losses = move |answers: &[Answer]| -> Vec<Number> {
            let losses = &answers[0].element_losses;
            (0..losses.values.len() / each).map(|at| mean(&answers[0], at, each)).collect()
        };
        for (name, want) in expected {
            let read: Read = match name.as_str() {
                "per_sample" => Box::new(losses),
                "loss" if unreduced => Box::new(losses),
                "loss" => one(|answers| answers[0].loss),
                "denominator" => one(move |answers| answers[0].denominator.scaled(1.0 / each as f64)),
                "positive_ratio" => one(|answers| positive_ratio(&answers[0])),
                "weights" => {
                    let targets = targets.clone();
                    Box::new(move |answers| {
                        (0..targets.len()).map(|at| weight_of(&answers[0], &targets, at)).collect()
                    })
                }
                name if name == grad => Box::new(|answers| answers[0].logit_grads.iter().collect()),
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

fn sum(numbers: Vec<Number>) -> Number {
    numbers.into_iter().fold(Number::default(), Number::plus)
}

/// The mean of `each` elements' losses.
fn mean(answer: &Answer, at: usize, each: usize) -> Number {
    let losses = (at * each..(at + 1) * each).map(|at| answer.element_losses.at(at));
    sum(losses.collect()).scaled(1.0 / each as f64)
}

/// `t / positive_ratio + (1 - t) / negative_ratio`.
fn weight_of(answer: &Answer, targets: &[f32], at: usize) -> Number {
    let t = f64::from(targets[at]);
    answer.factors.at(0).scaled(t).plus(answer.factors.at(1).scaled(1.0 - t))
}

/// Positives over all, and how far that may be off: counts are sums.
fn positive_ratio(answer: &Answer) -> Number {
    let (positives, negatives) = (answer.binary_counts.at(0), answer.binary_counts.at(1));
    let all = positives.value + negatives.value;
    let ratio = positives.value / all;
    Number { value: ratio, error: (positives.error + ratio * (positives.error + negatives.error)) / all }
}

/// The crate's rules for one batch, written down a second time: what replaces the framework's values.
struct Rules<'a> {
    batch: &'a Batch,
    /// The factors of positives and negatives where they are ratios.
    ratio: Option<(f64, f64)>,
    denominator: f64,
}

impl<'a> Rules<'a> {
    fn new(batch: &'a Batch) -> Self {
        let loss = &batch.loss;
        let each = if batch.rows_are_losses { f64::from(loss.shape.classes) } else { 1.0 };
        let counted: Vec<usize> =
            (0..loss.targets.len()).filter(|&at| !loss.spec.ignores(loss.targets[at])).collect();
        let ratio = matches!(loss.spec.pos_weight, PosWeight::Ratio { .. }).then(|| {
            let positives: f64 = counted.iter().map(|&at| f64::from(loss.targets[at])).sum();
            let negatives: f64 = counted.iter().map(|&at| 1.0 - f64::from(loss.targets[at])).sum();
            let over = |side: f64| if side > 0.0 { (positives + negatives) / side } else { 0.0 };
            (over(positives), over(negatives))
        });
        let row_weight = |at: &usize| {
            let weights = loss.sample_weights.as_ref();
            weights.map_or(1.0, |weights| f64::from(weights[at / loss.shape.classes as usize]))
        };
        let denominator = match loss.spec.reduction {
            BinaryReduction::None | BinaryReduction::Sum => 1.0,
            BinaryReduction::Mean(denominator) => match denominator {
                BinaryDenominator::Elements => loss.targets.len() as f64,
                BinaryDenominator::ValidElements => counted.len() as f64,
                BinaryDenominator::SampleWeightSum => counted.iter().map(row_weight).sum(),
                BinaryDenominator::Columns => each,
                BinaryDenominator::WeightSum | BinaryDenominator::External => {
                    loss.external.unwrap_or(f64::NAN)
                }
            },
        };
        Self { batch, ratio, denominator }
    }

    /// Why the crate's loss or gradient of an element is another than the framework's, if it is.
    fn deviation(&self, at: usize) -> Option<Deviation> {
        let loss = &self.batch.loss;
        let x = loss.scores[at];
        if loss.spec.ignores(loss.targets[at]) {
            return Some(Deviation::IgnoredRow);
        }
        if self.ratio.is_some_and(|(a, b)| a == 0.0 || b == 0.0) {
            return Some(Deviation::OneSidedBatch);
        }
        match loss.spec.scores {
            BinaryScores::Probs(_) => {
                let gamma = loss.spec.focal_gamma;
                let kink = gamma > 0.0 && gamma < 1.0 && f64::from(x) == f64::from(loss.targets[at]);
                (kink && (x == 0.0 || x == 1.0)).then_some(Deviation::FocalKink)
            }
            _ if x.is_infinite() => Some(Deviation::ZeroTimesInfinity),
            _ => (x.abs() > LOGIT_LIMIT).then_some(Deviation::LogitLimit),
        }
    }

    /// An element's loss with all its weights, and its gradient before upstream and denominator.
    fn element(&self, at: usize) -> (f64, f64) {
        let BinaryLoss { spec, shape, scores, targets, element_weights, sample_weights, .. } =
            &self.batch.loss;
        if spec.ignores(targets[at]) {
            return (0.0, 0.0);
        }
        let target = f64::from(targets[at]);
        let x = f64::from(scores[at]);
        let within = at as u64 % u64::from(shape.row_stride);
        let column = (within / u64::from(shape.inner)) as usize;
        let row = at as u64 / u64::from(shape.row_stride) * u64::from(shape.inner)
            + within % u64::from(shape.inner);
        let smoothing = self.batch.loss.label_smoothing;
        let t = target * (1.0 - smoothing) + smoothing / 2.0;
        let mut weight = element_weights.as_ref().map_or(1.0, |weights| f64::from(weights[at]))
            * sample_weights.as_ref().map_or(1.0, |weights| f64::from(weights[row as usize]));
        if let Some(alpha) = self.batch.loss.focal_alpha {
            weight *= alpha * t + (1.0 - alpha) * (1.0 - t);
        }
        if let Some((a, b)) = self.ratio {
            weight *= a * target + b * (1.0 - target);
        }
        let positive_weight = match &spec.pos_weight {
            PosWeight::Given(values) => f64::from(values[if values.len() == 1 { 0 } else { column }]),
            _ => 1.0,
        };
        let limit = f64::from(LOGIT_LIMIT);
        let x = if x.is_finite() { x.clamp(-limit, limit) } else { x };
        let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
        let sigmoid = 1.0 / (1.0 + (-x).exp());
        // Probability, its slope, both costs and their slopes.
        let (p, dp, positive, negative, d_positive, d_negative) = match spec.scores {
            BinaryScores::Logits => {
                (sigmoid, sigmoid * (1.0 - sigmoid), softplus(-x), softplus(x), sigmoid - 1.0, sigmoid)
            }
            BinaryScores::Probs(clip) | BinaryScores::SigmoidProbs(clip) => {
                let (p, dp) = match spec.scores {
                    BinaryScores::Probs(_) => (x.clamp(0.0, 1.0), 1.0),
                    _ => (sigmoid, sigmoid * (1.0 - sigmoid)),
                };
                let c = p.clamp(clip.eps, 1.0 - clip.eps);
                let slope = if c == p { dp } else { 0.0 };
                let (c_positive, c_negative) = (c + clip.log_eps, 1.0 - c + clip.log_eps);
                (p, dp, -c_positive.ln(), -c_negative.ln(), -slope / c_positive, slope / c_negative)
            }
        };
        let times = |weight: f64, value: f64| if weight == 0.0 { 0.0 } else { weight * value };
        let (a, b) = (positive_weight * t, 1.0 - t);
        let ce = times(a, positive) + times(b, negative);
        let slope = times(a, d_positive) + times(b, d_negative);
        let gamma = self.batch.loss.focal_gamma;
        if gamma == 0.0 {
            return (times(weight, ce), times(weight, slope));
        }
        let m = (t * (1.0 - p) + (1.0 - t) * p).max(0.0);
        let turn = match m {
            0.0 if gamma != 1.0 => 0.0,
            m => gamma * m.powf(gamma - 1.0) * (1.0 - 2.0 * t) * dp,
        };
        let focus = m.powf(gamma);
        (times(weight, times(focus, ce)), times(weight, times(focus, slope) + times(turn, ce)))
    }

    /// Replaces what the crate's rules say otherwise.
    fn apply(&self, expected: &mut Expected, deviations: &mut Vec<Deviation>, unreduced: bool) {
        let batch = self.batch;
        let loss = &batch.loss;
        let count = loss.scores.len();
        let each = if batch.rows_are_losses { loss.shape.classes as usize } else { 1 };
        let replaced: Vec<Option<Deviation>> = (0..count).map(|at| self.deviation(at)).collect();
        let grad_out =
            |at: usize| loss.grad_out.as_ref().map_or(1.0, |up| f64::from(up[at])) * loss.grad_scale;
        let mut replace = |value: &mut f64, by: f64, why: Deviation| {
            if *value != by && !(value.is_nan() && by.is_nan()) {
                *value = by;
                deviate(deviations, why);
            }
        };
        let position = |position: usize| -> f64 {
            let elements = position * each..(position + 1) * each;
            elements.map(|at| self.element(at).0).sum::<f64>() / each as f64
        };
        let why_position = |position: usize| {
            replaced[position * each..(position + 1) * each].iter().flatten().next().copied()
        };
        // Only what is no number, or too large, is another's: all else must be equal.
        let other = |value: f64| !value.is_finite() || value.abs() > f64::from(LOGIT_LIMIT) / 1e3;
        for (name, values) in expected.iter_mut() {
            for (at, value) in values.iter_mut().enumerate() {
                let by_position = name == "per_sample" || name == "loss" && unreduced;
                if by_position && at < count / each {
                    if let Some(why) = why_position(at).filter(|_| other(*value)) {
                        replace(value, position(at), why);
                    }
                } else if name == batch.grad && at < count {
                    if self.denominator == 0.0 && other(*value) {
                        replace(value, 0.0, Deviation::EmptyMean);
                    } else if let Some(why) = replaced[at].filter(|_| other(*value)) {
                        replace(value, grad_out(at) * self.element(at).1 / self.denominator, why);
                    }
                } else if name == "weights" && at < count && !value.is_finite() {
                    if let (Some(why), Some((a, b))) = (replaced[at], self.ratio) {
                        let t = f64::from(loss.targets[at]);
                        replace(value, a * t + b * (1.0 - t), why);
                    }
                } else if name == "loss" && !unreduced && other(*value) {
                    if self.denominator == 0.0 {
                        replace(value, 0.0, Deviation::EmptyMean);
                    } else if let Some(why) = replaced.iter().flatten().next() {
                        let sum: f64 = (0..count).map(|at| self.element(at).0).sum();
                        replace(value, sum / self.denominator, *why);
                    }
                }
            }
        }
    }
}
