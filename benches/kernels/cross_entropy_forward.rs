//! `cross_entropy_forward`: losses and row statistics. Also what sets up and checks both halves.

use crate::support::{Data, Failure, Kernel, Ready, empty_buffer, full_buffer, read_words, traffic, within};
use wgpu_cross_entropy::kernels::{
    CrossEntropyBackwardBuffers, CrossEntropyBackwardKernel, CrossEntropyForwardBuffers,
    CrossEntropyForwardKernel, DenominatorBuffers, DenominatorKernel, TableLayout,
};
use wgpu_cross_entropy::tolerance::{Worst, tolerances};
use wgpu_cross_entropy::wgsl::Stage;
use wgpu_cross_entropy::{Bound, Config, Gpu, Shape, Spec, Targets, cpu};

/// The bench of this kernel.
pub const KERNEL: Kernel = Kernel {
    stem: "cross_entropy_forward",
    stage: Stage::CrossEntropyForward,
    takes: |_| true,
    bytes,
    set_up,
};

/// 4 bytes a logit read; a row: 4 of label read, 4 of row loss and 32 of statistics written; the class weights that
/// the labels ask for once.
fn bytes(shape: &Shape) -> u64 {
    traffic(shape, 4, 40)
}

fn set_up(gpu: &Gpu, data: &Data) -> Result<Ready, Failure> {
    let Halves { config, denominator, forward, backward, row_losses, logit_grads } = halves(gpu, data)?;
    let rows = u64::from(data.shape.rows);
    let of_check = config.clone();
    let check = move |gpu: &Gpu, data: &Data| {
        // Statistics have no one right value, for any reference near the largest logit will do: they are right if
        // the backward half makes the right gradients of them.
        run_once(gpu, &backward);
        let got: Vec<f32> = read_words(gpu, &row_losses, rows)?;
        let logits = data.logits();
        let inputs = data.inputs(&logits);
        let want = cpu::compute(of_check.spec(), &data.shape, &inputs)?;
        let allowed = tolerances(&of_check, &inputs, &want);
        within(&Worst::of("row_losses", &got, &want.row_losses, &allowed.row_losses))?;
        let got: Vec<f32> = read_words(gpu, &logit_grads, data.shape.logits_len())?;
        within(&Worst::of("logit_grads", &got, &want.logit_grads, &allowed.logit_grads))
    };
    Ok(Ready { config, before: vec![denominator], timed: forward, check: Box::new(check) })
}

fn run_once(gpu: &Gpu, bound: &Bound) {
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    bound.encode(&mut encoder.begin_compute_pass(&Default::default()));
    gpu.queue.submit([encoder.finish()]);
}

/// Both halves, bound to one batch.
pub struct Halves {
    pub config: Config,
    /// Opens the table: what the halves need before them.
    pub denominator: Bound,
    pub forward: Bound,
    pub backward: Bound,
    pub row_losses: wgpu::Buffer,
    pub logit_grads: wgpu::Buffer,
}

/// Compiles and binds both halves.
pub fn halves(gpu: &Gpu, data: &Data) -> Result<Halves, Failure> {
    let spec = Spec { class_weights: data.class_weights(), ..Spec::default() };
    let config = data.config(gpu, &spec)?;
    let rows = u64::from(data.shape.rows);
    let logits = data.logits_buffer(gpu)?;
    let labels = data.labels_buffer(gpu)?;
    let row_losses = empty_buffer(gpu, "row_losses", rows * 4)?;
    let row_stats = empty_buffer(gpu, "row_stats", rows * CrossEntropyForwardKernel::ROW_STATS_SIZE)?;
    let logit_grads = empty_buffer(gpu, "logit_grads", data.shape.logits_len() * 4)?;
    let table = full_buffer(gpu, "table", &TableLayout::new(&spec, &data.shape).initial(&spec))?;
    let partials =
        empty_buffer(gpu, "partials", DenominatorKernel::partials_size(Targets::Labels, data.shape.rows))?;
    let denominator = DenominatorKernel::new(&gpu.device, &config)?.bind(
        &gpu.device,
        &DenominatorBuffers {
            targets: labels.as_entire_buffer_binding(),
            sample_weights: None,
            external_denominator: None,
            partials: partials.as_entire_buffer_binding(),
            table: table.as_entire_buffer_binding(),
        },
    )?;
    let forward = CrossEntropyForwardKernel::new(&gpu.device, &config)?.bind(
        &gpu.device,
        &CrossEntropyForwardBuffers {
            logits: logits.as_entire_buffer_binding(),
            targets: labels.as_entire_buffer_binding(),
            sample_weights: None,
            row_losses: row_losses.as_entire_buffer_binding(),
            row_stats: row_stats.as_entire_buffer_binding(),
            table: table.as_entire_buffer_binding(),
        },
    )?;
    let backward = CrossEntropyBackwardKernel::new(&gpu.device, &config)?.bind(
        &gpu.device,
        &CrossEntropyBackwardBuffers {
            logits: logits.as_entire_buffer_binding(),
            targets: labels.as_entire_buffer_binding(),
            grad_out: None,
            logit_grads: Some(logit_grads.as_entire_buffer_binding()),
            row_stats: row_stats.as_entire_buffer_binding(),
            table: table.as_entire_buffer_binding(),
        },
    )?;
    Ok(Halves { config, denominator, forward, backward, row_losses, logit_grads })
}
