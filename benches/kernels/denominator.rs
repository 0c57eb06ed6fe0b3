//! `denominator`: labels to weights to one sum.

use crate::support::{Data, Failure, Kernel, Ready, empty_buffer, full_buffer, read_words, traffic};
use wgpu_cross_entropy::kernels::{DenominatorBuffers, DenominatorKernel, TOTALS_SIZE, TableLayout};
use wgpu_cross_entropy::wgsl::Stage;
use wgpu_cross_entropy::{Gpu, Inputs, Shape, Spec, Targets, Totals, cpu};

/// The bench of this kernel.
pub const KERNEL: Kernel = Kernel {
    stem: "denominator",
    stage: Stage::DenominatorRows,
    // Many rows with the fewest and with more weights to look up, then fewer rows and ever larger tables.
    takes: |shape| shape.inner == 1 && [2, 19, 100, 50_257].contains(&shape.classes),
    bytes,
    set_up,
};

/// 4 bytes a label read, the weights that they ask for once, the 64 bytes of totals written.
fn bytes(shape: &Shape) -> u64 {
    traffic(shape, 0, 4) + TOTALS_SIZE
}

fn set_up(gpu: &Gpu, data: &Data) -> Result<Ready, Failure> {
    // Weights are whole numbers of at most 4: sums below 2^24 are exact in any order, so equality is asked for.
    let spec = Spec { class_weights: data.class_weights(), ..Spec::default() };
    let config = data.config(gpu, &spec)?;
    let labels = data.labels_buffer(gpu)?;
    let table = full_buffer(gpu, "table", &TableLayout::new(&spec, &data.shape).initial(&spec))?;
    let partials =
        empty_buffer(gpu, "partials", DenominatorKernel::partials_size(Targets::Labels, data.shape.rows))?;
    let timed = DenominatorKernel::new(&gpu.device, &config)?.bind(
        &gpu.device,
        &DenominatorBuffers {
            targets: labels.as_entire_buffer_binding(),
            sample_weights: None,
            external_denominator: None,
            partials: partials.as_entire_buffer_binding(),
            table: table.as_entire_buffer_binding(),
        },
    )?;
    let check = move |gpu: &Gpu, data: &Data| {
        let got = Totals::from_bytes(&read_words::<u8>(gpu, &table, TOTALS_SIZE)?).unwrap_or_default();
        let inputs = Inputs { labels: &data.labels, ..Inputs::default() };
        let want = cpu::denominator(&spec, &data.shape, &inputs, &cpu::ClassValues::new(&spec, &[]));
        let got_numbers = [got.denominator, got.weight_sum, got.sample_weight_sum].map(f64::from);
        let want_numbers = [want.denominator, want.weight_sum, want.sample_weight_sum];
        let counts = (got.valid_rows, got.nonzero_rows) == (want.valid_rows, want.nonzero_rows);
        match got_numbers == want_numbers && counts {
            true => Ok(()),
            false => Err(format!("{got:?}, not {want:?}").into()),
        }
    };
    Ok(Ready { config, before: Vec::new(), timed, check: Box::new(check) })
}
