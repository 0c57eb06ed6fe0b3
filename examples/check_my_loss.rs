//! Checks somebody's own loss against the oracle: in plain Rust slices, and with `ndarray`.
//!
//! The first implementation is sound and passes. The second is the textbook's, which takes `p - 1` for the gradient at the
//! label: its worst element is shown, and the example fails if nothing was found. Put your own in their place.
//!
//! ```sh
//! cargo run --release --example check_my_loss
//! ```

use std::process::ExitCode;

use ndarray::{Array1, Array2, Axis};
use wgpu_cross_entropy::error::HostError;
use wgpu_cross_entropy::{Answer, ClassWeights, Inputs, Shape, Spec, Validation, compare};

const ROWS: usize = 512;
const CLASSES: usize = 6;
const WEIGHTS: [f32; CLASSES] = [0.2, 1.0, 4.0, 1.0, 0.5, 9.0];

/// What an implementation gives: the loss, and the gradient of the logits.
type Given = (f32, Vec<f32>);

/// Weighted cross-entropy in slices. `1 - p` is the sum of the other probabilities, and the loss of the most likely class
/// is `log(1 + others)`: nothing cancels.
fn in_slices(logits: &[f32], labels: &[i32]) -> Given {
    let (mut loss, mut grads) = (0.0, Vec::with_capacity(logits.len()));
    let denominator: f32 = labels.iter().map(|&y| WEIGHTS[y as usize]).sum();
    for (row, &y) in logits.chunks(CLASSES).zip(labels) {
        let y = y as usize;
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exp: Vec<f32> = row.iter().map(|z| (z - max).exp()).collect();
        let sum: f32 = exp.iter().sum();
        let others: f32 = (0..CLASSES).filter(|&j| j != y).map(|j| exp[j]).sum();
        loss += WEIGHTS[y] * if row[y] == max { others.ln_1p() } else { (max - row[y]) + sum.ln() };
        let of = |j: usize| if j == y { -others / sum } else { exp[j] / sum };
        grads.extend((0..CLASSES).map(|j| WEIGHTS[y] * of(j) / denominator));
    }
    (loss / denominator, grads)
}

/// The same as textbooks have it, in arrays.
fn in_arrays(logits: &Array2<f32>, labels: &Array1<i32>) -> Given {
    let max = logits.map_axis(Axis(1), |row| row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let exp = (logits - &max.insert_axis(Axis(1))).mapv(f32::exp);
    let mut grads = &exp / &exp.sum_axis(Axis(1)).insert_axis(Axis(1));
    let weights = labels.mapv(|y| WEIGHTS[y as usize]);
    let denominator = weights.sum();
    let mut loss = 0.0;
    for ((mut row, &y), &weight) in grads.outer_iter_mut().zip(labels).zip(&weights) {
        loss -= weight * row[y as usize].ln();
        row[y as usize] -= 1.0;
        row *= weight / denominator;
    }
    // Row by row, whatever the array's order in memory.
    (loss / denominator, grads.iter().copied().collect())
}

/// The batch, and both answers beside the oracle's.
pub fn check() -> Result<[Validation; 2], HostError> {
    let logits: Vec<f32> = (0..ROWS * CLASSES).map(|i| (i * 677 % 1021) as f32 / 32.0 - 16.0).collect();
    let labels: Vec<i32> = (0..ROWS).map(|i| (i * i % 7 % CLASSES) as i32).collect();
    let spec = Spec { class_weights: ClassWeights::Given(WEIGHTS.to_vec()), ..Spec::default() };
    let shape = Shape::new(ROWS as u32, CLASSES as u32);
    let inputs = Inputs { logits: &logits, labels: &labels, ..Inputs::default() };
    let compared = |(loss, grads): Given| {
        let answer = Answer { loss: Some(loss), logit_grads: Some(&grads), ..Answer::default() };
        compare(&spec, shape, &inputs, &answer)
    };
    let array = Array2::from_shape_fn((ROWS, CLASSES), |(row, class)| logits[row * CLASSES + class]);
    Ok([
        compared(in_slices(&logits, &labels))?,
        compared(in_arrays(&array, &Array1::from_vec(labels.clone())))?,
    ])
}

fn main() -> ExitCode {
    match check() {
        Ok([sound, textbook]) => {
            print!("in slices:\n{sound}as textbooks have it, in arrays:\n{textbook}");
            // The confident rows of the batch are what the second loses digits on.
            let as_expected = sound.passed() && textbook.failures().any(|worst| worst.name == "logit_grads");
            if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("check_my_loss: {error}");
            ExitCode::FAILURE
        }
    }
}
