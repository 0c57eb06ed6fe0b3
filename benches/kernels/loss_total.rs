//! `loss_total`: row losses to one number; and the same with the telemetry of classes, for uniform and skewed labels.

use crate::support::{Data, Failure, Kernel, Ready, empty_buffer, full_buffer, read_words};
use wgpu_cross_entropy::kernels::{LossTotalBuffers, LossTotalKernel, TOTALS_SIZE, TableLayout};
use wgpu_cross_entropy::wgsl::Stage;
use wgpu_cross_entropy::{
    ClassStats, Config, Gpu, Options, RowRecord, Shape, Spec, TelemetryLayout, Totals, cpu,
};

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

/// With the telemetry of classes, labels uniform.
pub const CLASSES: Kernel = Kernel {
    stem: "loss_total_classes",
    stage: Stage::LossTotalClasses,
    takes: |shape| shape.inner == 1 && [2, 19, 100, 1_000].contains(&shape.classes),
    bytes: bytes_of_records,
    set_up: |gpu, data| set_up_classes(gpu, data, false),
};

/// The same where 999 rows of 1000 are of one class, the worst for counters.
pub const CLASSES_SKEWED: Kernel = Kernel {
    stem: "loss_total_classes_skewed",
    set_up: |gpu, data| set_up_classes(gpu, data, true),
    ..CLASSES
};

/// 16 bytes a record read, 64 a class read and written.
fn bytes_of_records(shape: &Shape) -> u64 {
    let (rows, classes) = (u64::from(shape.rows), u64::from(shape.classes));
    rows * 16 + rows.min(classes) * 2 * TelemetryLayout::CLASS_SIZE
}

fn set_up_classes(gpu: &Gpu, data: &Data, skewed: bool) -> Result<Ready, Failure> {
    let (spec, shape) = (Spec::default(), data.shape);
    let options = Options { class_stats: true, ..Options::default() };
    let config = Config::new(&gpu.device, &spec, shape, &options)?;
    // A step that is prime to most numbers of classes: neighbours are of different ones. Losses and weights are whole
    // numbers, whose sums `f64` holds.
    let class_of =
        |row: u32| if skewed && !row.is_multiple_of(1000) { 0 } else { row % 7919 % shape.classes };
    let record = |row: u32| {
        let class = class_of(row);
        let prediction = if row.is_multiple_of(3) { (class + 1) % shape.classes } else { class };
        RowRecord { loss: (row % 8) as f32, prediction, class, weight: (1 + row % 4) as f32 }
    };
    let records: Vec<RowRecord> = (0..shape.rows).map(record).collect();
    let row_losses = full_buffer(gpu, "row_losses", bytemuck::cast_slice(&records))?;
    let table = full_buffer(gpu, "table", &TableLayout::new(&spec, &shape).initial(&spec))?;
    let partials = empty_buffer(gpu, "partials", LossTotalKernel::partials_size(shape.rows))?;
    let size = TelemetryLayout::new(shape.classes, false).size();
    let telemetry = empty_buffer(gpu, "telemetry", size)?;
    let timed = LossTotalKernel::new(&gpu.device, &config)?.bind(
        &gpu.device,
        &LossTotalBuffers {
            row_losses: row_losses.as_entire_buffer_binding(),
            partials: partials.as_entire_buffer_binding(),
            table: table.as_entire_buffer_binding(),
            telemetry: Some(telemetry.as_entire_buffer_binding()),
        },
    )?;
    let check = move |gpu: &Gpu, _: &Data| {
        let bytes = read_words::<u8>(gpu, &telemetry, size)?;
        let got = ClassStats::from_bytes(shape.classes, false, &bytes)?;
        // Every run adds the same.
        let runs = got.rows.iter().sum::<u64>() / u64::from(shape.rows).max(1);
        let mut want = ClassStats::new(shape.classes, false);
        for record in &records {
            let (c, correct) = (record.class as usize, record.class == record.prediction);
            want.rows[c] += runs;
            want.correct[c] += u64::from(correct) * runs;
            want.loss[c] += f64::from(record.loss) * runs as f64;
            want.weight[c] += f64::from(record.weight) * runs as f64;
            want.correct_weight[c] += if correct { f64::from(record.weight) * runs as f64 } else { 0.0 };
        }
        match runs > 0 && got == want {
            true => Ok(()),
            false => Err("the telemetry is not what the records say".into()),
        }
    };
    Ok(Ready { config, before: Vec::new(), timed, check: Box::new(check) })
}
