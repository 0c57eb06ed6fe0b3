//! The network on the GPU: its kernels, its buffers and what one training step records, with the crate's plan as one
//! part of it. The trainer of this example and the demo in the browser both have it.
//!
//! All buffers, bind groups and pipelines are made before the first step.

use std::error::Error;

use wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu::{Buffer, BufferUsages, CommandEncoder, Device};
use wgpu_cross_entropy::{Batch, BoundStep, CrossEntropy, Options, Shape, Spec};

use crate::model::{EPSILON, Layer, ONE_MINUS_BETA_1, ONE_MINUS_BETA_2, Training};

/// Invocations of a workgroup, as `@workgroup_size` in the shaders has it.
const WORKGROUP: usize = 32;

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

/// The rows to train on.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// `[rows, features]`.
    pub x: &'a [f32],
    /// `[rows]`.
    pub labels: &'a [i32],
    /// `[rows]`, where the spec asks for them.
    pub sample_weights: Option<&'a [f32]>,
}

/// A network, the rows that it learns from, and others that it is asked about.
pub struct Network {
    /// What is recorded before the loss: the batch and the forward pass.
    before: Vec<Dispatch>,
    pub plan: CrossEntropy,
    bound: BoundStep,
    /// What is recorded after the loss: the backward pass and Adam.
    after: Vec<Dispatch>,
    /// The forward pass over the other rows.
    evaluate: Vec<Dispatch>,
    /// An epoch's order of the training rows, to be uploaded once an epoch. Usage `COPY_DST`.
    pub order: Buffer,
    /// The current batch: `[batch, classes]`, `[batch]`, `[batch]`.
    pub logits: Buffer,
    pub labels: Buffer,
    pub sample_weights: Option<Buffer>,
    /// `[other rows, classes]`, by the last evaluation. Usage `COPY_SRC`.
    pub test_logits: Buffer,
}

impl Network {
    /// Makes everything that the steps of a training need.
    pub fn new(
        device: &Device,
        kernels: &Kernels,
        training: &Training,
        train: &Rows<'_>,
        test_x: &[f32],
        spec: &Spec,
    ) -> Result<Self, Box<dyn Error>> {
        let buffers = Buffers { device };
        let layers = training.layers();
        let (batch, rows) = (training.batch, train.labels.len());
        let (features, classes) = (training.features(), training.classes());

        // The data set stays on the device. Without sample weights the gather kernel copies ones.
        let ones = vec![1.0; rows];
        let data_x = buffers.filled("data_x", train.x);
        let data_labels = buffers.filled("data_labels", train.labels);
        let data_weights = buffers.filled("data_weights", train.sample_weights.unwrap_or(&ones));
        let order = buffers.empty("order", rows, BufferUsages::COPY_DST);

        let state = buffers.empty("state", 4, BufferUsages::UNIFORM);
        let steps = training.steps(rows) as u32;
        let advance = buffers.constants(
            "advance",
            &[batch as u32, steps, ONE_MINUS_BETA_1.to_bits(), ONE_MINUS_BETA_2.to_bits()],
        );
        let gather = buffers.constants("gather", &[batch as u32, features as u32]);
        let x = buffers.empty("x", batch * features, BufferUsages::empty());
        let labels = buffers.empty("labels", batch, BufferUsages::COPY_SRC);
        let weights = buffers.empty("sample_weights", batch, BufferUsages::COPY_SRC);
        let mut before = vec![
            Dispatch::new(device, &kernels.advance, &[&advance, &state], 1),
            Dispatch::new(
                device,
                &kernels.gather,
                &[&gather, &state, &order, &data_x, &data_labels, &data_weights, &x, &labels, &weights],
                batch * features,
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
        let test_rows = test_x.len() / features;
        let test_activations = forward(buffers.filled("test_x", test_x), test_rows, &mut evaluate);

        // The crate's part: logits and labels in, the gradient of the logits out.
        let logits = activations[layers.len()].clone();
        let logit_grads = buffers.empty("logit_grads", batch * classes, BufferUsages::empty());
        let sample_weights = train.sample_weights.map(|_| weights.clone());
        let shape = Shape::new(batch as u32, classes as u32);
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

        Ok(Self {
            before,
            plan,
            bound,
            after,
            evaluate,
            order,
            logits,
            labels,
            sample_weights,
            test_logits: test_activations[layers.len()].clone(),
        })
    }

    /// Records one training step in a compute pass of its own. Nothing is allocated.
    pub fn record_step(&self, encoder: &mut CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        self.before.iter().for_each(|dispatch| dispatch.record(&mut pass));
        self.plan.encode_in(&mut pass, &self.bound);
        self.after.iter().for_each(|dispatch| dispatch.record(&mut pass));
    }

    /// Records the forward pass over the other rows.
    pub fn record_evaluation(&self, encoder: &mut CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        self.evaluate.iter().for_each(|dispatch| dispatch.record(&mut pass));
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
}
