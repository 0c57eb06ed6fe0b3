//! Labels of 32, 16 and 8 bits: every kernel that reads them gives the same bits for each format.

use crate::support::{Batch, Guarded, ROWS, full_spec, gpus, run};
use wgpu_cross_entropy::error::{HostError, InputError};
use wgpu_cross_entropy::kernels::{
    ClassCountsBuffers, ClassCountsKernel, CostGatherBuffers, CostGatherKernel, CrossEntropyBackwardBuffers,
    CrossEntropyBackwardKernel, CrossEntropyForwardBuffers, CrossEntropyForwardKernel, TableLayout,
};
use wgpu_cross_entropy::wgsl::Strategy;
use wgpu_cross_entropy::{
    Config, CrossEntropy, Denominator, Inputs, LabelFormat, LogitBias, Options, Reduction, Shape, Spec,
    Targets, WeightScheme, cpu,
};

const FORMATS: [LabelFormat; 3] = [LabelFormat::I32, LabelFormat::U16, LabelFormat::U8];

/// Labels that every format can hold: classes, 255 for rows to ignore, and some between the two.
fn labels(rows: u32, classes: u32) -> Vec<i32> {
    let label = |row: u32| match row % 11 {
        4 => 255,
        7 => 254,
        _ => (row * row + 3 * row) % classes,
    };
    (0..rows).map(|row| label(row) as i32).collect()
}

/// Any number of rows, at any word of a buffer, and in tiles: the counts of the oracle.
#[test]
fn class_counts_reads_every_format() {
    let spec = Spec { ignore_index: Some(255), ..Spec::default() };
    for gpu in gpus() {
        for format in FORMATS {
            for (rows, at) in ROWS.into_iter().zip(0..).chain((0..9).map(|n| (n, 3))) {
                let shape = Shape::new(rows, 6);
                let labels = labels(rows, 6);
                for limit in [None, Some(20_000)] {
                    let options = Options { labels: format, max_binding_size: limit, ..Options::default() };
                    let config = Config::new(&gpu.device, &spec, shape, &options).unwrap();
                    let kernel = ClassCountsKernel::new(&gpu.device, &config).unwrap();
                    let buffer = Guarded::packed_labels(gpu, at, format, &labels);
                    let counts = Guarded::output(gpu, 0, 6);
                    let buffers = ClassCountsBuffers {
                        targets: buffer.binding(),
                        sample_weights: None,
                        mass: None,
                        class_counts: counts.binding(),
                    };
                    let bound = kernel.bind(&gpu.device, &buffers).unwrap();
                    run(gpu, |pass| bound.encode(pass));
                    let want = cpu::class_counts(&spec, &shape, &labels);
                    assert_eq!(counts.read(gpu), want, "{}: {format:?} {rows}", gpu.describe());
                }
            }
        }
    }
}

/// The whole flow with live weights, in both strategies, whole and in tiles of a few rows.
#[test]
fn the_plan_gives_the_same_bits_for_every_format() {
    let spec = Spec {
        ignore_index: Some(255),
        class_weights: WeightScheme::Balanced.into(),
        logit_bias: LogitBias::LogPrior { tau: 1.0, smoothing: 1.0 },
        reduction: Reduction::Mean(Denominator::WeightSum),
        ..Spec::default()
    };
    for gpu in gpus() {
        for strategy in [Strategy::Thread, Strategy::Resident, Strategy::Streaming] {
            // 19 classes at 1100 bytes: tiles of 7 to 11 rows, which start at every byte of a word.
            for max_binding_size in [None, Some(1100)] {
                let shape = Shape::new(203, 19);
                let mut batch = Batch::random(3, &spec, shape);
                batch.labels = labels(203, 19);
                let output = |labels| {
                    let options =
                        Options { labels, strategy: Some(strategy), max_binding_size, ..Options::default() };
                    let plan = CrossEntropy::new(&gpu.device, &spec, shape, &options).unwrap();
                    let inputs = Inputs { grad_out: None, ..batch.inputs() };
                    plan.compute_blocking(&gpu.device, &gpu.queue, &inputs).unwrap()
                };
                let want = output(LabelFormat::I32);
                assert_eq!((want.totals.ignored_rows, want.totals.out_of_range_rows), (19, 18));
                for format in [LabelFormat::U16, LabelFormat::U8] {
                    assert_eq!(output(format), want, "{}: {format:?} {strategy:?}", gpu.describe());
                }
            }
        }
        println!("{}: ok", gpu.describe());
    }
}

/// The kernels that the plan does not use.
#[test]
fn halves_and_cost_gather_read_every_format() {
    for gpu in gpus() {
        for strategy in [Strategy::Thread, Strategy::Resident, Strategy::Streaming] {
            let spec = Spec { ignore_index: Some(255), ..full_spec(7) };
            let mut batch = Batch::random(9, &spec, Shape::new(61, 7));
            batch.labels = labels(61, 7);
            let results = FORMATS.map(|labels| {
                let options = Options { labels, strategy: Some(strategy), ..Options::default() };
                let config = Config::new(&gpu.device, &spec, batch.shape, &options).unwrap();
                let initial = TableLayout::new(&spec, &batch.shape).initial(&spec);
                let mut words = bytemuck::pod_collect_to_vec::<u8, u32>(&initial);
                words[TableLayout::DENOMINATOR as usize / 4] = 1f32.to_bits();
                let table = Guarded::new(gpu, 64, &words);
                let logits = Guarded::floats(gpu, 0, &batch.logits);
                let labels = Guarded::packed_labels(gpu, 5, labels, &batch.labels);
                let weights = batch.sample_weights.as_ref().map(|weights| Guarded::floats(gpu, 0, weights));
                let [losses, stats, grads, gathered] =
                    [61, 61 * 8, 61 * 7, 61 * 2].map(|words| Guarded::output(gpu, 0, words));
                let forward = CrossEntropyForwardKernel::new(&gpu.device, &config).unwrap();
                let forward = forward.bind(
                    &gpu.device,
                    &CrossEntropyForwardBuffers {
                        logits: logits.binding(),
                        targets: labels.binding(),
                        sample_weights: weights.as_ref().map(Guarded::binding),
                        row_losses: losses.binding(),
                        row_stats: stats.binding(),
                        table: table.binding(),
                    },
                );
                let backward = CrossEntropyBackwardKernel::new(&gpu.device, &config).unwrap();
                let backward = backward.bind(
                    &gpu.device,
                    &CrossEntropyBackwardBuffers {
                        logits: logits.binding(),
                        targets: labels.binding(),
                        grad_out: None,
                        logit_grads: Some(grads.binding()),
                        row_stats: stats.binding(),
                        table: table.binding(),
                    },
                );
                let gather = CostGatherKernel::new(&gpu.device, &config).unwrap();
                let gather = gather.bind(
                    &gpu.device,
                    &CostGatherBuffers {
                        logits: logits.binding(),
                        labels: labels.binding(),
                        gathered: gathered.binding(),
                        table: table.binding(),
                    },
                );
                let steps = [forward.unwrap(), backward.unwrap(), gather.unwrap()];
                run(gpu, |pass| steps.iter().for_each(|step| step.encode(pass)));
                [losses.read(gpu), stats.read(gpu), grads.read(gpu), gathered.read(gpu)]
            });
            assert!(results[0].iter().all(|words| words.iter().any(|word| *word != 0)));
            assert_eq!(results[1], results[0], "{}: 16 bits, {strategy:?}", gpu.describe());
            assert_eq!(results[2], results[0], "{}: 8 bits, {strategy:?}", gpu.describe());
        }
    }
}

/// What does not fit is refused by name; the ignore index is compared with the label as it is read.
#[test]
fn what_packed_labels_cannot_say() {
    let gpu = gpus().next().expect("an adapter");
    let plan = |spec: &Spec| {
        let options = Options { labels: LabelFormat::U8, ..Options::default() };
        CrossEntropy::new(&gpu.device, spec, Shape::new(3, 2), &options)
    };
    let inputs = Inputs { logits: &[0.0; 6], labels: &[0, 255, 1], ..Inputs::default() };
    // -1 is no byte: 255 is out of range, not ignored.
    let spec = Spec { ignore_index: Some(-1), ..Spec::default() };
    let output = plan(&spec).unwrap().compute_blocking(&gpu.device, &gpu.queue, &inputs).unwrap();
    assert_eq!((output.totals.ignored_rows, output.totals.out_of_range_rows), (0, 1));
    let error = plan(&spec)
        .unwrap()
        .compute_blocking(&gpu.device, &gpu.queue, &Inputs { labels: &[0, 1, -1], ..inputs })
        .unwrap_err();
    assert_eq!(
        error,
        HostError::Input(InputError::Label { index: 2, got: -1, expected: "from 0 to 255 as 8 bits" })
    );
    assert_eq!(error.to_string(), "labels[2] is -1; it must be from 0 to 255 as 8 bits");
    let error = plan(&Spec { targets: Targets::TwoHot, ..Spec::default() }).unwrap_err();
    assert_eq!(error.to_string(), "labels is U8; packed labels are for Targets::Labels");
}
