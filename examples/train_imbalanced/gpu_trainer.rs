//! The trainer on the GPU. It owns the device, the buffers and the encoder; the crate's plan is one part of
//! each step, recorded into the same pass as the network's own kernels.
//!
//! All buffers, bind groups and pipelines are made before the first step. A step is one submission and reads
//! nothing back: its 64 bytes of totals are copied to a place in the epoch's list, which the host reads once.

use std::error::Error;
use std::sync::mpsc;
use std::time::Duration;

use wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu::{Buffer, BufferUsages, Device, Queue};
use wgpu_cross_entropy::{Batch, BoundStep, CrossEntropy, Inputs, Options, Shape, Spec, Totals, Validation};

use crate::data::Data;
use crate::model::{EPSILON, Layer, ONE_MINUS_BETA_1, ONE_MINUS_BETA_2, Trainer, Training, checked_loss};

/// Invocations of a workgroup, as `@workgroup_size` in the shaders has it.
const WORKGROUP: usize = 32;

/// Bytes of one step's totals at the head of [`CrossEntropy::table`].
const TOTALS_BYTES: u64 = 64;

/// A step takes milliseconds; a device that is silent for this long has been lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// The network's pipelines: compiled once, used by every run.
pub struct Kernels {
    advance: wgpu::ComputePipeline,
    gather: wgpu::ComputePipeline,
    dense: wgpu::ComputePipeline,
    dense_backward_parameters: wgpu::ComputePipeline,
    dense_backward_inputs: wgpu::ComputePipeline,
    adam: wgpu::ComputePipeline,
}

impl Kernels {
    pub fn new(device: &Device) -> Self {
        let [advance, gather, dense, dense_backward_parameters, dense_backward_inputs, adam] =
            shaders().map(|(name, text)| {
                let label = format!("train_imbalanced.{name}");
                let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
                    label: Some(&label),
                    source: wgpu::ShaderSource::Wgsl(text.into()),
                });
                device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: Some(&label),
                    layout: None,
                    module: &module,
                    entry_point: Some("main"),
                    compilation_options: Default::default(),
                    cache: None,
                })
            });
        Self { advance, gather, dense, dense_backward_parameters, dense_backward_inputs, adam }
    }
}

/// Name and text of each kernel. Those of a dense layer share the product of two matrices.
pub fn shaders() -> [(&'static str, String); 6] {
    let with_product = |text: &str| [include_str!("shaders/product.wgsl"), text].concat();
    [
        ("advance", include_str!("shaders/advance.wgsl").into()),
        ("gather", include_str!("shaders/gather.wgsl").into()),
        ("dense", with_product(include_str!("shaders/dense.wgsl"))),
        ("dense_backward_parameters", with_product(include_str!("shaders/dense_backward_parameters.wgsl"))),
        ("dense_backward_inputs", with_product(include_str!("shaders/dense_backward_inputs.wgsl"))),
        ("adam", include_str!("shaders/adam.wgsl").into()),
    ]
}

/// One dispatch, ready to be recorded.
struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    workgroups: u32,
}

impl Dispatch {
    /// Binds `buffers` in the order of the shader's bindings.
    fn new(
        device: &Device,
        pipeline: &wgpu::ComputePipeline,
        buffers: &[&Buffer],
        invocations: usize,
    ) -> Self {
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("train_imbalanced"),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        Self { pipeline: pipeline.clone(), group, workgroups: invocations.div_ceil(WORKGROUP) as u32 }
    }

    fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(self.workgroups, 1, 1);
    }
}

pub struct GpuTrainer<'a> {
    device: &'a Device,
    queue: &'a Queue,
    /// What is recorded before the loss: the batch and the forward pass.
    before: Vec<Dispatch>,
    plan: CrossEntropy,
    bound: BoundStep,
    /// What is recorded after the loss: the backward pass and Adam.
    after: Vec<Dispatch>,
    /// The forward pass over the held-out rows.
    evaluate: Vec<Dispatch>,
    /// The epoch's order of the rows, uploaded once an epoch.
    order: Buffer,
    batch: usize,
    steps: usize,
    /// The totals of an epoch's steps, and where the host reads them.
    totals: Buffer,
    totals_on_host: Buffer,
    /// The current batch, for the validation.
    logits: Buffer,
    labels: Buffer,
    sample_weights: Option<Buffer>,
    test_logits: Buffer,
}

impl<'a> GpuTrainer<'a> {
    pub fn new(
        device: &'a Device,
        queue: &'a Queue,
        kernels: &Kernels,
        data: &Data,
        training: &Training,
        spec: &Spec,
        sample_weights: Option<&[f32]>,
    ) -> Result<Self, Box<dyn Error>> {
        let buffers = Buffers { device };
        let layers = training.layers();
        let (batch, rows) = (training.batch, data.train.rows());
        let steps = training.steps(rows);

        // The data set stays on the device. Without sample weights the gather kernel copies ones.
        let ones = vec![1.0; rows];
        let data_x = buffers.filled("data_x", &data.train.x);
        let data_labels = buffers.filled("data_labels", &data.train.y);
        let data_weights = buffers.filled("data_weights", sample_weights.unwrap_or(&ones));
        let order = buffers.empty("order", rows, BufferUsages::COPY_DST);

        let state = buffers.empty("state", 4, BufferUsages::UNIFORM);
        let advance = buffers.constants(
            "advance",
            &[batch as u32, steps as u32, ONE_MINUS_BETA_1.to_bits(), ONE_MINUS_BETA_2.to_bits()],
        );
        let gather = buffers.constants("gather", &[batch as u32, data.features as u32]);
        let x = buffers.empty("x", batch * data.features, BufferUsages::empty());
        let labels = buffers.empty("labels", batch, BufferUsages::COPY_SRC);
        let weights = buffers.empty("sample_weights", batch, BufferUsages::COPY_SRC);
        let mut before = vec![
            Dispatch::new(device, &kernels.advance, &[&advance, &state], 1),
            Dispatch::new(
                device,
                &kernels.gather,
                &[&gather, &state, &order, &data_x, &data_labels, &data_weights, &x, &labels, &weights],
                batch * data.features,
            ),
        ];

        let initial = training.initial_parameters();
        let parameters = buffers.filled("parameters", &initial);
        let gradients = buffers.empty("gradients", initial.len(), BufferUsages::empty());
        // The input of every layer and, last, the logits; fresh buffers hold zeros.
        let forward = |x: Buffer, rows: usize, dispatches: &mut Vec<Dispatch>| {
            let mut activations = vec![x];
            for layer in &layers {
                let constants = buffers.layer(layer, rows);
                let y = buffers.empty("activations", rows * layer.outputs, BufferUsages::COPY_SRC);
                let bindings = [&constants, &activations[activations.len() - 1], &parameters, &y];
                dispatches.push(Dispatch::new(device, &kernels.dense, &bindings, tiles(rows, layer.outputs)));
                activations.push(y);
            }
            activations
        };
        let activations = forward(x, batch, &mut before);
        let mut evaluate = Vec::new();
        let test_rows = data.test.rows();
        let test_activations = forward(buffers.filled("test_x", &data.test.x), test_rows, &mut evaluate);

        // The crate's part: logits and labels in, the gradient of the logits out.
        let logits = activations[layers.len()].clone();
        let logit_grads = buffers.empty("logit_grads", batch * data.classes(), BufferUsages::empty());
        let sample_weights = sample_weights.map(|_| weights.clone());
        let shape = Shape::new(batch as u32, data.classes() as u32);
        let plan = CrossEntropy::new(device, spec, shape, &Options::default())?;
        let bound = plan.bind(
            device,
            &Batch {
                logits: logits.as_entire_buffer_binding(),
                targets: labels.as_entire_buffer_binding(),
                sample_weights: sample_weights.as_ref().map(Buffer::as_entire_buffer_binding),
                grad_out: None,
                external_denominator: None,
                logit_grads: Some(logit_grads.as_entire_buffer_binding()),
            },
        )?;

        let mut after = Vec::new();
        let mut dy = logit_grads;
        for (index, (layer, x)) in layers.iter().zip(&activations).enumerate().rev() {
            let constants = buffers.layer(layer, batch);
            after.push(Dispatch::new(
                device,
                &kernels.dense_backward_parameters,
                &[&constants, x, &dy, &gradients],
                tiles(layer.inputs + 1, layer.outputs),
            ));
            // Nobody asks for the gradient of the features.
            if index > 0 {
                let dx = buffers.empty("activation_grads", batch * layer.inputs, BufferUsages::empty());
                after.push(Dispatch::new(
                    device,
                    &kernels.dense_backward_inputs,
                    &[&constants, &dy, &parameters, x, &dx],
                    tiles(batch, layer.inputs),
                ));
                dy = dx;
            }
        }
        let adam = buffers.constants(
            "adam",
            &[
                initial.len() as u32,
                training.rate.to_bits(),
                ONE_MINUS_BETA_1.to_bits(),
                ONE_MINUS_BETA_2.to_bits(),
                EPSILON.to_bits(),
            ],
        );
        let moments = || buffers.empty("moments", initial.len(), BufferUsages::empty());
        after.push(Dispatch::new(
            device,
            &kernels.adam,
            &[&adam, &state, &gradients, &moments(), &moments(), &parameters],
            initial.len(),
        ));

        let totals_elements = steps * TOTALS_BYTES as usize / 4;
        Ok(Self {
            device,
            queue,
            before,
            plan,
            bound,
            after,
            evaluate,
            order,
            batch,
            steps,
            totals: buffers.empty("totals", totals_elements, BufferUsages::COPY_DST | BufferUsages::COPY_SRC),
            totals_on_host: buffers.readable(steps as u64 * TOTALS_BYTES),
            logits,
            labels,
            sample_weights,
            test_logits: test_activations[layers.len()].clone(),
        })
    }

    /// One training step: one submission, nothing allocated, nothing read back.
    fn step(&self, step: usize) {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            self.before.iter().for_each(|dispatch| dispatch.record(&mut pass));
            self.plan.encode_in(&mut pass, &self.bound);
            self.after.iter().for_each(|dispatch| dispatch.record(&mut pass));
        }
        let place = step as u64 * TOTALS_BYTES;
        encoder.copy_buffer_to_buffer(self.plan.table(), 0, &self.totals, place, TOTALS_BYTES);
        self.queue.submit([encoder.finish()]);
    }

    /// Checks the crate's results on the batch of the last step against its CPU oracle.
    pub fn validate(&self) -> Result<Validation, Box<dyn Error>> {
        let logits: Vec<f32> = self.read(&self.logits)?;
        let labels: Vec<i32> = self.read(&self.labels)?;
        let sample_weights: Option<Vec<f32>> =
            self.sample_weights.as_ref().map(|buffer| self.read(buffer)).transpose()?;
        let inputs = Inputs {
            logits: &logits,
            labels: &labels,
            sample_weights: sample_weights.as_deref(),
            ..Inputs::default()
        };
        Ok(self.plan.validate_blocking(self.device, self.queue, &inputs)?)
    }

    /// A whole buffer. Allocates; for what is read once a training.
    fn read<T: bytemuck::Pod>(&self, buffer: &Buffer) -> Result<Vec<T>, Box<dyn Error>> {
        let on_host = Buffers { device: self.device }.readable(buffer.size());
        Ok(bytemuck::pod_collect_to_vec(&self.read_through(buffer, &on_host)?))
    }

    /// Copies `buffer` to `on_host`, waits, and takes the bytes out.
    fn read_through(&self, buffer: &Buffer, on_host: &Buffer) -> Result<Vec<u8>, Box<dyn Error>> {
        let (sender, receiver) = mpsc::channel();
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, 0, on_host, 0, on_host.size());
        encoder.map_buffer_on_submit(on_host, wgpu::MapMode::Read, .., move |result| {
            // The receiver outlives the wait below; if it is gone, so is the interest in the result.
            let _ = sender.send(result);
        });
        let submission = self.queue.submit([encoder.finish()]);
        self.device
            .poll(wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(PATIENCE) })?;
        receiver.recv()??;
        let bytes = on_host.get_mapped_range(..)?.to_vec();
        on_host.unmap();
        Ok(bytes)
    }
}

impl Trainer for GpuTrainer<'_> {
    fn epoch(&mut self, order: &[u32]) -> Result<Vec<f64>, Box<dyn Error>> {
        self.queue.write_buffer(&self.order, 0, bytemuck::cast_slice(&order[..self.steps * self.batch]));
        (0..self.steps).for_each(|step| self.step(step));
        let bytes = self.read_through(&self.totals, &self.totals_on_host)?;
        // Only a slice that is too short gives no totals, and none of these is.
        let totals = bytes.chunks_exact(TOTALS_BYTES as usize).filter_map(Totals::from_bytes);
        totals.enumerate().map(|(step, totals)| Ok(checked_loss(step, &totals)?)).collect()
    }

    fn test_logits(&mut self) -> Result<Vec<f32>, Box<dyn Error>> {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            self.evaluate.iter().for_each(|dispatch| dispatch.record(&mut pass));
        }
        self.queue.submit([encoder.finish()]);
        self.read(&self.test_logits)
    }
}

/// Invocations for a matrix product of `rows` by `columns`, as `tile_of` in product.wgsl divides it.
fn tiles(rows: usize, columns: usize) -> usize {
    rows.div_ceil(4) * columns.div_ceil(4)
}

/// Makes buffers of four-byte elements.
struct Buffers<'a> {
    device: &'a Device,
}

impl Buffers<'_> {
    /// A storage buffer of zeros.
    fn empty(&self, label: &str, elements: usize, usage: BufferUsages) -> Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: elements as u64 * 4,
            usage: usage | BufferUsages::STORAGE,
            mapped_at_creation: false,
        })
    }

    fn filled<T: bytemuck::Pod>(&self, label: &str, contents: &[T]) -> Buffer {
        self.device.create_buffer_init(&BufferInitDescriptor {
            label: Some(label),
            contents: bytemuck::cast_slice(contents),
            usage: BufferUsages::STORAGE,
        })
    }

    /// A uniform buffer; floats come as their bits.
    fn constants(&self, label: &str, words: &[u32]) -> Buffer {
        // Some back ends want uniforms in whole vectors of 16 bytes.
        let mut padded = words.to_vec();
        padded.resize(words.len().next_multiple_of(4), 0);
        self.device.create_buffer_init(&BufferInitDescriptor {
            label: Some(label),
            contents: bytemuck::cast_slice(&padded),
            usage: BufferUsages::UNIFORM,
        })
    }

    fn layer(&self, layer: &Layer, rows: usize) -> Buffer {
        let Layer { inputs, outputs, first_parameter, relu } = *layer;
        let words = [rows, inputs, outputs, first_parameter, usize::from(relu)].map(|word| word as u32);
        self.constants("layer", &words)
    }

    fn readable(&self, bytes: u64) -> Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("on_host"),
            size: bytes,
            usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }
}
