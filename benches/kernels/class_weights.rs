//! `class_weights`: one workgroup, for a few hundred kilobytes at most. What is timed is mostly a dispatch.

use crate::support::{Data, Failure, Kernel, Ready, full_buffer, read_words, within};
use wgpu_cross_entropy::kernels::{ClassWeightsBuffers, ClassWeightsKernel, TableLayout};
use wgpu_cross_entropy::tolerance::{FLUSHED, U, ULP, Worst};
use wgpu_cross_entropy::wgsl::Stage;
use wgpu_cross_entropy::{Gpu, LiveWeights, Shape, Spec, WeightScheme, cpu};

/// The bench of this kernel.
pub const KERNEL: Kernel = Kernel {
    stem: "class_weights",
    stage: Stage::ClassWeights,
    // Rows do not matter: a size below the workgroup, two around what it takes at once, the most classes.
    takes: |shape| shape.inner == 1 && [19, 1_000, 32_000, 262_144].contains(&shape.classes),
    bytes,
    set_up,
};

/// 4 bytes a count read, 4 a weight written.
fn bytes(shape: &Shape) -> u64 {
    u64::from(shape.classes) * 8
}

fn set_up(gpu: &Gpu, data: &Data) -> Result<Ready, Failure> {
    let live = LiveWeights { scheme: WeightScheme::Balanced, ..LiveWeights::default() };
    let spec =
        Spec { class_weights: wgpu_cross_entropy::ClassWeights::Live(live.clone()), ..Spec::default() };
    let config = data.config(gpu, &spec)?;
    let layout = TableLayout::new(&spec, &data.shape);
    let counts = cpu::class_counts(&spec, &data.shape, &data.labels);
    let counts_buffer = full_buffer(gpu, "class_counts", bytemuck::cast_slice(&counts))?;
    let table = full_buffer(gpu, "table", &layout.initial(&spec))?;
    let timed = ClassWeightsKernel::new(&gpu.device, &config)?.bind(
        &gpu.device,
        &ClassWeightsBuffers {
            class_counts: counts_buffer.as_entire_buffer_binding(),
            history: None,
            counted: None,
            table: table.as_entire_buffer_binding(),
        },
    )?;
    let check = move |gpu: &Gpu, _: &Data| {
        let words: Vec<f32> = read_words(gpu, &table, layout.size() / 4)?;
        let first = layout.class_weights() as usize / 4;
        let want = cpu::class_weights(&live, &counts);
        // n / (present * n_c): two conversions to f32, a product, a division.
        let allowed: Vec<f64> = want.iter().map(|w| w * (3.0 * U + 2.5 * ULP) + FLUSHED).collect();
        within(&Worst::of("class_weights", &words[first..first + want.len()], &want, &allowed))
    };
    Ok(Ready { config, before: Vec::new(), timed, check: Box::new(check) })
}
