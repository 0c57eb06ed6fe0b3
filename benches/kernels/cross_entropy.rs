//! `cross_entropy`: losses and gradients at once, as a plan runs it.

use crate::support::{Data, Failure, Kernel, Ready, empty_buffer, traffic};
use wgpu_cross_entropy::wgsl::Stage;
use wgpu_cross_entropy::{Batch, CrossEntropy, Gpu, Shape, Spec};

/// The bench of this kernel.
pub const KERNEL: Kernel =
    Kernel { stem: "cross_entropy", stage: Stage::CrossEntropy, takes: |_| true, bytes, set_up };

/// 4 bytes a logit read and 4 of gradient written; a row: 4 of label read and 4 of row loss written; the class weights
/// that the labels ask for once.
fn bytes(shape: &Shape) -> u64 {
    traffic(shape, 8, 8)
}

fn set_up(gpu: &Gpu, data: &Data) -> Result<Ready, Failure> {
    let spec = Spec { class_weights: data.class_weights(), ..Spec::default() };
    let plan = CrossEntropy::new(&gpu.device, &spec, data.shape, &data.options)?;
    let config = plan.config().clone();
    let logits = data.logits_buffer(gpu)?;
    let labels = data.labels_buffer(gpu)?;
    let grads = empty_buffer(gpu, "logit_grads", data.shape.logits_len() * 4)?;
    let step = plan.bind(
        &gpu.device,
        &Batch {
            logits: logits.as_entire_buffer_binding(),
            targets: labels.as_entire_buffer_binding(),
            sample_weights: None,
            grad_out: None,
            external_denominator: None,
            logit_grads: Some(grads.as_entire_buffer_binding()),
        },
    )?;
    let check = move |gpu: &Gpu, data: &Data| {
        // The plan's own pipelines, on buffers that it makes for the purpose.
        let found = plan.validate_blocking(&gpu.device, &gpu.queue, &data.inputs(&data.logits()))?;
        if found.passed() { Ok(()) } else { Err(found.to_string().into()) }
    };
    Ok(Ready { config, before: vec![step.denominator], timed: step.cross_entropy, check: Box::new(check) })
}
