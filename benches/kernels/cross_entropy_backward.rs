//! `cross_entropy_backward`: gradients from the forward half's statistics. No reduction: the nearest thing to a copy.

use crate::cross_entropy_forward::{Halves, halves};
use crate::support::{Data, Failure, Kernel, Ready, read_words, within};
use wgpu_cross_entropy::tolerance::{Worst, tolerances};
use wgpu_cross_entropy::wgsl::Stage;
use wgpu_cross_entropy::{Gpu, Shape, cpu};

/// The bench of this kernel.
pub const KERNEL: Kernel = Kernel {
    stem: "cross_entropy_backward",
    stage: Stage::CrossEntropyBackward,
    takes: |_| true,
    bytes,
    set_up,
};

/// 4 bytes a logit read and 4 of gradient written; a row: 4 of label and 32 of statistics read.
fn bytes(shape: &Shape) -> u64 {
    let (rows, classes) = (u64::from(shape.rows), u64::from(shape.classes));
    rows * classes * 8 + rows * 36
}

fn set_up(gpu: &Gpu, data: &Data) -> Result<Ready, Failure> {
    let Halves { config, denominator, forward, backward, logit_grads, .. } = halves(gpu, data)?;
    let of_check = config.clone();
    let check = move |gpu: &Gpu, data: &Data| {
        let got: Vec<f32> = read_words(gpu, &logit_grads, data.shape.logits_len())?;
        let logits = data.logits();
        let inputs = data.inputs(&logits);
        let want = cpu::compute(of_check.spec(), &data.shape, &inputs)?;
        let allowed = tolerances(&of_check, &inputs, &want);
        within(&Worst::of("logit_grads", &got, &want.logit_grads, &allowed.logit_grads))
    };
    Ok(Ready { config, before: vec![denominator, forward], timed: backward, check: Box::new(check) })
}
