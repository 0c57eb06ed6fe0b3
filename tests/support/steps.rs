//! Plans on poisoned buffers.

#![allow(dead_code, reason = "each binary that includes this file uses a part of it")]

use crate::support::{Batch, Guarded, POISON, record};
use wgpu_cross_entropy::error::BindError;
use wgpu_cross_entropy::kernels::TableLayout;
use wgpu_cross_entropy::{
    ClassWeights, CrossEntropy, Gpu, LogitBias, Options, Output, RowRecord, Totals, Validation, cpu,
};

/// Runs a plan on buffers with poison around every one, each starting `at` words into its buffer. An upstream gradient
/// as the batch has one.
pub fn run_plan(gpu: &Gpu, batch: &Batch, options: &Options, at: usize) -> (CrossEntropy, Output<f32>) {
    let options = Options { grad_out: batch.grad_out.is_some(), ..*options };
    let plan = CrossEntropy::new(&gpu.device, &batch.spec, batch.shape, &options).unwrap();
    let output = run_step(gpu, &plan, batch, at).unwrap();
    (plan, output)
}

/// One step of a plan whose telemetry and history start anew. An upstream gradient as the plan's options say.
///
/// # Errors
/// As [`CrossEntropy::bind`].
pub fn run_step(gpu: &Gpu, plan: &CrossEntropy, batch: &Batch, at: usize) -> Result<Output<f32>, BindError> {
    let Batch { spec, shape, .. } = batch;
    let options = plan.config().options();
    let stored: Vec<u32> = bytemuck::pod_collect_to_vec(&options.dtype.encode(&batch.logits));
    let logits = Guarded::new(gpu, at, &stored);
    let targets = batch.targets_as(gpu, at, options.labels);
    let sample_weights = batch.sample_weights.as_ref().map(|weights| Guarded::floats(gpu, at, weights));
    let grad_out = batch.grad_out.as_ref().filter(|_| options.grad_out);
    let grad_out = grad_out.map(|grads| Guarded::floats(gpu, at, grads));
    let external = batch.external.map(|value| Guarded::floats(gpu, at, &[value]));
    let grads = (!options.in_place).then(|| Guarded::output(gpu, at, stored.len()));
    let step = plan.bind(
        &gpu.device,
        &wgpu_cross_entropy::Batch {
            logits: logits.binding(),
            targets: targets.binding(),
            sample_weights: sample_weights.as_ref().map(Guarded::binding),
            grad_out: grad_out.as_ref().map(Guarded::binding),
            external_denominator: external.as_ref().map(Guarded::binding),
            logit_grads: grads.as_ref().map(Guarded::binding),
        },
    )?;
    record(gpu, |encoder| {
        plan.encode_reset(encoder);
        plan.reset_telemetry(encoder);
        plan.encode(encoder, &step);
    });

    let read = |name, buffer, size| {
        pollster::block_on(wgpu_cross_entropy::read(&gpu.device, &gpu.queue, name, buffer, size)).unwrap()
    };
    let layout = TableLayout::new(spec, shape);
    let classes = u64::from(shape.classes);
    let table = read("table", plan.table(), layout.size());
    let kept = read("row_losses", plan.row_losses(), u64::from(shape.rows) * plan.config().row_size());
    let records: Vec<RowRecord> =
        if options.keeps_records() { bytemuck::pod_collect_to_vec(&kept) } else { Vec::new() };
    // What lies between the rows, and in half a word behind the last, must be as it was. Then it is 0, as the oracle has
    // it.
    let decode = |words: &[u32]| options.dtype.decode(bytemuck::cast_slice(words));
    let before = if options.in_place { stored.clone() } else { vec![POISON; stored.len()] };
    let before = decode(&before);
    let mut logit_grads = decode(&grads.as_ref().unwrap_or(&logits).read(gpu));
    let mut used = vec![false; logit_grads.len()];
    for row in 0..shape.rows {
        for class in 0..shape.classes {
            used[shape.index(row, class) as usize] = true;
        }
    }
    for ((grad, before), _) in logit_grads.iter_mut().zip(before).zip(used).filter(|(_, used)| !used) {
        assert_eq!(grad.to_bits(), before.to_bits(), "padding was written");
        *grad = 0.0;
    }
    logit_grads.truncate(batch.logits.len());
    if grads.is_some() {
        assert_eq!(logits.read(gpu), stored, "logits were written");
    }
    let of_classes = |from: u64| {
        let from = from as usize;
        bytemuck::pod_collect_to_vec(&table[from..from + classes as usize * 4])
    };
    let counts = plan.class_counts().map(|counts| read("class_counts", counts, classes * 4));
    let of_kind = |mass: bool| counts.as_deref().filter(|_| spec.counts_are_mass() == mass);
    let counted = plan.counted().map(|counted| read("counted", counted, classes * 4));
    Ok(Output {
        totals: Totals::from_bytes(&table).unwrap(),
        row_losses: match options.keeps_records() {
            true => records.iter().map(|record| record.loss).collect(),
            false => bytemuck::pod_collect_to_vec(&kept),
        },
        logit_grads,
        class_counts: of_kind(false).map(bytemuck::pod_collect_to_vec),
        class_mass: of_kind(true).map(bytemuck::pod_collect_to_vec),
        counted: counted.as_deref().map(bytemuck::pod_collect_to_vec),
        class_weights: (spec.class_weights != ClassWeights::None).then(|| of_classes(layout.class_weights())),
        logit_bias: (spec.logit_bias != LogitBias::None).then(|| of_classes(layout.logit_bias())),
        predictions: options.predictions.then(|| records.iter().map(|record| record.prediction).collect()),
        class_stats: plan.telemetry().map(|_| plan.read_telemetry_blocking(&gpu.device, &gpu.queue).unwrap()),
    })
}

/// An output against the oracle's, for a batch whose logits are as they are stored.
pub fn validated(plan: &CrossEntropy, batch: &Batch, got: &Output<f32>) -> Validation {
    let logits = plan.config().options().dtype.round(&batch.logits);
    let mut inputs = wgpu_cross_entropy::Inputs { logits: &logits, ..batch.inputs() };
    if !plan.config().options().grad_out {
        inputs.grad_out = None;
    }
    let want = cpu::compute(&batch.spec, &batch.shape, &inputs).unwrap();
    Validation::of(plan.config(), &inputs, got, &want)
}
