//! `cost_gather`: the argmax of each row and what it costs. Reads logits and writes next to nothing.

use crate::support::{Data, Failure, Kernel, Ready, empty_buffer, full_buffer, read_words};
use wgpu_cross_entropy::kernels::{CostGatherBuffers, CostGatherKernel, TableLayout};
use wgpu_cross_entropy::wgsl::Stage;
use wgpu_cross_entropy::{CostMatrix, Gpu, Shape, Spec, cpu};

/// The bench of this kernel.
pub const KERNEL: Kernel =
    Kernel { stem: "cost_gather", stage: Stage::CostGather, takes: |_| true, bytes, set_up };

/// The most classes that get a cost matrix, 4 MB then: at 32,000 it would have 4 GB, and nobody has one.
const MATRIX_CLASSES: u32 = 1_000;

/// 4 bytes a logit read; a row: 4 of label read, 8 of prediction and cost written; and of the cost matrix, where there
/// is one, what the rows can ask for.
fn bytes(shape: &Shape) -> u64 {
    let (rows, classes) = (u64::from(shape.rows), u64::from(shape.classes));
    let costs = if shape.classes <= MATRIX_CLASSES { rows.min(classes * classes) * 4 } else { 0 };
    rows * classes * 4 + rows * 12 + costs
}

fn set_up(gpu: &Gpu, data: &Data) -> Result<Ready, Failure> {
    let classes = data.shape.classes;
    // Costs are neighbours of no other cost by mistake: true and predicted class both show.
    let costs = || (0..classes * classes).map(|at| (1 + at % 251) as f32).collect();
    let cost_matrix = match classes <= MATRIX_CLASSES {
        true => Some(CostMatrix::from_true_predicted(classes, costs())?),
        false => None,
    };
    let spec = Spec { cost_matrix, ..Spec::default() };
    let config = data.config(gpu, &spec)?;
    let rows = u64::from(data.shape.rows);
    let logits = data.logits_buffer(gpu)?;
    let labels = data.labels_buffer(gpu)?;
    let gathered = empty_buffer(gpu, "gathered", rows * 8)?;
    let table = full_buffer(gpu, "table", &TableLayout::new(&spec, &data.shape).initial(&spec))?;
    let timed = CostGatherKernel::new(&gpu.device, &config)?.bind(
        &gpu.device,
        &CostGatherBuffers {
            logits: logits.as_entire_buffer_binding(),
            labels: labels.as_entire_buffer_binding(),
            gathered: gathered.as_entire_buffer_binding(),
            table: table.as_entire_buffer_binding(),
        },
    )?;
    let check = move |gpu: &Gpu, data: &Data| {
        let got: Vec<[u32; 2]> = read_words(gpu, &gathered, rows)?;
        let want = cpu::cost_gather(&spec, &data.shape, &data.logits(), &data.labels);
        for (row, (got, want)) in got.iter().zip(&want).enumerate() {
            // Both are looked up, not computed: they are equal or wrong.
            let got = (got[0], f64::from(f32::from_bits(got[1])));
            if got != (want.prediction, want.cost) {
                return Err(format!("row {row}: {got:?}, not {want:?}").into());
            }
        }
        Ok(())
    };
    Ok(Ready { config, before: Vec::new(), timed, check: Box::new(check) })
}
