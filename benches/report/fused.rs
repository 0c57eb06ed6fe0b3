//! The fused kernel, as a plan runs it, with any options.

use crate::data::Data;
use crate::measure::{Failure, empty_buffer, run};
use crate::support::Ready;
use wgpu_cross_entropy::{Batch, CrossEntropy, Dtype, Gpu, Spec};

/// Compiles and binds it for a batch.
pub fn set_up(gpu: &Gpu, data: &Data) -> Result<Ready, Failure> {
    let spec = Spec { class_weights: data.class_weights(), ..Spec::default() };
    let plan = CrossEntropy::new(&gpu.device, &spec, data.shape, &data.options)?;
    let config = plan.config().clone();
    let logits = match data.options.dtype {
        Dtype::F32 => data.logits_buffer(gpu)?,
        dtype => {
            let bytes = dtype.encode(&data.logits());
            let buffer = empty_buffer(gpu, "logits", bytes.len() as u64)?;
            gpu.queue.write_buffer(&buffer, 0, &bytes);
            run(gpu, &[])?;
            buffer
        }
    };
    let labels = data.labels_buffer(gpu)?;
    let grads = empty_buffer(gpu, "logit_grads", data.shape.logits_len() * data.options.dtype.bytes())?;
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
    let dtype = data.options.dtype;
    let check = move |gpu: &Gpu, data: &Data| {
        // The plan's own pipelines, on buffers that it makes for the purpose.
        let logits = dtype.round(&data.logits());
        let found = plan.validate_blocking(&gpu.device, &gpu.queue, &data.inputs(&logits))?;
        if found.passed() { Ok(()) } else { Err(found.to_string().into()) }
    };
    Ok(Ready { config, before: vec![step.denominator], timed: step.cross_entropy, check: Box::new(check) })
}
