//! Somebody's own loss beside the oracle.

use crate::config::{Config, Options};
use crate::cpu;
use crate::error::{HostError, InputError};
use crate::inputs::{Inputs, Output};
use crate::pipeline::Capabilities;
use crate::shape::Shape;
use crate::spec::Spec;
use crate::tolerance::{Worst, plain_tolerances};
use crate::validate::Validation;

/// What an implementation says of a batch: any of it. Slices are in `f32`, whatever the implementation computes in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer<'a> {
    /// The loss, after the spec's reduction.
    pub loss: Option<f32>,
    /// `[rows]`: each row's loss times all its weights, before any denominator.
    pub row_losses: Option<&'a [f32]>,
    /// The gradient with respect to the logits, in their layout; at least [`Shape::logits_len`] elements. Padding is not
    /// looked at.
    pub logit_grads: Option<&'a [f32]>,
    /// `[classes]`: the class weights, where the spec has any.
    pub class_weights: Option<&'a [f32]>,
    /// `[rows]`: the class with the largest logit; [`NO_CLASS`](crate::NO_CLASS) where the row does not count.
    pub predictions: Option<&'a [u32]>,
}

/// Compares an implementation's answer with the oracle's: the worst element of each output, with the tolerance there.
///
/// The tolerance is derived, not chosen: see [`tolerance`](crate::tolerance). It is that of a sound implementation in `f32`
/// which adds up one term after the other, on a device that keeps WGSL's promises and no more. It is relative, at the
/// label too: the gradient there is minus the sum of the other probabilities. An implementation that takes `p - 1` for it,
/// or `lse - z` for the loss, has lost those digits where a row is confident, and is told so.
///
/// ```
/// use wgpu_cross_entropy::{Answer, Inputs, Shape, Spec, compare};
///
/// let inputs = Inputs { logits: &[0.0, 0.0, 0.0, 0.0], labels: &[0, 1], ..Inputs::default() };
/// let mine = [-0.25, 0.25, 0.25, -0.25];
/// let answer = Answer { logit_grads: Some(&mine), loss: Some(0.6931472), ..Answer::default() };
/// let compared = compare(&Spec::default(), Shape::new(2, 2), &inputs, &answer)?;
/// assert!(compared.passed(), "{compared}");
///
/// // A sum in the place of a mean:
/// let mine = mine.map(|grad| 2.0 * grad);
/// let answer = Answer { logit_grads: Some(&mine), ..answer };
/// let compared = compare(&Spec::default(), Shape::new(2, 2), &inputs, &answer)?;
/// assert!(!compared.passed());
/// println!("{compared}"); // FAIL logit_grads  4 elements  worst at 0: got -5.0e-1, oracle -2.5e-1, ...
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`HostError`] where shape, spec, inputs and answer do not fit each other. A difference is no error: see
/// [`Validation::passed`].
pub fn compare(
    spec: &Spec,
    shape: Shape,
    inputs: &Inputs<'_>,
    answer: &Answer<'_>,
) -> Result<Validation, HostError> {
    let want = cpu::compute(spec, &shape, inputs)?;
    let classes = want.class_weights.as_ref().map_or(0, Vec::len);
    let rows = shape.rows as usize;
    let exact = |name, got: Option<usize>, need: usize| match got {
        Some(got) if got != need => Err(InputError::Length { name, got: got as u64, need: need as u64 }),
        _ => Ok(()),
    };
    exact("row_losses", answer.row_losses.map(<[f32]>::len), rows)?;
    exact("class_weights", answer.class_weights.map(<[f32]>::len), classes)?;
    exact("predictions", answer.predictions.map(<[u32]>::len), rows)?;
    if let Some(got) = answer.logit_grads.map(|grads| grads.len() as u64).filter(|&n| n < shape.logits_len())
    {
        return Err(InputError::Length { name: "logit_grads", got, need: shape.logits_len() }.into());
    }
    // The oracle has no device; what is said of one does not matter to sums in a row.
    let config = Config::with_capabilities(Capabilities::default(), spec, shape, &Options::default())?;
    let mut outputs = values(&config, inputs, answer, &want);
    if let Some(got) = answer.predictions {
        outputs.push(Worst::counts("predictions", got, want.predictions.as_deref().unwrap_or_default()));
    }
    Ok(Validation { outputs })
}

/// The numbers that are not counts.
fn values(config: &Config, inputs: &Inputs<'_>, answer: &Answer<'_>, want: &Output<f64>) -> Vec<Worst> {
    let allowed = plain_tolerances(config, inputs, want);
    let mut outputs = Vec::new();
    outputs.extend(answer.loss.map(|loss| Worst::one("loss", loss, want.totals.loss, allowed.loss)));
    let mut of = |name, got: Option<&[f32]>, want: &[f64], allowed: &[f64]| {
        outputs.extend(got.map(|got| Worst::of(name, got, want, allowed)));
    };
    of("row_losses", answer.row_losses, &want.row_losses, &allowed.row_losses);
    let mut grads = answer.logit_grads.map(<[f32]>::to_vec);
    if let Some(grads) = &mut grads {
        grads.truncate(want.logit_grads.len());
        crate::host::clear_padding(config.shape(), grads);
    }
    of("logit_grads", grads.as_deref(), &want.logit_grads, &allowed.logit_grads);
    if let (Some(want), Some(allowed)) = (&want.class_weights, &allowed.class_weights) {
        of("class_weights", answer.class_weights, want, allowed);
    }
    outputs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::WeightScheme;

    /// The formulas in `f32`, one term after the other, with `1 - p` as the sum of the others.
    fn plain(logits: &[f32], labels: &[i32], weights: &[f32]) -> (Vec<f32>, Vec<f32>, f32) {
        let classes = weights.len();
        let (mut losses, mut grads) = (Vec::new(), Vec::new());
        for (row, &y) in logits.chunks(classes).zip(labels) {
            let y = y as usize;
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let e: Vec<f32> = row.iter().map(|z| (z - max).exp()).collect();
            let sum: f32 = e.iter().sum();
            let others: f32 = e.iter().enumerate().filter(|(j, _)| *j != y).map(|(_, e)| e).sum();
            let loss = if row[y] == max { others.ln_1p() } else { sum.ln() + (max - row[y]) };
            losses.push(weights[y] * loss);
            grads.extend((0..classes).map(|j| if j == y { -others / sum } else { e[j] / sum } * weights[y]));
        }
        let denominator: f32 = labels.iter().map(|&y| weights[y as usize]).sum();
        grads.iter_mut().for_each(|grad| *grad /= denominator);
        let loss = losses.iter().sum::<f32>() / denominator;
        (losses, grads, loss)
    }

    #[test]
    fn a_plain_implementation_passes_and_a_wrong_one_is_named() {
        let (rows, classes) = (257, 7);
        let logits: Vec<f32> =
            (0..rows * classes).map(|i| ((i * i * 37 % 101) as f32 - 50.0) / 3.0).collect();
        let labels: Vec<i32> = (0..rows as i32).map(|i| i * i % 5).collect();
        let inputs = Inputs { logits: &logits, labels: &labels, ..Inputs::default() };
        let shape = Shape::new(rows as u32, classes as u32);
        let spec = Spec { class_weights: WeightScheme::Balanced.into(), ..Spec::default() };
        let mut counts = [0.0f32; 7];
        labels.iter().for_each(|&y| counts[y as usize] += 1.0);
        let present = counts.iter().filter(|n| **n > 0.0).count() as f32;
        let weights = counts.map(|n| if n > 0.0 { rows as f32 / (present * n) } else { 0.0 });
        let (row_losses, grads, loss) = plain(&logits, &labels, &weights);
        let answer = Answer {
            loss: Some(loss),
            row_losses: Some(&row_losses),
            logit_grads: Some(&grads),
            class_weights: Some(&weights),
            predictions: None,
        };
        let compared = compare(&spec, shape, &inputs, &answer).expect("sound inputs");
        assert!(compared.passed() && compared.outputs.len() == 4, "{compared}");
        for worst in &compared.outputs {
            assert!(worst.tolerance < 1e-4 * worst.want.abs().max(1e-4), "loose: {worst}");
        }

        // p - 1 at the labels: what is left of a small gradient are the digits of 1.
        let mut wrong = grads.clone();
        for (row, &y) in labels.iter().enumerate() {
            let (at, scale) = (row * classes + y as usize, weights[y as usize] / rows as f32);
            let p = 1.0 + grads[row * classes + y as usize] / scale;
            wrong[at] = (p - 1.0) * scale;
        }
        let compared = compare(&spec, shape, &inputs, &Answer { logit_grads: Some(&wrong), ..answer });
        let compared = compared.expect("sound inputs");
        let failures: Vec<_> = compared.failures().collect();
        assert!(failures.len() == 1 && failures[0].name == "logit_grads", "{compared}");
        let at = failures[0].index;
        assert_eq!(at % classes, labels[at / classes] as usize, "{compared}");
    }

    #[test]
    fn an_answer_of_another_length_is_refused() {
        let inputs = Inputs { logits: &[0.0; 4], labels: &[0, 1], ..Inputs::default() };
        let message = |answer: Answer<'_>| {
            compare(&Spec::default(), Shape::new(2, 2), &inputs, &answer).expect_err("too short").to_string()
        };
        let short = Some(&[0.0f32][..]);
        let said = message(Answer { logit_grads: short, ..Answer::default() });
        assert_eq!(said, "logit_grads holds 1 elements; 4 are needed");
        let said = message(Answer { class_weights: short, ..Answer::default() });
        assert_eq!(said, "class_weights holds 1 elements; 0 are needed");
    }
}
