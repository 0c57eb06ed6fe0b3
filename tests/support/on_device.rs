//! Asks a device what a golden case asks, through the crate's public calls.

#![allow(dead_code, reason = "each binary that includes this file uses a part of it")]

#[path = "binary_on_device.rs"]
mod binary;

use std::collections::HashMap;
use std::fmt;

use wgpu_cross_entropy::error::{BindError, HostError, PlanError};
use wgpu_cross_entropy::kernels::{
    ClassCountsBuffers, ClassCountsKernel, ClassWeightsBuffers, ClassWeightsKernel, CostGatherBuffers,
    CostGatherKernel, TableLayout,
};
use wgpu_cross_entropy::tolerance::{FLUSHED, class_weight_error, count_error, tolerances};
use wgpu_cross_entropy::{
    BinaryCrossEntropy, Bound, ClassWeights, Config, CrossEntropy, Gpu, Options, Output, Shape, Spec,
};

use crate::work::{Answer, Call, Loss, Number, Numbers, Solved};

/// How many cases of each op of `tests/golden` run on a device: as many as on the oracle.
pub const RUN: [(&str, usize); 23] = [
    ("accuracy", 10),
    ("bce", 65),
    ("binary_accuracy", 2),
    ("class_counts", 18),
    ("class_counts_soft", 4),
    ("class_counts_weighted", 8),
    ("class_weight_to_sample_weight", 12),
    ("class_weights", 7),
    ("class_weights_from_counts", 5),
    ("cost_matrix_ce", 32),
    ("cost_matrix_ce_onehot", 1),
    ("dynamic_bce", 40),
    ("dynamic_bce_losses_api", 3),
    ("dynamic_ce", 24),
    ("dynamic_class_weight_ce", 10),
    ("effective_number", 38),
    ("fit_epoch", 8),
    ("log_loss", 11),
    ("log_softmax", 10),
    ("nll", 14),
    ("sigmoid_focal", 18),
    ("softmax_ce", 440),
    ("softmax_focal", 46),
];

/// So many plans are kept; then all go, for each holds buffers.
const PLANS: usize = 64;

/// Why a device gave no answer.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// A limit of the device: not a fault of the case or the crate.
    Limit(String),
    /// Anything else.
    Failed(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(what) | Self::Failed(what) => f.write_str(what),
        }
    }
}

impl From<PlanError> for Refusal {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Limit { .. } => Self::Limit(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<BindError> for Refusal {
    fn from(error: BindError) -> Self {
        match error {
            BindError::BindingSize { .. } => Self::Limit(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<HostError> for Refusal {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Plan(error) => error.into(),
            HostError::Bind(error) => error.into(),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// An adapter, and the plans that it has compiled.
pub struct Device {
    gpu: Gpu,
    options: Options,
    plans: HashMap<String, CrossEntropy>,
    binary_plans: HashMap<String, BinaryCrossEntropy>,
}

impl Device {
    /// For an opened adapter.
    pub fn new(gpu: Gpu) -> Self {
        Self::with_options(gpu, Options::default())
    }

    /// The same, in variants other than the ones that the adapter would get.
    pub fn with_options(gpu: Gpu, options: Options) -> Self {
        Self { gpu, options, plans: HashMap::new(), binary_plans: HashMap::new() }
    }

    /// The options for a shape. Class-first layouts know one strategy.
    fn options(&self, shape: &Shape) -> Options {
        let strategy = self.options.strategy.filter(|_| shape.inner == 1);
        Options { strategy, ..self.options }
    }

    /// Name, back end and driver.
    pub fn describe(&self) -> String {
        self.gpu.describe()
    }

    /// Asks all calls. In a browser the future yields while the GPU works; on native back ends it is ready at once.
    ///
    /// # Errors
    /// [`Refusal`] where the device gives no answer.
    pub async fn answers(&mut self, calls: &[Call], solved: &[Solved]) -> Result<Vec<Answer>, Refusal> {
        let mut answers = Vec::new();
        for (call, solved) in calls.iter().zip(solved) {
            answers.push(self.answer(call, solved).await?);
        }
        Ok(answers)
    }

    async fn answer(&mut self, call: &Call, solved: &Solved) -> Result<Answer, Refusal> {
        let empty = Answer::default();
        if let (Call::Binary(loss), Some(raw)) = (call, &solved.binary) {
            return self.binary(loss, raw, &solved.answer).await;
        }
        Ok(match (call, &solved.raw) {
            (Call::Loss(loss), Some(raw)) => self.loss(loss, raw, &solved.answer).await?,
            (Call::Loss(_) | Call::Binary(_), _) => {
                return Err(Refusal::Failed("the oracle has not answered".into()));
            }
            (Call::Counts { spec, shape, labels }, _) => {
                let counts = self.counts(spec, *shape, bytemuck::cast_slice(labels), None).await?;
                Answer { class_counts: counts, ..empty }
            }
            (Call::Mass { spec, shape, labels, target_probs, sample_weights }, _) => {
                let targets = match target_probs {
                    Some(probs) => bytemuck::cast_slice(probs),
                    None => bytemuck::cast_slice(labels),
                };
                let words = self.counts(spec, *shape, targets, sample_weights.as_deref()).await?;
                let values = words.into_iter().map(|word| f32::from_bits(word).into()).collect();
                let of_terms = count_error(spec);
                let errors = solved.answer.class_mass.values.iter();
                let errors = errors.map(|mass| mass.abs() * of_terms + FLUSHED).collect();
                Answer { class_mass: Numbers { values, errors }, ..empty }
            }
            (Call::Weights { spec, shape, counts }, _) => {
                let values: Vec<f64> =
                    self.weights(spec, *shape, counts).await?.into_iter().map(f64::from).collect();
                let relative = match &spec.class_weights {
                    ClassWeights::Live(live) => class_weight_error(live, counts, 0.0),
                    ClassWeights::None | ClassWeights::Given(_) => 0.0,
                };
                let errors = solved.answer.class_weights.values.iter();
                let errors = errors.map(|w| w.abs() * relative + FLUSHED).collect();
                Answer { class_weights: Numbers { values, errors }, ..empty }
            }
            (Call::Gather { spec, shape, logits, labels }, _) => {
                let gathered = self.gather(spec, *shape, logits, labels).await?;
                Answer {
                    gathered: gathered.into_iter().map(|(p, cost)| (p, f64::from(cost))).collect(),
                    ..empty
                }
            }
        })
    }

    async fn loss(&mut self, loss: &Loss, raw: &Output<f64>, exact: &Answer) -> Result<Answer, Refusal> {
        let inputs = loss.inputs();
        let options = Options {
            grad_out: inputs.grad_out.is_some(),
            predictions: loss.by_products,
            class_stats: loss.by_products,
            ..self.options(&loss.shape)
        };
        let key = format!("{:?} {:?} {options:?}", loss.spec, loss.shape);
        if !self.plans.contains_key(&key) {
            if self.plans.len() >= PLANS {
                self.plans.clear();
            }
            let plan = CrossEntropy::new(&self.gpu.device, &loss.spec, loss.shape, &options)?;
            self.plans.insert(key.clone(), plan);
        }
        let plan = &self.plans[&key];
        let got = plan.compute(&self.gpu.device, &self.gpu.queue, &inputs).await?;
        let allowed = tolerances(plan.config(), &inputs, raw);
        let (g, r) = (&got.totals, &raw.totals);
        let number =
            |got: f32, raw: f64, exact: f64, error: f64| Number { value: moved(got, raw, exact), error };
        let numbers = |got: &[f32], raw: &[f64], exact: &Numbers, errors: Vec<f64>| Numbers {
            values: got.iter().zip(raw).zip(&exact.values).map(|((g, r), e)| moved(*g, *r, *e)).collect(),
            errors,
        };
        Ok(Answer {
            loss: number(g.loss, r.loss, exact.loss.value, allowed.loss),
            loss_sum: number(g.loss_sum, r.loss_sum, exact.loss_sum.value, allowed.loss_sum),
            denominator: number(g.denominator, r.denominator, exact.denominator.value, allowed.denominator),
            row_losses: numbers(&got.row_losses, &raw.row_losses, &exact.row_losses, allowed.row_losses),
            logit_grads: numbers(&got.logit_grads, &raw.logit_grads, &exact.logit_grads, allowed.logit_grads),
            class_weights: numbers(
                got.class_weights.as_deref().unwrap_or_default(),
                raw.class_weights.as_deref().unwrap_or_default(),
                &exact.class_weights,
                allowed.class_weights.unwrap_or_default(),
            ),
            class_counts: got.class_counts.unwrap_or_default(),
            correct_rows: g.correct_rows,
            valid_rows: g.valid_rows,
            predictions: got.predictions.unwrap_or_default(),
            class_stats: got.class_stats,
            weights_error: allowed.class_weight_sums.iter().sum(),
            ..Answer::default()
        })
    }

    async fn counts(
        &self,
        spec: &Spec,
        shape: Shape,
        targets: &[u8],
        sample_weights: Option<&[f32]>,
    ) -> Result<Vec<u32>, Refusal> {
        let config = Config::new(&self.gpu.device, spec, shape, &self.options(&shape))?;
        let kernel = ClassCountsKernel::new(&self.gpu.device, &config)?;
        let targets = self.buffer(targets);
        let weights = sample_weights.map(|weights| self.buffer(bytemuck::cast_slice(weights)));
        let mass = spec.counts_are_mass().then(|| self.buffer(&vec![0; shape.classes as usize * 16]));
        let counts = self.buffer(&vec![0; shape.classes as usize * 4]);
        let bound = kernel.bind(
            &self.gpu.device,
            &ClassCountsBuffers {
                targets: targets.as_entire_buffer_binding(),
                sample_weights: weights.as_ref().map(wgpu::Buffer::as_entire_buffer_binding),
                mass: mass.as_ref().map(wgpu::Buffer::as_entire_buffer_binding),
                class_counts: counts.as_entire_buffer_binding(),
            },
        )?;
        Ok(bytemuck::pod_collect_to_vec(&self.run(&bound, &counts, shape.classes as usize * 4).await?))
    }

    async fn weights(&self, spec: &Spec, shape: Shape, counts: &[u32]) -> Result<Vec<f32>, Refusal> {
        let config = Config::new(&self.gpu.device, spec, shape, &self.options(&shape))?;
        let kernel = ClassWeightsKernel::new(&self.gpu.device, &config)?;
        let layout = TableLayout::new(spec, &shape);
        let table = self.buffer(&layout.initial(spec));
        let counts = self.buffer(bytemuck::cast_slice(counts));
        let bound = kernel.bind(
            &self.gpu.device,
            &ClassWeightsBuffers {
                class_counts: counts.as_entire_buffer_binding(),
                history: None,
                counted: None,
                table: table.as_entire_buffer_binding(),
            },
        )?;
        let bytes = self.run(&bound, &table, layout.size() as usize).await?;
        let at = layout.class_weights() as usize;
        let weights = bytes.get(at..at + shape.classes as usize * 4).unwrap_or_default();
        Ok(bytemuck::pod_collect_to_vec(weights))
    }

    async fn gather(
        &self,
        spec: &Spec,
        shape: Shape,
        logits: &[f32],
        labels: &[i32],
    ) -> Result<Vec<(u32, f32)>, Refusal> {
        let config = Config::new(&self.gpu.device, spec, shape, &self.options(&shape))?;
        let kernel = CostGatherKernel::new(&self.gpu.device, &config)?;
        let table = self.buffer(&TableLayout::new(spec, &shape).initial(spec));
        let logits = self.buffer(bytemuck::cast_slice(logits));
        let labels = self.buffer(bytemuck::cast_slice(labels));
        let size = shape.rows as usize * 8;
        let gathered = self.buffer(&vec![0; size]);
        let bound = kernel.bind(
            &self.gpu.device,
            &CostGatherBuffers {
                logits: logits.as_entire_buffer_binding(),
                labels: labels.as_entire_buffer_binding(),
                gathered: gathered.as_entire_buffer_binding(),
                table: table.as_entire_buffer_binding(),
            },
        )?;
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&self.run(&bound, &gathered, size).await?);
        Ok(words.chunks_exact(2).map(|pair| (pair[0], f32::from_bits(pair[1]))).collect())
    }

    /// A buffer of some contents; of four bytes where there are none, for no buffer is empty.
    fn buffer(&self, contents: &[u8]) -> wgpu::Buffer {
        let buffer = self.gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("golden"),
            size: contents.len().max(4).next_multiple_of(4) as u64,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.gpu.queue.write_buffer(&buffer, 0, contents);
        buffer
    }

    /// Records, submits, reads back.
    async fn run(&self, bound: &Bound, result: &wgpu::Buffer, size: usize) -> Result<Vec<u8>, Refusal> {
        let (device, queue) = (&self.gpu.device, &self.gpu.queue);
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        bound.encode(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
        queue.submit([encoder.finish()]);
        Ok(wgpu_cross_entropy::read(device, queue, "golden", result, size as u64).await?)
    }
}

/// A device's value, moved by what the `f64` settings of the reference change in the oracle's.
fn moved(got: f32, raw: f64, exact: f64) -> f64 {
    let got = f64::from(got);
    if (exact - raw).is_finite() { got + (exact - raw) } else { got }
}
