//! The trainer on the GPU. It owns the device, the buffers and the encoder; the crate's plan is one part of
//! each step, recorded into the same pass as the network's own kernels (`network.rs`).
//!
//! A step is one submission and reads nothing back: its 64 bytes of totals are copied to a place in the epoch's
//! list, which the host reads once.

use std::error::Error;
use std::sync::mpsc;
use std::time::Duration;

use wgpu::{Buffer, BufferUsages, Device, Queue};
use wgpu_cross_entropy::{Inputs, Spec, Totals, Validation};

use crate::data::Data;
use crate::model::{Trainer, Training, checked_loss};
use crate::network::{Kernels, Network, Rows};

/// Bytes of one step's totals at the head of [`CrossEntropy::table`](wgpu_cross_entropy::CrossEntropy::table).
const TOTALS_BYTES: u64 = 64;

/// A step takes milliseconds; a device that is silent for this long has been lost.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct GpuTrainer<'a> {
    device: &'a Device,
    queue: &'a Queue,
    network: Network,
    batch: usize,
    steps: usize,
    /// The totals of an epoch's steps, and where the host reads them.
    totals: Buffer,
    totals_on_host: Buffer,
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
        let rows = Rows { x: &data.train.x, labels: &data.train.y, sample_weights };
        let network = Network::new(device, kernels, training, &rows, &data.test.x, spec)?;
        let steps = training.steps(data.train.rows());
        let totals = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("totals"),
            size: steps as u64 * TOTALS_BYTES,
            usage: BufferUsages::COPY_DST | BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let totals_on_host = readable(device, totals.size());
        Ok(Self { device, queue, network, batch: training.batch, steps, totals, totals_on_host })
    }

    /// One training step: one submission, nothing allocated, nothing read back.
    fn step(&self, step: usize) {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        self.network.record_step(&mut encoder);
        let place = step as u64 * TOTALS_BYTES;
        encoder.copy_buffer_to_buffer(self.network.plan.table(), 0, &self.totals, place, TOTALS_BYTES);
        self.queue.submit([encoder.finish()]);
    }

    /// Checks the crate's results on the batch of the last step against its CPU oracle.
    pub fn validate(&self) -> Result<Validation, Box<dyn Error>> {
        let logits: Vec<f32> = self.read(&self.network.logits)?;
        let labels: Vec<i32> = self.read(&self.network.labels)?;
        let sample_weights: Option<Vec<f32>> =
            self.network.sample_weights.as_ref().map(|buffer| self.read(buffer)).transpose()?;
        let inputs = Inputs {
            logits: &logits,
            labels: &labels,
            sample_weights: sample_weights.as_deref(),
            ..Inputs::default()
        };
        Ok(self.network.plan.validate_blocking(self.device, self.queue, &inputs)?)
    }

    /// A whole buffer. Allocates; for what is read once a training.
    fn read<T: bytemuck::Pod>(&self, buffer: &Buffer) -> Result<Vec<T>, Box<dyn Error>> {
        let on_host = readable(self.device, buffer.size());
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
        self.queue.write_buffer(
            &self.network.order,
            0,
            bytemuck::cast_slice(&order[..self.steps * self.batch]),
        );
        (0..self.steps).for_each(|step| self.step(step));
        let bytes = self.read_through(&self.totals, &self.totals_on_host)?;
        // Only a slice that is too short gives no totals, and none of these is.
        let totals = bytes.chunks_exact(TOTALS_BYTES as usize).filter_map(Totals::from_bytes);
        totals.enumerate().map(|(step, totals)| Ok(checked_loss(step, &totals)?)).collect()
    }

    fn test_logits(&mut self) -> Result<Vec<f32>, Box<dyn Error>> {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        self.network.record_evaluation(&mut encoder);
        self.queue.submit([encoder.finish()]);
        self.read(&self.network.test_logits)
    }
}

fn readable(device: &Device, bytes: u64) -> Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("on_host"),
        size: bytes,
        usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}
