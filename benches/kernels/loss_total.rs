//! `loss_total`: row losses to one number.

use crate::support::{Data, Failure, Kernel, Ready, empty_buffer, full_buffer, read_words};
use wgpu_cross_entropy::kernels::{LossTotalBuffers, LossTotalKernel, TOTALS_SIZE, TableLayout};
use wgpu_cross_entropy::wgsl::Stage;
use wgpu_cross_entropy::{Gpu, Shape, Spec, Totals, cpu};

/// The bench of this kernel.
pub const KERNEL: Kernel = Kernel {
    stem: "loss_total",
    stage: Stage::LossTotalRows,
    // Classes do not matter: many rows, fewer, and so few that it is two dispatches and nothing else.
    takes: |shape| shape.inner == 1 && [2, 100, 1_000].contains(&shape.classes),
    bytes,
    set_up,
};

/// 4 bytes a row loss read, the denominator read, two sums written.
fn bytes(shape: &Shape) -> u64 {
    u64::from(shape.rows) * 4 + 12
}

/// A power of two: the division is exact as well.
const DENOMINATOR: f32 = 1024.0;

fn set_up(gpu: &Gpu, data: &Data) -> Result<Ready, Failure> {
    let spec = Spec::default();
    let config = data.config(gpu, &spec)?;
    // Whole numbers of at most 7: sums below 2^24 are exact in any order, so equality is asked for.
    let losses: Vec<f32> = (0..data.shape.rows).map(|row| (row % 8) as f32).collect();
    let row_losses = full_buffer(gpu, "row_losses", bytemuck::cast_slice(&losses))?;
    let mut initial = TableLayout::new(&spec, &data.shape).initial(&spec);
    let at = TableLayout::DENOMINATOR as usize;
    initial[at..at + 4].copy_from_slice(&DENOMINATOR.to_le_bytes());
    let table = full_buffer(gpu, "table", &initial)?;
    let partials = empty_buffer(gpu, "partials", LossTotalKernel::partials_size(data.shape.rows))?;
    let timed = LossTotalKernel::new(&gpu.device, &config)?.bind(
        &gpu.device,
        &LossTotalBuffers {
            row_losses: row_losses.as_entire_buffer_binding(),
            partials: partials.as_entire_buffer_binding(),
            table: table.as_entire_buffer_binding(),
            telemetry: None,
        },
    )?;
    let check = move |gpu: &Gpu, _: &Data| {
        let got = Totals::from_bytes(&read_words::<u8>(gpu, &table, TOTALS_SIZE)?).unwrap_or_default();
        let mut want = Totals { denominator: f64::from(DENOMINATOR), ..Totals::default() };
        let losses: Vec<f64> = losses.iter().copied().map(f64::from).collect();
        cpu::loss_total(&losses, &mut want);
        match [got.loss_sum, got.loss].map(f64::from) == [want.loss_sum, want.loss] {
            true => Ok(()),
            false => Err(format!("{got:?}, not {want:?}").into()),
        }
    };
    Ok(Ready { config, before: Vec::new(), timed, check: Box::new(check) })
}
