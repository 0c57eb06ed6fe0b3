use crate::support::{Batch, Guarded, full_spec, gpus, run};
use wgpu_cross_entropy::kernels::{CrossEntropyForwardBuffers, CrossEntropyForwardKernel, TableLayout};
use wgpu_cross_entropy::tolerance::{ULP, Worst, tolerances};
use wgpu_cross_entropy::wgsl::Strategy;
use wgpu_cross_entropy::{
    Config, Dtype, Gpu, NO_CLASS, Options, RowRecord, Shape, Spec, Targets, Totals, cpu,
};

/// Those that take any number of classes of the tests here; tiles are for `cross_entropy`'s tests.
const STRATEGIES: [Strategy; 5] =
    [Strategy::Thread, Strategy::Group, Strategy::Resident, Strategy::Streaming, Strategy::Split];

/// Runs the forward half: losses, statistics, totals.
pub fn forward(
    gpu: &Gpu,
    batch: &Batch,
    config: &Config,
    at: usize,
) -> (Vec<f32>, Vec<[f32; 8]>, Totals<f32>) {
    let (words, stats, totals) = forward_words(gpu, batch, config, at);
    (words.into_iter().map(f32::from_bits).collect(), stats, totals)
}

/// The same with what is kept of each row as it lies in the buffer: losses, or records.
fn forward_words(
    gpu: &Gpu,
    batch: &Batch,
    config: &Config,
    at: usize,
) -> (Vec<u32>, Vec<[f32; 8]>, Totals<f32>) {
    let kernel = CrossEntropyForwardKernel::new(&gpu.device, config).unwrap();
    let mut initial = TableLayout::new(&batch.spec, &batch.shape).initial(&batch.spec);
    initial[36..40].fill(0xff); // first_bad_row: none yet
    let table = Guarded::new(gpu, 64, &bytemuck::pod_collect_to_vec::<u8, u32>(&initial));
    let logits = Guarded::elements(gpu, at, config.options().dtype, &batch.logits);
    let targets = batch.targets(gpu, at);
    let weights = batch.sample_weights.as_ref().map(|weights| Guarded::floats(gpu, at, weights));
    let losses = Guarded::output(gpu, at, batch.shape.rows as usize * config.row_size() as usize / 4);
    // Statistics are eight words a row, and start at a multiple of 16 bytes.
    let stats = Guarded::output(gpu, 4, batch.shape.rows as usize * 8);
    let buffers = CrossEntropyForwardBuffers {
        logits: logits.binding(),
        targets: targets.binding(),
        sample_weights: weights.as_ref().map(Guarded::binding),
        row_losses: losses.binding(),
        row_stats: stats.binding(),
        table: table.binding(),
    };
    let bound = kernel.bind(&gpu.device, &buffers).unwrap();
    run(gpu, |pass| bound.encode(pass));
    let totals = Totals::from_bytes(bytemuck::cast_slice(&table.read(gpu))).unwrap();
    let stats = stats.read_floats(gpu).chunks_exact(8).filter_map(|s| s.try_into().ok()).collect();
    (losses.read(gpu), stats, totals)
}

/// Losses as the oracle's; statistics say the oracle's log-sum-exp, rest and factor; rows are counted.
#[test]
fn losses_and_statistics() {
    for gpu in gpus() {
        for strategy in STRATEGIES {
            for (classes, at) in [(1, 0), (3, 1), (4, 0), (66, 2), (260, 0)] {
                let options = Options { strategy: Some(strategy), ..Options::default() };
                agree(gpu, &options, Shape::new(45, classes), at);
            }
        }
        let cases = [(Dtype::F16, 1, 2, 1), (Dtype::Bf16, 19, 16, 0), (Dtype::F16, 66, 6, 2)];
        for (dtype, classes, inner, at) in cases {
            let options = Options { dtype, ..Options::default() };
            agree(gpu, &options, Shape::class_first(3, classes, inner), at);
        }
        println!("{}: ok", gpu.describe());
    }
}

fn agree(gpu: &Gpu, options: &Options, shape: Shape, at: usize) {
    let classes = shape.classes;
    let mut batch = Batch::random(7, &full_spec(classes), shape);
    batch.logits = options.dtype.round(&batch.logits);
    let config = Config::new(&gpu.device, &batch.spec, batch.shape, options).unwrap();
    let (losses, stats, totals) = forward(gpu, &batch, &config, at);
    let inputs = batch.inputs();
    let want = cpu::compute(&batch.spec, &batch.shape, &inputs).unwrap();
    let allowed = tolerances(&config, &inputs, &want);
    let worst = Worst::of("row_losses", &losses, &want.row_losses, &allowed.row_losses);
    assert!(worst.passed(), "{} {classes}: {worst}", gpu.describe());
    assert_eq!(
        (totals.correct_rows, totals.nonfinite_rows),
        (want.totals.correct_rows, want.totals.nonfinite_rows)
    );

    let mut counted = Totals::default();
    let values = cpu::ClassValues::new(&batch.spec, &[]);
    let (_, wanted) = cpu::cross_entropy_forward(&batch.spec, &batch.shape, &inputs, &values, &mut counted);
    for (row, (got, want)) in stats.iter().zip(&wanted).enumerate() {
        if cpu::Label::read(&batch.spec, &batch.shape, batch.labels[row])
            != cpu::Label::Class(batch.labels[row] as u32)
        {
            assert_eq!(*got, [0.0; 8], "row {row} does not count");
            continue;
        }
        // The others' sum is off by at most the error of an exponential of the largest spread here, 60.
        let relative = ULP * (3.0 + 2.0 * 64.0) * 8.0;
        let lse = f64::from(got[0]) + f64::from(got[1]).ln_1p();
        assert!((lse - want.lse).abs() < relative + want.lse.abs() * ULP, "row {row}: {lse} {want:?}");
        assert_eq!(f64::from(got[0]), want.reference, "row {row}");
        let others = want.sum - 1.0;
        assert!((f64::from(got[1]) - others).abs() <= others * relative + 1e-37, "row {row}");
        // The label's weight is in the terms, the rest in the factor.
        assert!((f64::from(got[2]) - want.factor).abs() <= want.factor.abs() * 4.0 * ULP, "{row}");
    }
}

/// With by-products, each row's loss is what it is without them, to the bit; prediction and class are the oracle's, and the
/// weight is the product of the row's two weights.
#[test]
fn records_of_rows() {
    for gpu in gpus() {
        for strategy in STRATEGIES {
            for (classes, targets) in [(3, Targets::Labels), (66, Targets::TwoHot), (8, Targets::Soft)] {
                let spec = Spec { targets, ..full_spec(classes) };
                let spec = Spec {
                    ignore_index: spec.ignore_index.filter(|_| targets != Targets::Soft),
                    cost_matrix: None,
                    ..spec
                };
                let mut batch = Batch::random(5, &spec, Shape::new(45, classes));
                batch.logits[batch.shape.index(4, 0) as usize] = f32::NAN;
                let plain = Options { strategy: Some(strategy), ..Options::default() };
                let config = |options| Config::new(&gpu.device, &spec, batch.shape, options).unwrap();
                let (losses, ..) = forward_words(gpu, &batch, &config(&plain), 4);
                let (words, ..) =
                    forward_words(gpu, &batch, &config(&Options { predictions: true, ..plain }), 4);
                let records: Vec<RowRecord> = bytemuck::pod_collect_to_vec(&words);
                let values = cpu::ClassValues::new(&spec, &[]);
                let inputs = batch.inputs();
                let predictions = cpu::predictions(&spec, &batch.shape, &inputs, &values);
                assert_eq!(predictions[4], NO_CLASS);
                for (row, record) in records.iter().enumerate() {
                    assert_eq!(record.loss.to_bits(), losses[row], "{}: row {row}", gpu.describe());
                    assert_eq!(record.prediction, predictions[row], "{}: row {row}", gpu.describe());
                    let (class, weight) = match cpu::Target::read(&spec, &batch.shape, &inputs, row as u32) {
                        cpu::Target::Counts { class, .. } => {
                            let s = batch.sample_weights.as_ref().map_or(1.0, |weights| weights[row]);
                            (class, s * values.weight(class) as f32)
                        }
                        _ => (NO_CLASS, 0.0),
                    };
                    assert_eq!(
                        (record.class, record.weight),
                        (class, weight),
                        "{}: row {row}",
                        gpu.describe()
                    );
                }
            }
        }
    }
}
