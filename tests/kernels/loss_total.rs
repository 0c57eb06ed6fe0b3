use crate::support::{Batch, Guarded, POISON, ROWS, cost_matrix, full_spec, given_weights, gpus, run};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wgpu_cross_entropy::kernels::{LossTotalBuffers, LossTotalKernel, TableLayout};
use wgpu_cross_entropy::tolerance::{U, ULP, Worst};
use wgpu_cross_entropy::wgsl::Strategy as RowStrategy;
use wgpu_cross_entropy::{
    Capabilities, ClassStats, Clip, ClipOrder, Config, CrossEntropy, Dtype, Gpu, LogitBias, NO_CLASS,
    Options, RowRecord, SampleWeights, Scores, Shape, Spec, Targets, TelemetryLayout, Totals, WeightScheme,
    WeightScope, cpu,
};

fn totals(gpu: &Gpu, losses: &[f32], denominator: f32, options: &Options) -> Totals<f32> {
    let shape = Shape::new(losses.len() as u32, 3);
    let spec = Spec::default();
    let config = Config::new(&gpu.device, &spec, shape, options).unwrap();
    let kernel = LossTotalKernel::new(&gpu.device, &config).unwrap();
    let mut words = vec![POISON; TableLayout::new(&spec, &shape).size() as usize / 4];
    words[2] = denominator.to_bits();
    let table = Guarded::new(gpu, 64, &words);
    let losses = Guarded::floats(gpu, 3, losses);
    let partials = Guarded::output(gpu, 64, LossTotalKernel::partials_size(shape.rows) as usize / 4);
    let buffers = LossTotalBuffers {
        row_losses: losses.binding(),
        partials: partials.binding(),
        table: table.binding(),
        telemetry: None,
    };
    let bound = kernel.bind(&gpu.device, &buffers).unwrap();
    run(gpu, |pass| bound.encode(pass));
    partials.read(gpu);
    let got = table.read(gpu);
    // Only the first two words are this kernel's.
    assert_eq!(&got[2..], &words[2..]);
    Totals::from_bytes(bytemuck::cast_slice(&got)).unwrap()
}

/// Every number of rows, whole and in tiles: within the rounding of a fixed-order sum, and bit-equal to each other.
#[test]
fn sum_and_loss() {
    for gpu in gpus() {
        for rows in ROWS {
            let losses: Vec<f32> = (0..rows).map(|i| (i * 7919 % 1000) as f32 / 31.0 - 3.0).collect();
            let got = totals(gpu, &losses, 12.5, &Options::default());
            let mut want = Totals { denominator: 12.5, ..Totals::default() };
            cpu::loss_total(&losses.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(), &mut want);
            let absolute: f64 = losses.iter().map(|x| f64::from(x.abs())).sum();
            // 64 in an invocation and a tree of 6, twice.
            let additions = f64::from(rows.min(4096).div_ceil(64) + 6 + rows.div_ceil(4096).div_ceil(64) + 6);
            let tolerance = absolute * additions * U;
            let loss_tolerance = tolerance / 12.5 + want.loss.abs() * 2.5 * ULP;
            for worst in [
                Worst::of("loss_sum", &[got.loss_sum], &[want.loss_sum], &[tolerance]),
                Worst::of("loss", &[got.loss], &[want.loss], &[loss_tolerance]),
            ] {
                assert!(worst.passed(), "{} {rows} rows: {worst}", gpu.describe());
            }
            let small = Options { max_binding_size: Some(20_000), ..Options::default() };
            let tiled = totals(gpu, &losses, 12.5, &small);
            assert_eq!(got.loss_sum.to_bits(), tiled.loss_sum.to_bits(), "{rows} rows");
        }
        println!("{}: {} shapes", gpu.describe(), ROWS.len());
    }
}

/// What is not a number is kept apart from the sum, and shows in the result whatever the driver thinks of NaN.
#[test]
fn not_a_number_shows() {
    const INF: f32 = f32::INFINITY;
    for gpu in gpus() {
        let mut losses = vec![1.0; 5000];
        let mut with = |changes: &[(usize, f32)], denominator: f32| {
            losses.fill(1.0);
            for &(at, value) in changes {
                losses[at] = value;
            }
            totals(gpu, &losses, denominator, &Options::default())
        };
        assert!(with(&[(4999, f32::NAN)], 2.0).loss.is_nan());
        assert!(with(&[(4999, f32::NAN)], 0.0).loss.is_nan());
        assert_eq!(with(&[(17, INF)], 2.0).loss, INF);
        assert_eq!(with(&[(17, INF)], -2.0).loss, -INF);
        assert_eq!(with(&[(17, -INF)], 2.0).loss_sum, -INF);
        assert!(with(&[(17, INF), (4500, -INF)], 2.0).loss.is_nan());
        assert_eq!(with(&[], 0.0).loss, 0.0);
        assert_eq!(with(&[], 0.0).loss_sum, 5000.0);
    }
}

/// Runs the kernel on records `times` times, from telemetry that holds `initial`; the telemetry afterwards.
fn telemetry(gpu: &Gpu, config: &Config, records: &[RowRecord], initial: &[u32], times: usize) -> Vec<u32> {
    let kernel = LossTotalKernel::new(&gpu.device, config).unwrap();
    let table = Guarded::output(gpu, 0, TableLayout::new(config.spec(), config.shape()).size() as usize / 4);
    let words: &[u32] = bytemuck::cast_slice(records);
    let records = Guarded::new(gpu, 4, words);
    let partials = Guarded::output(gpu, 0, LossTotalKernel::partials_size(config.shape().rows) as usize / 4);
    let telemetry = Guarded::new(gpu, 64, initial);
    let buffers = LossTotalBuffers {
        row_losses: records.binding(),
        partials: partials.binding(),
        table: table.binding(),
        telemetry: Some(telemetry.binding()),
    };
    let bound = kernel.bind(&gpu.device, &buffers).unwrap();
    (0..times).for_each(|_| run(gpu, |pass| bound.encode(pass)));
    assert_eq!(records.read(gpu), words, "records were written");
    telemetry.read(gpu)
}

/// Adds to a number of several words, lowest first, in two's complement.
fn add(words: &mut [u32], value: i128) {
    let number = words.iter().rev().fold(0u128, |number, word| number << 32 | u128::from(*word));
    let sum = number.wrapping_add(value as u128);
    (0..).zip(words).for_each(|(at, word)| *word = (sum >> (32 * at)) as u32);
}

/// What the telemetry must hold after these records, to the bit: another way to the same whole numbers.
fn counted(records: &[RowRecord], classes: u32, confusion: bool, initial: &[u32], times: usize) -> Vec<u32> {
    let mut words = initial.to_vec();
    let of = |class: u32, byte: u64| (class * 64 + byte as u32) as usize / 4;
    let can_be_summed = |x: f32| x.is_finite() && x.abs() < 16_777_216.0;
    // The product is exact; `round` takes halves away from zero.
    let fixed = |x: f32| (f64::from(x) * 2f64.powi(48)).round() as i128;
    for record in (0..times).flat_map(|_| records).filter(|record| record.class < classes) {
        let &RowRecord { loss, prediction, class, weight } = record;
        let correct = prediction == class;
        let bad = !can_be_summed(loss) || !can_be_summed(weight);
        let mut count = |at: usize, n: bool| add(&mut words[at..at + 2], i128::from(n));
        count(of(class, TelemetryLayout::ROWS), true);
        count(of(class, TelemetryLayout::CORRECT), correct);
        count(of(class, TelemetryLayout::UNSUMMED), bad);
        if confusion && prediction < classes {
            count((classes * 16 + (class * classes + prediction) * 2) as usize, true);
        }
        let mut sum = |byte: u64, x: f32| {
            if can_be_summed(x) {
                let at = of(class, byte);
                add(&mut words[at..at + 3], fixed(x));
            }
        };
        sum(TelemetryLayout::LOSS, loss);
        sum(TelemetryLayout::WEIGHT, weight);
        if correct {
            sum(TelemetryLayout::CORRECT_WEIGHT, weight);
        }
    }
    words
}

/// Losses and weights at every edge of the sums, among plain ones: nothing at all, half a step and just below it, the
/// smallest and the largest that are summed, those that are not.
fn values(rng: &mut StdRng) -> f32 {
    let step = 2f32.powi(-48);
    let edges = [
        0.0,
        -0.0,
        1e-45,
        f32::MIN_POSITIVE,
        step / 2.0,
        f32::from_bits((step / 2.0).to_bits() - 1),
        step * 1.5,
        step,
        1.0,
        65_535.996,
        16_777_215.0,
        16_777_216.0,
        3e38,
        f32::INFINITY,
        f32::NAN,
    ];
    let value = match rng.random_range(0..30usize) {
        edge if edge < edges.len() => edges[edge],
        15..=20 => 2f32.powf(rng.random::<f32>() * 80.0 - 52.0),
        _ => rng.random::<f32>() * 12.0,
    };
    if rng.random_range(0..3u32) == 0 { -value } else { value }
}

/// Records of every kind. `skewed`: nearly all of class 0 and predicted right.
fn records(seed: u64, rows: u32, classes: u32, skewed: bool) -> Vec<RowRecord> {
    let mut rng = StdRng::seed_from_u64(seed);
    let record = |_| {
        let rare = rng.random_range(0..100u32) == 0;
        let class = if skewed && !rare { 0 } else { rng.random_range(0..classes) };
        let right = skewed || rng.random_range(0..2u32) == 0;
        let prediction = if right { class } else { rng.random_range(0..classes) };
        let (prediction, class) = match rng.random_range(0..40u32) {
            0 => (NO_CLASS, NO_CLASS),
            1 => (NO_CLASS, class),
            2 => (prediction, NO_CLASS),
            // What no forward pass writes: nothing may be indexed by it.
            3 => (classes, classes),
            4 => (classes + 7, class),
            _ => (prediction, class),
        };
        RowRecord { loss: values(&mut rng), prediction, class, weight: values(&mut rng) }
    };
    (0..rows).map(record).collect()
}

/// As if the device were no CPU: classes are gathered in workgroup memory. One driver's workgroup memory cannot count
/// (llvmpipe's GL loses increments where invocations meet), which is why CPUs are spared it; the text is held to the same
/// bits on the others.
fn like_a_gpu(gpu: &Gpu) -> Option<Capabilities> {
    let trusted = gpu.info.backend != wgpu::Backend::Gl || gpu.info.device_type != wgpu::DeviceType::Cpu;
    trusted.then(|| Capabilities { cpu: false, ..Capabilities::of(&gpu.device) })
}

/// Counts and sums equal another computation bit for bit: uniform and skewed records, all numbers of classes around what
/// fits workgroup memory (64, and 32 with confusion counts), in tiles, three steps one after the other, over telemetry
/// that starts at 0 and over numbers about to pass from one word to the next.
#[test]
fn telemetry_is_exact_to_the_bit() {
    for gpu in gpus() {
        let mut checked = 0;
        let mut check = |config: &Config, skewed: bool, full: bool| {
            let (Shape { rows, classes, .. }, confusion) = (*config.shape(), config.options().confusion);
            let records = records(u64::from(rows) << 32 | u64::from(classes), rows, classes, skewed);
            let layout = TelemetryLayout::new(classes, confusion);
            let initial = vec![if full { 0xffff_fff0 } else { 0 }; layout.size() as usize / 4];
            let times = if rows < 10_000 { 3 } else { 1 };
            let got = telemetry(gpu, config, &records, &initial, times);
            let want = counted(&records, classes, confusion, &initial, times);
            let differs = (0..want.len()).find(|&at| got[at] != want[at]);
            assert_eq!(
                differs.map(|at| (at, got[at], want[at])),
                None,
                "{}: {rows} rows, {classes} classes, skewed {skewed}, full {full}, {:?}",
                gpu.describe(),
                config.variant_of(wgpu_cross_entropy::wgsl::Stage::LossTotalClasses)
            );
            checked += 1;
        };
        let shapes = ROWS
            .iter()
            .map(|&rows| (rows, 7))
            .chain([1, 2, 31, 32, 33, 63, 64, 65, 300].map(|classes| (9000, classes)));
        for (rows, classes) in shapes {
            for caps in [Some(Capabilities::of(&gpu.device)), like_a_gpu(gpu)].into_iter().flatten() {
                for (skewed, confusion, tiled) in
                    [(false, false, false), (false, true, true), (true, true, false), (true, false, true)]
                {
                    let options = Options {
                        class_stats: true,
                        confusion,
                        // 4096 records and the alignment, or the telemetry of 300 classes.
                        max_binding_size: tiled.then_some(if classes > 65 { 800_000 } else { 70_000 }),
                        ..Options::default()
                    };
                    let shape = Shape::new(rows, classes);
                    let config = Config::with_capabilities(caps, &Spec::default(), shape, &options).unwrap();
                    check(&config, skewed, rows % 2 == 0);
                }
            }
        }
        println!("{}: {checked} batches", gpu.describe());
    }
}

/// A carry that runs through all words of a sum, up and down: -1 step from 0, and +1 step back.
#[test]
fn carries_reach_the_top() {
    let step = 2f32.powi(-48);
    let with = |loss| vec![RowRecord { loss, prediction: 0, class: 0, weight: -loss }];
    for gpu in gpus() {
        for caps in [Some(Capabilities::of(&gpu.device)), like_a_gpu(gpu)].into_iter().flatten() {
            let options = Options { class_stats: true, ..Options::default() };
            let config =
                Config::with_capabilities(caps, &Spec::default(), Shape::new(1, 1), &options).unwrap();
            let once = telemetry(gpu, &config, &with(-step), &[0; 16], 1);
            assert_eq!(once[6..15], [u32::MAX, u32::MAX, u32::MAX, 1, 0, 0, 1, 0, 0], "{}", gpu.describe());
            let back = telemetry(gpu, &config, &with(step), &once, 1);
            assert_eq!(back, [2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "{}", gpu.describe());
            let stats = ClassStats::from_bytes(1, false, bytemuck::cast_slice(&once)).unwrap();
            assert_eq!((stats.loss[0], stats.weight[0]), (-f64::from(step), f64::from(step)));
        }
    }
}

/// Everything that a row may be, through the whole plan, against the oracle: labels ignored, out of range, masked; rows
/// that are not finite; soft and two-hot targets; weights of every kind; both strategies; 16 bits; class-first; in tiles.
#[test]
fn a_plan_says_what_the_oracle_says() {
    let all = Options { predictions: true, confusion: true, ..Options::default() };
    for gpu in gpus() {
        let mut worst = 0.0f64;
        let mut check = |spec: &Spec, shape: Shape, options: Options| {
            let mut batch = Batch::random(11, spec, shape).without_grad_out();
            batch.logits = options.dtype.round(&batch.logits);
            if shape.rows > 40 {
                batch.logits[shape.index(2, 1) as usize] = f32::NAN;
                batch.logits[shape.index(3, 0) as usize] = f32::INFINITY;
                (0..shape.classes)
                    .for_each(|class| batch.logits[shape.index(9, class) as usize] = f32::NEG_INFINITY);
                // A masked label: its loss is infinite.
                batch.logits[shape.index(14, 0) as usize] = f32::NEG_INFINITY;
                if let Some(label) = batch.labels.get_mut(14) {
                    *label = 0;
                }
                if let Some(probs) = &mut batch.target_probs {
                    probs[shape.index(20, 1) as usize] = f32::NAN;
                    probs[shape.index(21, 0) as usize] = f32::INFINITY;
                }
                // A loss that is finite and too large to be summed.
                batch.logits[shape.index(27, 0) as usize] =
                    if options.dtype == Dtype::F16 { 9.0 } else { 1e30 };
            }
            let plan = CrossEntropy::new(&gpu.device, spec, shape, &options).unwrap();
            let validation = plan.validate_blocking(&gpu.device, &gpu.queue, &batch.inputs()).unwrap();
            // A target that is no number leaves the batch without a sum of weights; what is said of each row and class
            // stays.
            let stays = |name: &str| name.starts_with("class_stats") || name == "predictions";
            let spoilt = spec.targets == Targets::Soft && shape.rows > 40;
            let passed = validation.failures().all(|worst| spoilt && !stays(worst.name));
            assert!(passed, "{}: {shape:?} {options:?}\n{spec:?}\n{validation}", gpu.describe());
            let compared = |name: &str| validation.outputs.iter().any(|worst| worst.name == name);
            assert_eq!(compared("predictions"), options.predictions);
            assert_eq!(compared("class_stats.loss"), options.keeps_telemetry());
            assert_eq!(compared("class_stats.confusion"), options.confusion);
            let of = validation.outputs.iter().filter(|worst| stays(worst.name));
            worst = of.map(|worst| worst.ratio()).fold(worst, f64::max);
        };
        for strategy in [None, Some(RowStrategy::Thread), Some(RowStrategy::Streaming)] {
            for (rows, classes) in [(0, 3), (1, 1), (300, 5), (70, 68), (50, 300)] {
                let spec = full_spec(classes);
                check(&spec, Shape::new(rows, classes), Options { strategy, ..all });
            }
        }
        let labels = Spec {
            class_weights: WeightScheme::Balanced.into(),
            sample_weights: SampleWeights::PerStep,
            logit_bias: LogitBias::LogPrior { tau: 1.0, smoothing: 1.0 },
            logit_scale: 0.5,
            ignore_index: Some(2),
            ..Spec::default()
        };
        check(&labels, Shape::temporal(60, 7, 6), all);
        for targets in [Targets::Soft, Targets::TwoHot] {
            for weight_scope in [WeightScope::PerTerm, WeightScope::PerRow] {
                let spec = Spec {
                    targets,
                    weight_scope,
                    class_weights: given_weights(6),
                    sample_weights: SampleWeights::PerRow,
                    cost_matrix: Some(cost_matrix(6)),
                    label_smoothing: 0.1,
                    ..Spec::default()
                };
                check(&spec, Shape::new(200, 6), all);
                check(&spec, Shape::class_first(4, 6, 25), all);
                // Soft targets are as large as the logits: tiles of both.
                check(&spec, Shape::new(9000, 6), Options { max_binding_size: Some(100_000), ..all });
            }
        }
        for dtype in [Dtype::F16, Dtype::Bf16] {
            check(&full_spec(5), Shape::new(90, 5).with_row_stride(6), Options { dtype, ..all });
        }
        for scores in
            [Scores::LogProbs, Scores::Probs(Clip { eps: 1e-7, order: ClipOrder::AfterNormalizing })]
        {
            let spec = Spec { scores, ..full_spec(5) };
            check(&spec, Shape::new(40, 5), all);
        }
        let plain = Spec::default();
        for options in [
            Options { predictions: true, ..Options::default() },
            Options { class_stats: true, ..Options::default() },
            Options { confusion: true, in_place: true, ..Options::default() },
        ] {
            check(&plain, Shape::new(100, 4), options);
        }
        println!("{}: worst {worst:.3} of the tolerance", gpu.describe());
    }
}

/// Three steps accumulate, a reset starts anew; what is accumulated equals, to the bit, what the device's own records say;
/// losses, gradients and totals are those of a plan without by-products.
#[test]
fn steps_accumulate_until_a_reset() {
    for gpu in gpus() {
        let (spec, shape) = (full_spec(6), Shape::new(5000, 6));
        let options = Options { confusion: true, ..Options::default() };
        let plan = CrossEntropy::new(&gpu.device, &spec, shape, &options).unwrap();
        let bare = CrossEntropy::new(&gpu.device, &spec, shape, &Options::default()).unwrap();
        let layout = plan.config().telemetry_layout().unwrap();
        let read = |name, buffer: &wgpu::Buffer, size| -> Vec<u32> {
            let read = wgpu_cross_entropy::read(&gpu.device, &gpu.queue, name, buffer, size);
            bytemuck::pod_collect_to_vec(&pollster::block_on(read).unwrap())
        };
        let submit = |reset: bool, batch: &Batch| {
            let grads = Guarded::output(gpu, 0, batch.logits.len());
            let (logits, labels) =
                (Guarded::floats(gpu, 0, &batch.logits), Guarded::labels(gpu, 0, &batch.labels));
            let weights = batch.sample_weights.as_ref().map(|weights| Guarded::floats(gpu, 0, weights));
            let buffers = wgpu_cross_entropy::Batch {
                logits: logits.binding(),
                targets: labels.binding(),
                sample_weights: weights.as_ref().map(Guarded::binding),
                grad_out: None,
                external_denominator: None,
                logit_grads: Some(grads.binding()),
            };
            let mut results = Vec::new();
            for plan in [&plan, &bare] {
                let step = plan.bind(&gpu.device, &buffers).unwrap();
                let mut encoder =
                    gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                if reset {
                    plan.reset_telemetry(&mut encoder);
                }
                plan.encode(&mut encoder, &step);
                gpu.queue.submit([encoder.finish()]);
                let kept =
                    read("row_losses", plan.row_losses(), u64::from(shape.rows) * plan.config().row_size());
                let table = read("table", plan.table(), 64);
                results.push((kept, table, grads.read(gpu)));
            }
            let (bare, full) = (results.pop().unwrap(), results.pop().unwrap());
            let records: Vec<RowRecord> = full
                .0
                .chunks_exact(4)
                .map(|words| bytemuck::pod_read_unaligned(bytemuck::cast_slice(words)))
                .collect();
            let losses: Vec<u32> = records.iter().map(|record| record.loss.to_bits()).collect();
            assert!(losses == bare.0 && full.1 == bare.1 && full.2 == bare.2, "{}", gpu.describe());
            records
        };
        let mut want = vec![0; layout.size() as usize / 4];
        for (seed, reset) in [(1, false), (2, false), (3, false), (4, true), (5, false)] {
            let batch = Batch::random(seed, &spec, shape).without_grad_out();
            let records = submit(reset, &batch);
            if reset {
                want.fill(0);
            }
            want = counted(&records, 6, true, &want, 1);
            let got = read("telemetry", plan.telemetry().unwrap(), layout.size());
            assert_eq!(got, want, "{}: step {seed}", gpu.describe());
        }
        let stats = plan.read_telemetry_blocking(&gpu.device, &gpu.queue).unwrap();
        assert_eq!(stats, ClassStats::from_bytes(6, true, bytemuck::cast_slice(&want)).unwrap());
        let (valid, cells): (u64, u64) =
            (stats.rows.iter().sum(), stats.confusion.as_ref().unwrap().iter().sum());
        assert!(valid == cells && valid > 7000, "{valid} rows of two steps, {cells} in the confusion");
        let off = bare.read_telemetry_blocking(&gpu.device, &gpu.queue).unwrap_err();
        assert_eq!(
            off.to_string(),
            "the plan keeps no telemetry; Options::class_stats or Options::confusion asks for it"
        );
    }
}

/// Telemetry that no buffer or binding holds is refused before anything is made, and says why it is large; a kernel that
/// lacks it, or has it for nothing, says so.
#[test]
fn telemetry_that_does_not_fit_is_refused() {
    for gpu in gpus() {
        let confusion = Options { confusion: true, ..Options::default() };
        let plan = |classes, options: &Options| {
            CrossEntropy::new(&gpu.device, &Spec::default(), Shape::new(2, classes), options)
        };
        let refused = plan(200_000, &confusion).unwrap_err().to_string();
        assert!(
            refused.starts_with(
                "telemetry (8 bytes for each pair of classes) is 320012800000; the device allows"
            ),
            "{refused}"
        );
        let small = Options { max_binding_size: Some(1 << 16), ..confusion };
        assert_eq!(
            plan(100, &small).unwrap_err().to_string(),
            "telemetry (8 bytes for each pair of classes) is 86400; the device allows 65536"
        );
        let telemetry = plan(200_000, &Options { class_stats: true, ..Options::default() }).unwrap();
        assert!(telemetry.memory().contains(&("telemetry", 12_800_000)), "{:?}", telemetry.memory());
        let bind = |options: &Options, given: bool| {
            let config = Config::new(&gpu.device, &Spec::default(), Shape::new(8, 3), options).unwrap();
            let kernel = LossTotalKernel::new(&gpu.device, &config).unwrap();
            let [row_losses, partials, table, telemetry] =
                [32, 8, 40, 48].map(|words| Guarded::output(gpu, 0, words));
            let buffers = LossTotalBuffers {
                row_losses: row_losses.binding(),
                partials: partials.binding(),
                table: table.binding(),
                telemetry: given.then(|| telemetry.binding()),
            };
            kernel.bind(&gpu.device, &buffers).map(|_| ()).map_err(|error| error.to_string())
        };
        let stats = Options { class_stats: true, ..Options::default() };
        assert_eq!(bind(&stats, true), Ok(()));
        assert_eq!(bind(&stats, false).unwrap_err(), "telemetry is missing; the options ask for it");
        assert_eq!(
            bind(&Options::default(), true).unwrap_err(),
            "telemetry is given; the options do not ask for it"
        );
        assert_eq!(bind(&confusion, true).unwrap_err(), "telemetry holds 192 bytes; 3 classes need 264");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// What two shards counted, each for itself, is what the whole batch counts: on every adapter.
    #[test]
    fn shards_add_up(seed in 0u64..1000, rows in 1u32..300, cut in 0.0f64..1.0, classes in 1u32..70) {
        let cut = (f64::from(rows) * cut) as u32;
        let spec = full_spec(classes);
        let whole = Batch::random(seed, &spec, Shape::new(rows, classes)).without_grad_out();
        let part = |from: u32, to: u32| {
            let (a, b, n) = (from as usize, to as usize, classes as usize);
            Batch {
                shape: Shape::new(to - from, classes),
                logits: whole.logits[a * n..b * n].to_vec(),
                labels: whole.labels[a..b].to_vec(),
                sample_weights: whole.sample_weights.as_ref().map(|weights| weights[a..b].to_vec()),
                ..whole.clone()
            }
        };
        for gpu in gpus() {
            let stats = |batch: &Batch| {
                let options = Options { confusion: true, ..Options::default() };
                let plan = CrossEntropy::new(&gpu.device, &spec, batch.shape, &options).unwrap();
                let output = plan.compute_blocking(&gpu.device, &gpu.queue, &batch.inputs()).unwrap();
                output.class_stats.unwrap()
            };
            let (want, mut got) = (stats(&whole), stats(&part(0, cut)));
            got.merge(&stats(&part(cut, rows))).unwrap();
            prop_assert_eq!(&got.rows, &want.rows);
            prop_assert_eq!(&got.correct, &want.correct);
            prop_assert_eq!(&got.unsummed, &want.unsummed);
            prop_assert_eq!(&got.confusion, &want.confusion);
            for (got, want) in [(&got.loss, &want.loss), (&got.weight, &want.weight)] {
                for (got, want) in got.iter().zip(want) {
                    // The device's sums are exact; `f64` rounds each of them, and their sum.
                    prop_assert!((got - want).abs() <= 3.0 * f64::EPSILON * want.abs(), "{got} and {want}");
                }
            }
        }
    }
}
