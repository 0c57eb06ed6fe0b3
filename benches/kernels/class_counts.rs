//! `class_counts`: a counter for each label. Few classes are the hard case: every row wants the same words.

use crate::support::{Data, Failure, Kernel, Ready, empty_buffer, read_words};
use wgpu_cross_entropy::kernels::{ClassCountsBuffers, ClassCountsKernel};
use wgpu_cross_entropy::wgsl::Stage;
use wgpu_cross_entropy::{Gpu, Shape, Spec, WeightScheme, cpu};

/// The bench of this kernel.
pub const KERNEL: Kernel = Kernel {
    stem: "class_counts",
    stage: Stage::ClassCountsDirect,
    // Class-first changes nothing for labels.
    takes: |shape| shape.inner == 1,
    bytes,
    set_up,
};

/// 4 bytes a label read, 4 a class written.
fn bytes(shape: &Shape) -> u64 {
    u64::from(shape.rows) * 4 + u64::from(shape.classes) * 4
}

fn set_up(gpu: &Gpu, data: &Data) -> Result<Ready, Failure> {
    let spec = Spec { class_weights: WeightScheme::Balanced.into(), ..Spec::default() };
    let config = data.config(gpu, &spec)?;
    let classes = u64::from(data.shape.classes);
    let labels = data.labels_buffer(gpu)?;
    let counts = empty_buffer(gpu, "class_counts", classes * 4)?;
    let timed = ClassCountsKernel::new(&gpu.device, &config)?.bind(
        &gpu.device,
        &ClassCountsBuffers {
            targets: labels.as_entire_buffer_binding(),
            sample_weights: None,
            mass: None,
            class_counts: counts.as_entire_buffer_binding(),
        },
    )?;
    let check = move |gpu: &Gpu, data: &Data| {
        let got: Vec<u32> = read_words(gpu, &counts, classes)?;
        let want = cpu::class_counts(&spec, &data.shape, &data.labels);
        match (0..want.len()).find(|&class| got[class] != want[class]) {
            Some(class) => Err(format!("class {class}: {} rows, not {}", got[class], want[class]).into()),
            None => Ok(()),
        }
    };
    Ok(Ready { config, before: Vec::new(), timed, check: Box::new(check) })
}
