//! `binary_cross_entropy`: sigmoid losses, gradients and totals at once, as a plan runs it.

use crate::binary_counts::targets;
use crate::support::{Data, Failure, Kernel, Ready, empty_buffer, full_buffer};
use wgpu_cross_entropy::wgsl::Stage;
use wgpu_cross_entropy::{
    BinaryBatch, BinaryCrossEntropy, BinaryInputs, BinaryOptions, BinarySpec, Gpu, PosWeight, Shape, Spec,
};

/// The bench of this kernel.
pub const KERNEL: Kernel = Kernel {
    stem: "binary_cross_entropy",
    stage: Stage::BinaryElements,
    // Elements are all alike; columns only choose a factor.
    takes: |shape| shape.inner == 1 && [2, 10, 100].contains(&shape.classes),
    bytes,
    set_up,
};

/// 4 bytes of logit and 4 of target read, 4 of gradient written, an element.
fn bytes(shape: &Shape) -> u64 {
    shape.logits_len() * 12
}

fn set_up(gpu: &Gpu, data: &Data) -> Result<Ready, Failure> {
    let given = PosWeight::Given(vec![7.0; data.shape.classes as usize]);
    let spec = BinarySpec { pos_weight: given, ..BinarySpec::default() };
    let plan = BinaryCrossEntropy::new(&gpu.device, &spec, data.shape, &BinaryOptions::default())?;
    let given = targets(&data.shape);
    let logits = data.logits_buffer(gpu)?;
    let targets = full_buffer(gpu, "targets", bytemuck::cast_slice(&given))?;
    let grads = empty_buffer(gpu, "logit_grads", data.shape.logits_len() * 4)?;
    let step = plan.bind(
        &gpu.device,
        &BinaryBatch {
            logits: logits.as_entire_buffer_binding(),
            targets: targets.as_entire_buffer_binding(),
            element_weights: None,
            sample_weights: None,
            grad_out: None,
            external_denominator: None,
            logit_grads: Some(grads.as_entire_buffer_binding()),
            element_losses: None,
        },
    )?;
    let check = move |gpu: &Gpu, data: &Data| {
        // The plan's own pipelines, on buffers that it makes for the purpose.
        let logits = data.logits();
        let inputs = BinaryInputs { logits: &logits, targets: &given, ..BinaryInputs::default() };
        let found = plan.validate_blocking(&gpu.device, &gpu.queue, &inputs)?;
        if found.passed() { Ok(()) } else { Err(found.to_string().into()) }
    };
    let config = data.config(gpu, &Spec::default())?;
    let before = vec![step.denominator];
    Ok(Ready { config, before, timed: step.binary_cross_entropy, check: Box::new(check) })
}
