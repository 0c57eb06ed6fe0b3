//! The trainer without a GPU: the same network in plain loops around the crate's CPU oracle.
//!
//! It computes in `f64`, so what separates it from the GPU trainer is that one's rounding and nothing else.

use std::error::Error;

use wgpu_cross_entropy::cpu::{self, CountState};
use wgpu_cross_entropy::{Inputs, Output, Shape, Spec};

use crate::data::{Data, Part};
use crate::model::{EPSILON, Layer, ONE_MINUS_BETA_1, ONE_MINUS_BETA_2, Trainer, Training, checked_loss};

pub struct CpuTrainer<'a> {
    data: &'a Data,
    spec: Spec,
    sample_weights: Option<&'a [f32]>,
    batch: usize,
    rate: f64,
    layers: Vec<Layer>,
    parameters: Vec<f64>,
    adam: Adam,
    counts: CountState,
}

/// The running means of the gradient and of its square, and `1 - beta^t` of both.
struct Adam {
    first: Vec<f64>,
    second: Vec<f64>,
    correction: (f64, f64),
}

impl<'a> CpuTrainer<'a> {
    pub fn new(
        data: &'a Data,
        training: &Training,
        spec: &Spec,
        sample_weights: Option<&'a [f32]>,
    ) -> CpuTrainer<'a> {
        let parameters: Vec<f64> = training.initial_parameters().into_iter().map(f64::from).collect();
        let zeros = vec![0.0; parameters.len()];
        Self {
            data,
            spec: spec.clone(),
            counts: CountState::new(spec.live_counts.over, data.classes() as u32),
            sample_weights,
            batch: training.batch,
            rate: f64::from(training.rate),
            layers: training.layers(),
            parameters,
            adam: Adam { first: zeros.clone(), second: zeros, correction: (0.0, 0.0) },
        }
    }

    pub fn parameters(&self) -> &[f64] {
        &self.parameters
    }

    /// One step on the given rows of the training set.
    pub fn step(&mut self, rows: &[u32]) -> Result<Output<f64>, Box<dyn Error>> {
        let batch = self.data.train.select(rows);
        let weights: Option<Vec<f32>> =
            self.sample_weights.map(|weights| rows.iter().map(|&row| weights[row as usize]).collect());
        let activations = self.forward(&batch);
        let logits = logits(&activations);
        let shape = Shape::new(rows.len() as u32, self.data.classes() as u32);
        let inputs = Inputs {
            logits: &logits,
            labels: &batch.y,
            sample_weights: weights.as_deref(),
            ..Inputs::default()
        };
        let output = cpu::compute_next(&self.spec, &shape, &inputs, &mut self.counts)?;
        let gradients = self.backward(&activations, &output.logit_grads);
        self.adam.update(&mut self.parameters, &gradients, self.rate);
        Ok(output)
    }

    /// The input of every layer and, last, the logits.
    fn forward(&self, part: &Part) -> Vec<Vec<f64>> {
        let mut activations = vec![part.x.iter().copied().map(f64::from).collect()];
        for layer in &self.layers {
            let parameters = &self.parameters[layer.first_parameter..][..layer.parameters()];
            let x: &Vec<f64> = &activations[activations.len() - 1];
            let mut y = Vec::with_capacity(part.rows() * layer.outputs);
            for x in x.chunks_exact(layer.inputs) {
                let first = y.len();
                y.extend_from_slice(&parameters[layer.inputs * layer.outputs..]);
                let y = &mut y[first..];
                for (x, weights) in x.iter().zip(parameters.chunks_exact(layer.outputs)) {
                    y.iter_mut().zip(weights).for_each(|(y, w)| *y += x * w);
                }
                if layer.relu {
                    y.iter_mut().for_each(|y| *y = y.max(0.0));
                }
            }
            activations.push(y);
        }
        activations
    }

    /// The gradient of every parameter, from that of the logits.
    fn backward(&self, activations: &[Vec<f64>], logit_grads: &[f64]) -> Vec<f64> {
        let mut gradients = vec![0.0; self.parameters.len()];
        let mut dy = logit_grads.to_vec();
        for (layer, x) in self.layers.iter().zip(activations).rev() {
            let parameters = &self.parameters[layer.first_parameter..][..layer.parameters()];
            let gradients = &mut gradients[layer.first_parameter..][..layer.parameters()];
            let mut dx = Vec::with_capacity(x.len());
            for (x, dy) in x.chunks_exact(layer.inputs).zip(dy.chunks_exact(layer.outputs)) {
                // The bias is a weight whose input is always 1.
                for (x, gradients) in x.iter().chain([&1.0]).zip(gradients.chunks_exact_mut(layer.outputs)) {
                    gradients.iter_mut().zip(dy).for_each(|(gradient, dy)| *gradient += x * dy);
                }
                // A hidden layer's output is above 0 just where its slope is 1. The first layer's inputs have
                // no gradient that anyone asks for; what this computes for them is dropped.
                dx.extend(x.iter().zip(parameters.chunks_exact(layer.outputs)).map(|(x, weights)| {
                    match *x > 0.0 {
                        true => weights.iter().zip(dy).map(|(w, dy)| w * dy).sum(),
                        false => 0.0,
                    }
                }));
            }
            dy = dx;
        }
        gradients
    }
}

impl Trainer for CpuTrainer<'_> {
    fn epoch(&mut self, order: &[u32]) -> Result<Vec<f64>, Box<dyn Error>> {
        let batches = order.chunks_exact(self.batch).enumerate();
        batches.map(|(step, rows)| Ok(checked_loss(step, &self.step(rows)?.totals)?)).collect()
    }

    fn test_logits(&mut self) -> Result<Vec<f32>, Box<dyn Error>> {
        Ok(logits(&self.forward(&self.data.test)))
    }
}

fn logits(activations: &[Vec<f64>]) -> Vec<f32> {
    activations.last().into_iter().flatten().map(|&logit| logit as f32).collect()
}

impl Adam {
    fn update(&mut self, parameters: &mut [f64], gradients: &[f64], rate: f64) {
        let (rest_1, rest_2) = (f64::from(ONE_MINUS_BETA_1), f64::from(ONE_MINUS_BETA_2));
        let (correction_1, correction_2) = &mut self.correction;
        *correction_1 += rest_1 * (1.0 - *correction_1);
        *correction_2 += rest_2 * (1.0 - *correction_2);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((parameter, gradient), (first, second)) in parameters.iter_mut().zip(gradients).zip(moments) {
            *first += rest_1 * (gradient - *first);
            *second += rest_2 * (gradient * gradient - *second);
            *parameter -=
                rate * (*first / *correction_1) / ((*second / *correction_2).sqrt() + f64::from(EPSILON));
        }
    }
}
