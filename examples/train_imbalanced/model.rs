//! What both trainers share: the network's layout and first parameters, the optimiser's constants, and the
//! order of the rows. One seed gives the same training on every device.

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use wgpu_cross_entropy::Totals;

/// How to train.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// Widths of the network: features, hidden layers, classes.
    pub widths: Vec<usize>,
    /// Rows in a step.
    pub batch: usize,
    pub epochs: usize,
    /// Adam's step size.
    pub rate: f32,
    pub seed: u64,
}

impl Training {
    /// Numbers in a row.
    pub fn features(&self) -> usize {
        self.widths[0]
    }

    /// Numbers that come out for a row.
    pub fn classes(&self) -> usize {
        self.widths[self.widths.len() - 1]
    }

    /// Steps in an epoch. Batches are all of one size; the rows that are left over sit this epoch out, other
    /// ones in every epoch, as each has its own order.
    pub fn steps(&self, rows: usize) -> usize {
        rows / self.batch
    }

    /// The order of the training rows in one epoch.
    pub fn order(&self, epoch: usize, rows: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..rows as u32).collect();
        let stream = self.seed ^ (epoch as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        order.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(stream));
        order
    }

    pub fn layers(&self) -> Vec<Layer> {
        let mut first_parameter = 0;
        let last = self.widths.len() - 2;
        let layers = self.widths.windows(2).enumerate().map(|(i, pair)| {
            let layer = Layer { inputs: pair[0], outputs: pair[1], first_parameter, relu: i < last };
            first_parameter += layer.parameters();
            layer
        });
        layers.collect()
    }

    /// The parameters of all layers before the first step: uniform weights after Glorot and Bengio, as Keras
    /// has them, and biases of 0.
    pub fn initial_parameters(&self) -> Vec<f32> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        let mut parameters = Vec::new();
        for Layer { inputs, outputs, .. } in self.layers() {
            let limit = (6.0 / (inputs + outputs) as f32).sqrt();
            parameters.extend((0..inputs * outputs).map(|_| random.random_range(-limit..limit)));
            parameters.extend(std::iter::repeat_n(0.0, outputs));
        }
        parameters
    }
}

/// One dense layer: `y[o] = b[o] + sum_i x[i] w[i][o]`, followed by `max(y, 0)` in hidden layers.
///
/// Its parameters lie together: `[inputs + 1, outputs]`, the last row being the bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    pub inputs: usize,
    pub outputs: usize,
    /// Where its parameters begin among those of all layers.
    pub first_parameter: usize,
    pub relu: bool,
}

impl Layer {
    pub fn parameters(&self) -> usize {
        (self.inputs + 1) * self.outputs
    }
}

/// Adam's constants, written as their complements: `1 - 0.999` would lose four digits in `f32`.
pub const ONE_MINUS_BETA_1: f32 = 0.1;
pub const ONE_MINUS_BETA_2: f32 = 0.001;
pub const EPSILON: f32 = 1e-7;

/// The loss of a step, or what is wrong with it.
pub fn checked_loss<T: Copy + Into<f64>>(step: usize, totals: &Totals<T>) -> Result<f64, String> {
    match totals.first_bad_row {
        None => Ok(totals.loss.into()),
        Some(row) => Err(format!(
            "step {step} of the epoch: {} rows with labels out of range and {} with logits that are not \
             finite, the first of them row {row} of the batch",
            totals.out_of_range_rows, totals.nonfinite_rows
        )),
    }
}

/// What trains one network. `epoch` is all that is timed.
pub trait Trainer {
    /// Trains on the batches of one epoch; the loss of each step.
    fn epoch(&mut self, order: &[u32]) -> Result<Vec<f64>, Box<dyn std::error::Error>>;

    /// The logits of the held-out rows: `[rows, classes]`.
    fn test_logits(&mut self) -> Result<Vec<f32>, Box<dyn std::error::Error>>;
}
