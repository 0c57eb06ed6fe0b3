//! The peers, each with a batch on its device.

use std::time::{Duration, Instant};

use burn::backend::DispatchDevice;
use burn::nn::loss::{CrossEntropyLoss as Composed, CrossEntropyLossConfig as ComposedConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use wgpu_cross_entropy::{
    Batch, BoundStep, ClassWeights, CrossEntropy, Gpu, Options, Shape, Spec, Totals, kernels,
};
use wgpu_cross_entropy_burn::{CrossEntropyLoss, CrossEntropyLossConfig};

use crate::candle::Candle;
use crate::data::Data;
use crate::measure::{Failure, empty_buffer, read_words, wait};

/// The page of burn's allocator in which small tensors lie.
const PAGE: usize = 8 << 20;

/// What a step took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// Until the device was done.
    pub whole: Duration,
    /// Until all was queued.
    pub host: Duration,
}

/// A loss with a batch.
pub trait Peer {
    /// Forward and backward, to the end on the device. Nothing is read.
    fn step(&mut self) -> Result<Took, Failure>;
    /// A step whose loss and gradients are read: gradients in the layout of the logits.
    fn answer(&mut self) -> Result<(f64, Vec<f32>), Failure>;
    /// Bytes that a step takes beyond the batch, where that is known.
    fn peak_bytes(&mut self) -> Result<Option<u64>, Failure>;
    /// Dispatches of a step, where they are known.
    fn dispatches(&self) -> Option<usize> {
        None
    }
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Which {
    /// Our plan, on a device of its own.
    Ours,
    /// Our loss for burn.
    OursInBurn,
    /// burn's own loss, which is composed of its operations.
    Burn,
    /// The same composition in candle, on the CPU.
    Candle,
}

impl Which {
    pub const ALL: [Self; 4] = [Self::Ours, Self::OursInBurn, Self::Burn, Self::Candle];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursInBurn => "ours_in_burn",
            Self::Burn => "burn",
            Self::Candle => "candle_cpu",
        }
    }

    /// By its name.
    pub fn named(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|which| which.name() == name).ok_or(format!("peers are {names}"))
    }

    /// With a batch.
    pub fn set_up(
        self,
        data: &Data,
        spec: &Spec,
        gpu: &Gpu,
        device: &Device,
    ) -> Result<Box<dyn Peer>, Failure> {
        Ok(match self {
            Self::Ours => Box::new(Plan::new(data, spec, gpu)?),
            Self::OursInBurn => {
                let config = CrossEntropyLossConfig::new(spec.clone(), data.shape.classes as usize);
                let loss = config.with_class_first(data.shape.inner > 1).init(device);
                Box::new(Burn::new(data, device, Loss::Ours(loss)))
            }
            Self::Burn => {
                let loss = ComposedConfig::new().with_weights(Some(given(spec)?)).init(device);
                Box::new(Burn::new(data, device, Loss::Composed(loss)))
            }
            Self::Candle => Box::new(Candle::new(data, spec)?),
        })
    }
}

/// The class weights of a spec.
pub fn given(spec: &Spec) -> Result<Vec<f32>, Failure> {
    match &spec.class_weights {
        ClassWeights::Given(weights) => Ok(weights.clone()),
        other => Err(format!("{other:?} are no weights that every peer takes").into()),
    }
}

/// `[rows, classes]`; class-first `[outer, classes, inner]`.
pub fn dims(shape: &Shape) -> [usize; 3] {
    [(shape.rows / shape.inner) as usize, shape.classes as usize, shape.inner as usize]
}

struct Plan {
    gpu: Gpu,
    plan: CrossEntropy,
    step: BoundStep,
    grads: wgpu::Buffer,
    logits: u64,
}

impl Plan {
    fn new(data: &Data, spec: &Spec, gpu: &Gpu) -> Result<Self, Failure> {
        let plan = CrossEntropy::new(&gpu.device, spec, data.shape, &Options::default())?;
        let (logits, labels) = (data.logits_buffer(gpu)?, data.labels_buffer(gpu)?);
        let grads = empty_buffer(gpu, "logit_grads", data.shape.logits_len() * 4)?;
        let batch = Batch {
            logits: logits.as_entire_buffer_binding(),
            targets: labels.as_entire_buffer_binding(),
            sample_weights: None,
            grad_out: None,
            external_denominator: None,
            logit_grads: Some(grads.as_entire_buffer_binding()),
        };
        let step = plan.bind(&gpu.device, &batch)?;
        Ok(Self { gpu: gpu.clone(), plan, step, grads, logits: data.shape.logits_len() })
    }
}

impl Peer for Plan {
    fn step(&mut self) -> Result<Took, Failure> {
        let began = Instant::now();
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        self.plan.encode(&mut encoder, &self.step);
        self.gpu.queue.submit([encoder.finish()]);
        let host = began.elapsed();
        wait(&self.gpu)?;
        Ok(Took { whole: began.elapsed(), host })
    }

    fn answer(&mut self) -> Result<(f64, Vec<f32>), Failure> {
        self.step()?;
        let table: Vec<u8> = read_words(&self.gpu, self.plan.table(), kernels::TOTALS_SIZE)?;
        let totals = Totals::from_bytes(&table).ok_or("a table without totals")?;
        Ok((f64::from(totals.loss), read_words(&self.gpu, &self.grads, self.logits)?))
    }

    /// What the plan says, and the gradients.
    fn peak_bytes(&mut self) -> Result<Option<u64>, Failure> {
        Ok(Some(self.plan.memory().iter().map(|(_, size)| size).sum::<u64>() + self.grads.size()))
    }

    fn dispatches(&self) -> Option<usize> {
        Some(self.step.dispatches())
    }
}

/// burn's device, with autodiff.
pub fn burn_device() -> Device {
    Device::wgpu(Default::default()).autodiff()
}

/// The adapter that burn took.
pub fn name_of_adapter(device: &Device) -> Result<String, Failure> {
    match device.clone().without_autodiff().as_dispatch() {
        DispatchDevice::Cube(device) => Ok(device.client().properties().identity.name.clone()),
        other => Err(format!("burn's device is no wgpu device: {other:?}").into()),
    }
}

#[allow(clippy::large_enum_variant, reason = "there are two of them")]
enum Loss {
    Composed(Composed),
    Ours(CrossEntropyLoss),
}

struct Burn {
    device: Device,
    loss: Loss,
    /// `[outer, classes, inner]`, where `inner` may be 1.
    logits: Tensor<3>,
    labels: Tensor<1, Int>,
}

impl Burn {
    fn new(data: &Data, device: &Device, loss: Loss) -> Self {
        let rows = data.labels.len();
        Self {
            device: device.clone(),
            loss,
            logits: Tensor::from_data(TensorData::new(data.logits(), dims(&data.shape)), device),
            labels: Tensor::from_data(TensorData::new(data.labels.clone(), [rows]), device),
        }
    }

    /// Loss and gradients, queued.
    fn queue(&self) -> Result<(Tensor<1>, Tensor<3>), Failure> {
        let logits = self.logits.clone().require_grad();
        let labels = self.labels.clone();
        let [outer, classes, inner] = logits.dims();
        let loss = match (&self.loss, inner) {
            (Loss::Composed(loss), 1) => loss.forward(logits.clone().reshape([outer, classes]), labels),
            // Its logits are two-dimensional, the classes last.
            (Loss::Composed(loss), _) => {
                let last = logits.clone().permute([0, 2, 1]).reshape([outer * inner, classes]);
                loss.forward(last, labels)
            }
            (Loss::Ours(loss), 1) => loss.forward(logits.clone().reshape([outer, classes]), labels),
            (Loss::Ours(loss), _) => loss.forward(logits.clone(), labels.reshape([outer, inner])),
        };
        let grads = loss.backward();
        let grads = logits.grad(&grads).ok_or("the logits have no gradient")?;
        Ok((loss, grads))
    }
}

impl Peer for Burn {
    fn step(&mut self) -> Result<Took, Failure> {
        let began = Instant::now();
        let _both = self.queue()?;
        self.device.flush()?;
        let host = began.elapsed();
        self.device.sync()?;
        Ok(Took { whole: began.elapsed(), host })
    }

    fn answer(&mut self) -> Result<(f64, Vec<f32>), Failure> {
        let (loss, grads) = self.queue()?;
        let loss = loss.into_data().iter::<f32>().next().ok_or("no loss")?;
        Ok((f64::from(loss), grads.into_data().iter::<f32>().collect()))
    }

    /// What burn's allocator takes from the driver for a step: in whole pages, so that nothing is known of a batch that
    /// leaves room in the pages which it lies in.
    fn peak_bytes(&mut self) -> Result<Option<u64>, Failure> {
        if self.logits.dims().iter().product::<usize>() * 4 < PAGE {
            return Ok(None);
        }
        self.device.sync()?;
        self.device.memory_cleanup();
        self.device.sync()?;
        let reserved = || self.device.memory_pool_usage().map(|usage| usage.bytes_reserved);
        let before = reserved();
        let both = self.queue()?;
        self.device.sync()?;
        let after = reserved();
        drop(both);
        Ok(after.zip(before).map(|(after, before)| after.saturating_sub(before)))
    }
}
