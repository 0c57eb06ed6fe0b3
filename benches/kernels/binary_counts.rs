//! `binary_counts`: sums of targets, by column. Few columns are the hard case: they share a workgroup.

use crate::support::{Data, Failure, Kernel, Ready, empty_buffer, full_buffer, read_words};
use wgpu_cross_entropy::kernels::{BinaryCountsBuffers, BinaryCountsKernel};
use wgpu_cross_entropy::wgsl::Stage;
use wgpu_cross_entropy::{BinaryConfig, BinaryOptions, BinarySpec, Gpu, PosWeight, Shape, Spec, cpu};

/// The bench of this kernel.
pub const KERNEL: Kernel = Kernel {
    stem: "binary_counts",
    stage: Stage::BinaryCountsRows,
    // The fewest columns, a handful, and more than a workgroup takes side by side.
    takes: |shape| shape.inner == 1 && [2, 10, 100].contains(&shape.classes),
    bytes,
    set_up,
};

/// 4 bytes a target read, 8 a column written.
fn bytes(shape: &Shape) -> u64 {
    shape.logits_len() * 4 + u64::from(shape.classes) * 8
}

/// One positive in eight, spread by a multiplicative hash.
pub fn targets(shape: &Shape) -> Vec<f32> {
    let positive = |i: u32| i.wrapping_mul(2_654_435_769) >> 29 == 0;
    (0..shape.logits_len() as u32).map(|i| if positive(i) { 1.0 } else { 0.0 }).collect()
}

fn set_up(gpu: &Gpu, data: &Data) -> Result<Ready, Failure> {
    let live = PosWeight::Live { per_column: true, min: 0.0, max: 1e6 };
    let spec = BinarySpec { pos_weight: live, ..BinarySpec::default() };
    let config = BinaryConfig::new(&gpu.device, &spec, data.shape, &BinaryOptions::default())?;
    let given = targets(&data.shape);
    let targets = full_buffer(gpu, "targets", bytemuck::cast_slice(&given))?;
    let counts = empty_buffer(gpu, "binary_counts", BinaryCountsKernel::counts_size(&config))?;
    let partials = empty_buffer(gpu, "partials", BinaryCountsKernel::partials_size(&config))?;
    let timed = BinaryCountsKernel::new(&gpu.device, &config)?.bind(
        &gpu.device,
        &BinaryCountsBuffers {
            targets: targets.as_entire_buffer_binding(),
            partials: partials.as_entire_buffer_binding(),
            binary_counts: counts.as_entire_buffer_binding(),
        },
    )?;
    let check = move |gpu: &Gpu, data: &Data| {
        // Targets of 0 and 1: exact in any order.
        let got: Vec<f32> = read_words(gpu, &counts, 2 * u64::from(data.shape.classes))?;
        let want = cpu::binary_counts(&spec, &data.shape, &given);
        match (0..want.len()).find(|&i| f64::from(got[i]) != want[i]) {
            Some(i) => Err(format!("count {i} is {}, not {}", got[i], want[i]).into()),
            None => Ok(()),
        }
    };
    // The table of strategies is the softmax's; these stages have workgroups of 64 there as well.
    let config = data.config(gpu, &Spec::default())?;
    Ok(Ready { config, before: Vec::new(), timed, check: Box::new(check) })
}
