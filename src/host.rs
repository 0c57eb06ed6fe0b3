//! Host slices in, results out: for scripts and tests, where a copy each way does not matter.

use crate::config::Options;
use crate::cpu::Label;
use crate::error::{HostError, RowError};
use crate::inputs::{Inputs, Output, Totals};
use crate::kernels::TableLayout;
use crate::pipeline::{Scopes, create_buffer, is_lost};
use crate::plan::{Batch, BoundStep, CrossEntropy};
use crate::shape::Shape;
use crate::spec::{ClassWeights, LogitBias, Spec, Targets};
use crate::stats::RowRecord;
use std::time::Duration;
use wgpu::BufferUsages;

/// How long a device may take before a read gives up.
pub const READ_TIMEOUT: Duration = Duration::from_secs(120);

/// Computes one batch on a device: uploads, runs, reads back.
///
/// In a browser the future yields while the GPU works. On native back ends it blocks its thread meanwhile, for
/// nothing else would wake it there; [`compute_blocking`] says so in its name.
///
/// # Errors
/// [`HostError`] where slices, spec and shape do not fit each other, or the device fails.
pub async fn compute(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    spec: &Spec,
    shape: Shape,
    inputs: &Inputs<'_>,
) -> Result<Output<f32>, HostError> {
    inputs.check(spec, &shape)?;
    let options = Options { grad_out: inputs.grad_out.is_some(), ..Options::default() };
    CrossEntropy::new(device, spec, shape, &options)?.compute(device, queue, inputs).await
}

/// [`compute`], waiting.
///
/// # Errors
/// As [`compute`].
#[cfg(not(target_family = "wasm"))]
pub fn compute_blocking(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    spec: &Spec,
    shape: Shape,
    inputs: &Inputs<'_>,
) -> Result<Output<f32>, HostError> {
    pollster::block_on(compute(device, queue, spec, shape, inputs))
}

impl CrossEntropy {
    /// Puts a batch into buffers of its own and binds them. Returns the gradients' buffer beside.
    pub(crate) fn upload(
        &self,
        device: &wgpu::Device,
        inputs: &Inputs<'_>,
    ) -> Result<(BoundStep, wgpu::Buffer), HostError> {
        let (spec, shape) = (self.config().spec(), self.config().shape());
        inputs.check(spec, shape)?;
        let upload = |name, contents: &[u8]| {
            create_buffer(device, name, contents.len() as u64, BufferUsages::STORAGE, Some(contents))
        };
        let in_out = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let dtype = self.config().options().dtype;
        let logits_bytes = dtype.encode(inputs.logits);
        let logits = create_buffer(device, "logits", logits_bytes.len() as u64, in_out, Some(&logits_bytes))?;
        let targets = match spec.targets {
            Targets::Labels => upload("labels", &self.config().options().labels.encode(inputs.labels)?)?,
            Targets::Soft => {
                upload("target_probs", bytemuck::cast_slice(inputs.target_probs.unwrap_or_default()))?
            }
            Targets::TwoHot => upload("labels", bytemuck::cast_slice(&two_hot_words(inputs)))?,
        };
        let optional = |name, slice: Option<&[f32]>| {
            slice.map(|slice| upload(name, bytemuck::cast_slice(slice))).transpose()
        };
        let sample_weights = optional("sample_weights", inputs.sample_weights)?;
        let ones;
        let upstream = match (inputs.grad_out, self.config().options().grad_out) {
            (Some(slice), _) => Some(slice),
            (None, true) => {
                ones = vec![1.0; shape.rows as usize];
                Some(&ones[..])
            }
            (None, false) => None,
        };
        let grad_out = optional("grad_out", upstream)?;
        let external = inputs.external_denominator;
        let external = optional("external_denominator", external.as_ref().map(std::slice::from_ref))?;
        let in_place = self.config().options().in_place;
        let grads = match in_place {
            true => None,
            false => Some(create_buffer(device, "logit_grads", logits_bytes.len() as u64, in_out, None)?),
        };
        let step = self.bind(
            device,
            &Batch {
                logits: logits.as_entire_buffer_binding(),
                targets: targets.as_entire_buffer_binding(),
                sample_weights: sample_weights.as_ref().map(wgpu::Buffer::as_entire_buffer_binding),
                grad_out: grad_out.as_ref().map(wgpu::Buffer::as_entire_buffer_binding),
                external_denominator: external.as_ref().map(wgpu::Buffer::as_entire_buffer_binding),
                logit_grads: grads.as_ref().map(wgpu::Buffer::as_entire_buffer_binding),
            },
        )?;
        Ok((step, grads.unwrap_or(logits)))
    }

    /// The first half of [`CrossEntropy::compute`]: everything up to the submission. Returns the gradients' buffer.
    fn submit(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        inputs: &Inputs<'_>,
    ) -> Result<wgpu::Buffer, HostError> {
        let (step, grads) = self.upload(device, inputs)?;
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor {
            label: Some("wgpu_cross_entropy.compute"),
        });
        self.reset_telemetry(&mut encoder);
        self.encode(&mut encoder, &step);
        queue.submit([encoder.finish()]);
        Ok(grads)
    }

    /// Runs this plan on host slices: uploads, records, submits, reads back. Telemetry starts anew, so that
    /// [`Output::class_stats`] is of this batch.
    ///
    /// # Errors
    /// [`HostError`] where the slices do not fit the plan, or the device fails.
    pub async fn compute(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        inputs: &Inputs<'_>,
    ) -> Result<Output<f32>, HostError> {
        let scopes = Scopes::open(device);
        let submitted = self.submit(device, queue, inputs);
        let refused = scopes.close();
        let grads = submitted?;
        if let Some(message) = refused.await {
            return Err(match is_lost(device) {
                true => HostError::DeviceLost { name: "the step" },
                false => HostError::Device { message },
            });
        }
        let (spec, shape) = (self.config().spec(), self.config().shape());
        let options = self.config().options();
        let layout = TableLayout::new(spec, shape);
        let timeout = options.timeout.unwrap_or(READ_TIMEOUT);
        let read = |name, buffer, size| read_within(device, queue, name, buffer, size, timeout);
        let table = read("table", self.table(), layout.size()).await?;
        let totals = Totals::from_bytes(&table).unwrap_or_default();
        let rows = u64::from(shape.rows) * self.config().row_size();
        let kept = read("row_losses", self.row_losses(), rows).await?;
        let records: Vec<RowRecord> = if options.keeps_records() { words(&kept) } else { Vec::new() };
        let row_losses = match options.keeps_records() {
            true => records.iter().map(|record| record.loss).collect(),
            false => words(&kept),
        };
        let predictions =
            options.predictions.then(|| records.iter().map(|record| record.prediction).collect());
        let class_stats = match self.telemetry() {
            Some(_) => Some(self.read_telemetry(device, queue).await?),
            None => None,
        };
        let grads = read("logit_grads", &grads, grads.size()).await?;
        let mut logit_grads = options.dtype.decode(&grads);
        logit_grads.truncate(inputs.logits.len());
        if options.in_place {
            // Padding keeps the caller's logits there; in an output it is 0.
            clear_padding(shape, &mut logit_grads);
        }
        let counted = match self.counted() {
            Some(counted) => {
                let bytes = u64::from(shape.classes) * 4;
                Some(words(&read("counted", counted, bytes).await?))
            }
            None => None,
        };
        let counts = match self.class_counts() {
            Some(counts) => {
                let bytes = u64::from(shape.classes) * 4;
                Some(read("class_counts", counts, bytes).await?)
            }
            None => None,
        };
        let of_kind = |mass: bool| counts.as_deref().filter(|_| spec.counts_are_mass() == mass);
        let class_weights = (spec.class_weights != ClassWeights::None).then(|| {
            let at = layout.class_weights() as usize;
            words(&table[at..at + shape.classes as usize * 4])
        });
        let logit_bias = (spec.logit_bias != LogitBias::None).then(|| {
            let at = layout.logit_bias() as usize;
            words(&table[at..at + shape.classes as usize * 4])
        });
        Ok(Output {
            logit_bias,
            totals,
            row_losses,
            logit_grads,
            class_counts: of_kind(false).map(words),
            class_mass: of_kind(true).map(words),
            counted,
            class_weights,
            predictions,
            class_stats,
        })
    }

    /// [`CrossEntropy::compute`], waiting.
    ///
    /// # Errors
    /// As [`CrossEntropy::compute`].
    #[cfg(not(target_family = "wasm"))]
    pub fn compute_blocking(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        inputs: &Inputs<'_>,
    ) -> Result<Output<f32>, HostError> {
        pollster::block_on(self.compute(device, queue, inputs))
    }
}

impl CrossEntropy {
    /// [`CrossEntropy::compute`] for those who want no row left out: what it would only count is an error that names the
    /// first row. Ignored rows are none; weights may be negative.
    ///
    /// # Errors
    /// [`HostError::Row`], and as [`CrossEntropy::compute`].
    pub async fn compute_checked(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        inputs: &Inputs<'_>,
    ) -> Result<Output<f32>, HostError> {
        let (spec, shape) = (self.config().spec(), self.config().shape());
        finite("sample_weights", inputs.sample_weights)?;
        finite("grad_out", inputs.grad_out)?;
        finite("mix", inputs.mix)?;
        finite("external_denominator", inputs.external_denominator.as_ref().map(std::slice::from_ref))?;
        let output = self.compute(device, queue, inputs).await?;
        let totals = &output.totals;
        let Some(first) = totals.first_bad_row else { return Ok(output) };
        let out_of_range = |labels: &[i32]| {
            let label = labels.get(first as usize).copied()?;
            (Label::read(spec, shape, label) == Label::OutOfRange).then_some(label)
        };
        let label = out_of_range(inputs.labels).or(inputs.second_labels.and_then(out_of_range));
        Err(HostError::Row(match label {
            Some(label) if totals.out_of_range_rows > 0 => RowError::OutOfRange {
                row: first,
                label,
                classes: shape.classes,
                rows: totals.out_of_range_rows,
            },
            _ => RowError::NonFinite { name: "row", first, count: totals.nonfinite_rows },
        }))
    }

    /// [`CrossEntropy::compute_checked`], waiting.
    ///
    /// # Errors
    /// As [`CrossEntropy::compute_checked`].
    #[cfg(not(target_family = "wasm"))]
    pub fn compute_checked_blocking(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        inputs: &Inputs<'_>,
    ) -> Result<Output<f32>, HostError> {
        pollster::block_on(self.compute_checked(device, queue, inputs))
    }
}

/// The first number that is not finite.
pub(crate) fn finite(name: &'static str, values: Option<&[f32]>) -> Result<(), RowError> {
    let at = values.into_iter().flatten().enumerate().find(|(_, value)| !value.is_finite());
    at.map_or(Ok(()), |(index, &got)| Err(RowError::Weight { name, index, got }))
}

/// Two labels and the share of the first, row by row.
fn two_hot_words(inputs: &Inputs<'_>) -> Vec<u32> {
    let seconds = inputs.second_labels.unwrap_or_default();
    let mixes = inputs.mix.unwrap_or_default();
    let rows = inputs.labels.iter().zip(seconds).zip(mixes);
    rows.flat_map(|((first, second), mix)| [*first as u32, *second as u32, mix.to_bits()]).collect()
}

/// Sets everything between the rows to 0.
pub(crate) fn clear_padding(shape: &Shape, values: &mut [f32]) {
    let mut used = vec![false; values.len()];
    for row in 0..shape.rows {
        for class in 0..shape.classes {
            used[shape.index(row, class) as usize] = true;
        }
    }
    for (value, used) in values.iter_mut().zip(used) {
        if !used {
            *value = 0.0;
        }
    }
}

fn words<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
}

/// Reads the first `size` bytes of a buffer of usage `COPY_SRC`, after everything submitted so far.
///
/// In a browser the future yields; on native back ends it blocks its thread, for at most [`READ_TIMEOUT`].
///
/// # Errors
/// [`HostError::Timeout`], [`HostError::DeviceLost`] and [`HostError::Read`].
pub async fn read(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    name: &'static str,
    buffer: &wgpu::Buffer,
    size: u64,
) -> Result<Vec<u8>, HostError> {
    read_within(device, queue, name, buffer, size, READ_TIMEOUT).await
}

/// [`read`] with a timeout of the caller's, which begins where the copy has been submitted: some drivers make a submission
/// wait for the one before. What is still on its way then is dropped when it arrives. In a browser, which
/// has a watchdog of its own, there is none.
///
/// # Errors
/// As [`read`].
pub async fn read_within(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    name: &'static str,
    buffer: &wgpu::Buffer,
    size: u64,
    timeout: Duration,
) -> Result<Vec<u8>, HostError> {
    if size == 0 {
        return Ok(Vec::new());
    }
    let failed = |message: String| HostError::Read { name, message };
    if size > buffer.size() {
        return Err(failed(format!("{size} bytes are asked for; it has {}", buffer.size())));
    }
    let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
    let staging = create_buffer(device, name, size, usage, None)?;
    let (sender, receiver) = futures_intrusive::channel::shared::oneshot_channel();
    let scopes = Scopes::open(device);
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some(name) });
    encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, staging.size());
    encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, .., move |result| {
        // The receiver is only gone where the read timed out; nobody is left to tell then.
        let _ = sender.send(result);
    });
    let submission = queue.submit([encoder.finish()]);
    let refused = scopes.close();
    #[cfg(not(target_family = "wasm"))]
    let answer = {
        if let Some(message) = refused.await {
            return Err(if is_lost(device) { HostError::DeviceLost { name } } else { failed(message) });
        }
        wait(device, submission, name, timeout)?;
        // Another thread that polls may have taken the callback, and is about to run it; of a lost device none may come.
        let began = std::time::Instant::now();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        loop {
            if let std::task::Poll::Ready(answer) = std::pin::pin!(receiver.receive()).poll(&mut context) {
                break answer;
            }
            if is_lost(device) {
                break None;
            }
            if began.elapsed() > timeout {
                return Err(HostError::Timeout { seconds: timeout.as_secs_f64() });
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    };
    #[cfg(target_family = "wasm")]
    let answer = {
        let _ = (submission, timeout);
        let answer = receiver.receive().await;
        if let Some(message) = refused.await {
            return Err(failed(message));
        }
        answer
    };
    // wgpu has told the scopes of every failure but one.
    let lost = HostError::DeviceLost { name };
    let Some(Ok(())) = answer else { return Err(lost) };
    let view = staging.get_mapped_range(..).map_err(|_| lost)?;
    Ok(view[..size as usize].to_vec())
}

/// Waits for a submission.
#[cfg(not(target_family = "wasm"))]
fn wait(
    device: &wgpu::Device,
    submission: wgpu::SubmissionIndex,
    name: &'static str,
    timeout: Duration,
) -> Result<(), HostError> {
    let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(timeout) };
    // Where the driver loses the device meanwhile, wgpu 30 panics.
    let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| device.poll(wait)));
    match polled {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(wgpu::PollError::Timeout)) => Err(HostError::Timeout { seconds: timeout.as_secs_f64() }),
        // A submission that was never made: only a lost device takes none.
        Ok(Err(wgpu::PollError::WrongSubmissionIndex(..))) | Err(_) => Err(HostError::DeviceLost { name }),
    }
}
