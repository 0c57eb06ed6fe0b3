//! A plan checks itself, once or while it trains, and finds a planted fault both ways.

use crate::support::{Batch, Guarded, full_spec, gpus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use wgpu_cross_entropy::error::{BindError, HostError};
use wgpu_cross_entropy::wgsl::{Stage, Strategy};
use wgpu_cross_entropy::{
    BinaryBatch, BinaryConfig, BinaryCrossEntropy, BinaryOptions, BinarySpec, Config, CountsOver,
    CrossEntropy, Dtype, Gpu, LabelFormat, LiveCheck, LiveCheckOptions, LiveCounts, LiveReport, LogitBias,
    Options, PosWeight, SampleWeights, SelfCheckOptions, Shape, Spec, Targets, WeightScheme,
};

const SMALL: SelfCheckOptions = SelfCheckOptions { max_logits: 1 << 14, seed: 7 };

/// One wrong constant: a coefficient of the series of log(1 + x).
fn with_a_fault(_: Stage, text: &str) -> Option<String> {
    let (right, wrong) = ("t * (0.2 + t", "t * (0.21 + t");
    text.contains(right).then(|| text.replace(right, wrong))
}

fn live_spec() -> Spec {
    Spec {
        ignore_index: Some(-100),
        class_weights: WeightScheme::Balanced.into(),
        logit_bias: LogitBias::LogPrior { tau: 0.5, smoothing: 1.0 },
        sample_weights: SampleWeights::PerRow,
        live_counts: LiveCounts { over: CountsOver::Ema { momentum: 0.9 }, ..LiveCounts::default() },
        ..Spec::default()
    }
}

/// Plans of many kinds.
fn cases() -> Vec<(Spec, Shape, Options)> {
    let plain = Options::default();
    let in_place = Options { in_place: true, predictions: true, ..plain };
    vec![
        (full_spec(7), Shape::new(1_000_000, 7), plain),
        (full_spec(100), Shape::new(5000, 100), Options { grad_out: true, confusion: true, ..plain }),
        (live_spec(), Shape::new(300, 12), in_place),
        (Spec { targets: Targets::Soft, label_smoothing: 0.1, ..Spec::default() }, Shape::new(900, 9), plain),
        (Spec { targets: Targets::TwoHot, focal_gamma: 2.0, ..Spec::default() }, Shape::new(900, 9), plain),
        (Spec { z_loss: 1e-3, ..full_spec(5) }, Shape::class_first(40, 5, 35), plain),
        (
            Spec { ignore_index: Some(255), ..Spec::default() },
            Shape::class_first(4, 5, 64),
            Options { labels: LabelFormat::U8, ..plain },
        ),
        (Spec::default(), Shape::new(640, 30), Options { dtype: Dtype::F16, ..in_place }),
        (
            Spec::default(),
            Shape::new(640, 30),
            Options { dtype: Dtype::Bf16, strategy: Some(Strategy::Streaming), ..plain },
        ),
        (
            Spec { sample_weights: SampleWeights::PerSample, ..Spec::default() },
            Shape::temporal(20, 30, 4),
            plain,
        ),
        (Spec::default(), Shape::new(64, 10_007), plain),
        (full_spec(600), Shape::new(20, 600), Options { strategy: Some(Strategy::Split), ..plain }),
    ]
}

fn binary_cases() -> Vec<(BinarySpec, Shape, BinaryOptions)> {
    let plain = BinaryOptions::default();
    let live = BinarySpec {
        pos_weight: PosWeight::Live { per_column: true, min: 0.1, max: 10.0 },
        sample_weights: true,
        ..BinarySpec::default()
    };
    let focal = BinarySpec {
        focal_gamma: 2.0,
        ignore_value: Some(-1.0),
        element_weights: true,
        ..BinarySpec::default()
    };
    vec![
        (BinarySpec::default(), Shape::new(70_000, 9), BinaryOptions { element_losses: true, ..plain }),
        (live, Shape::new(500, 9), BinaryOptions { element_losses: true, ..plain }),
        (
            focal,
            Shape::class_first(20, 6, 30),
            BinaryOptions { element_losses: true, in_place: true, ..plain },
        ),
        (
            BinarySpec::default(),
            Shape::new(500, 8),
            BinaryOptions { dtype: Dtype::F16, grad_out: true, ..plain },
        ),
    ]
}

#[test]
fn a_self_check_passes() {
    for gpu in gpus() {
        let (device, queue) = (&gpu.device, &gpu.queue);
        let began = Instant::now();
        for (spec, shape, options) in cases() {
            let plan = CrossEntropy::new(device, &spec, shape, &options).unwrap();
            let found = plan.self_check_blocking(device, queue, &SMALL).unwrap();
            assert!(found.passed(), "{}: {spec:?}\n{shape:?} {options:?}\n{found}", gpu.describe());
            assert!(found.first_difference().is_none() && found.batches.len() == 2);
            assert!(found.rows >= 1 && u64::from(found.rows) * u64::from(shape.classes) <= SMALL.max_logits);
        }
        for (spec, shape, options) in binary_cases() {
            let plan = BinaryCrossEntropy::new(device, &spec, shape, &options).unwrap();
            let found = plan.self_check_blocking(device, queue, &SMALL).unwrap();
            assert!(found.passed(), "{}: {spec:?}\n{shape:?} {options:?}\n{found}", gpu.describe());
        }
        println!(
            "{}: {} plans checked themselves in {:?}",
            gpu.describe(),
            cases().len() + binary_cases().len(),
            began.elapsed()
        );
    }
}

/// The check is the plan's own business: what the plan has counted stays as it was.
#[test]
fn a_self_check_leaves_the_plan_alone() {
    for gpu in gpus() {
        let (device, queue) = (&gpu.device, &gpu.queue);
        let batch = Batch { grad_out: None, ..Batch::random(5, &live_spec(), Shape::new(60, 5)) };
        let options = Options { class_stats: true, ..Options::default() };
        let plan = CrossEntropy::new(device, &batch.spec, batch.shape, &options).unwrap();
        plan.compute_blocking(device, queue, &batch.inputs()).unwrap();
        let state = || {
            let history = pollster::block_on(plan.save_history(device, queue)).unwrap().unwrap();
            let read = wgpu_cross_entropy::read(device, queue, "table", plan.table(), plan.table().size());
            (history, plan.read_telemetry_blocking(device, queue).unwrap(), pollster::block_on(read).unwrap())
        };
        let before = state();
        assert!(plan.self_check_blocking(device, queue, &SMALL).unwrap().passed());
        assert!(state() == before, "{}", gpu.describe());
        println!(
            "{}: {} bytes of table as they were, and history and telemetry",
            gpu.describe(),
            before.2.len()
        );
    }
}

#[test]
fn a_self_check_finds_one_wrong_constant() {
    for gpu in gpus() {
        let (device, queue) = (&gpu.device, &gpu.queue);
        let config = Config::new(device, &full_spec(7), Shape::new(4000, 7), &Options::default()).unwrap();
        let plan = CrossEntropy::with_config(device, config.with_shaders(with_a_fault)).unwrap();
        let found = plan.self_check_blocking(device, queue, &SMALL).unwrap();
        let (batch, worst) = found.first_difference().expect("a difference");
        assert!(!found.passed() && batch == "hard batch", "{found}");
        assert!(["loss", "loss_sum", "row_losses"].contains(&worst.name), "{worst}");
        println!("{}: {batch}: {worst}", gpu.describe());
        let config = BinaryConfig::new(
            device,
            &BinarySpec::default(),
            Shape::new(400, 7),
            &BinaryOptions { element_losses: true, ..BinaryOptions::default() },
        );
        let plan =
            BinaryCrossEntropy::with_config(device, config.unwrap().with_shaders(with_a_fault)).unwrap();
        let found = plan.self_check_blocking(device, queue, &SMALL).unwrap();
        let (_, worst) = found.first_difference().expect("a difference");
        println!("{}: sigmoid: {worst}", gpu.describe());
        // The crate's own text, compiled with all checks, passes.
        let config = Config::new(device, &full_spec(7), Shape::new(4000, 7), &Options::default()).unwrap();
        let plan =
            CrossEntropy::with_config(device, config.with_shaders(|_, text| Some(text.to_owned()))).unwrap();
        assert!(plan.self_check_blocking(device, queue, &SMALL).unwrap().passed());
    }
}

/// A plan bound to a batch, and what a live check said of it.
struct Live {
    plan: CrossEntropy,
    step: wgpu_cross_entropy::BoundStep,
    buffers: Vec<Guarded>,
    reports: Arc<Mutex<Vec<LiveReport>>>,
}

impl Live {
    fn new(gpu: &Gpu, config: Config, seed: u64) -> Self {
        let (spec, shape, options) = (config.spec().clone(), *config.shape(), *config.options());
        let batch = Batch::random(seed, &spec, shape);
        let bytes = |bytes: Vec<u8>| {
            let mut bytes = bytes;
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            Guarded::new(gpu, 0, &bytemuck::pod_collect_to_vec::<u8, u32>(&bytes))
        };
        let logits = bytes(options.dtype.encode(&batch.logits));
        let targets = match options.labels {
            LabelFormat::I32 => batch.targets(gpu, 0),
            format => {
                let labels: Vec<i32> = batch.labels.iter().map(|label| label & 255).collect();
                bytes(format.encode(&labels).unwrap())
            }
        };
        let none = || Guarded::output(gpu, 0, 1);
        let weights =
            batch.sample_weights.as_ref().map_or_else(none, |weights| Guarded::floats(gpu, 0, weights));
        let grad_out = Guarded::floats(gpu, 0, &batch.grad_out.unwrap());
        let grads = bytes(options.dtype.encode(&vec![0.0; batch.logits.len()]));
        let plan = CrossEntropy::with_config(&gpu.device, config).unwrap();
        let buffers = vec![logits, targets, weights, grad_out, grads];
        let step = plan.bind(&gpu.device, &batch_of(&plan, &buffers)).unwrap();
        Self { plan, step, buffers, reports: Arc::default() }
    }

    fn check(&self, gpu: &Gpu, options: &LiveCheckOptions) -> wgpu_cross_entropy::LiveCheck {
        let reports = self.reports.clone();
        let batch = batch_of(&self.plan, &self.buffers);
        self.plan
            .live_check(&gpu.device, &batch, options, move |report| {
                reports.lock().unwrap().push(report.clone())
            })
            .unwrap()
    }
}

fn batch_of<'a>(plan: &CrossEntropy, buffers: &'a [Guarded]) -> wgpu_cross_entropy::Batch<'a> {
    let config = plan.config();
    let weights = config.spec().sample_weights != SampleWeights::None;
    wgpu_cross_entropy::Batch {
        logits: buffers[0].binding(),
        targets: buffers[1].binding(),
        sample_weights: weights.then(|| buffers[2].binding()),
        grad_out: config.options().grad_out.then(|| buffers[3].binding()),
        external_denominator: None,
        logit_grads: (!config.options().in_place).then(|| buffers[4].binding()),
    }
}

fn settle(gpu: &Gpu) {
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
}

/// Collects until there are so many reports. The device being done is not enough: another test's thread may have polled,
/// and be about to run the callback that says so.
fn collect(gpu: &Gpu, check: &mut LiveCheck, reports: &Mutex<Vec<LiveReport>>, wanted: usize) {
    let began = Instant::now();
    loop {
        settle(gpu);
        check.collect();
        let got = reports.lock().unwrap().len();
        if got >= wanted {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{got} reports of {wanted}: {}", gpu.describe());
        std::thread::yield_now();
    }
}

#[test]
fn a_live_check_agrees_with_the_oracle() {
    for gpu in gpus() {
        let mut rows = 0;
        for (spec, shape, options) in cases() {
            let shape = if shape.rows > 9000 { Shape::new(9000, shape.classes) } else { shape };
            let config = Config::new(&gpu.device, &spec, shape, &options).unwrap();
            let live = Live::new(gpu, config, 3);
            let scale: f32 = 0.5;
            gpu.queue.write_buffer(
                live.plan.table(),
                wgpu_cross_entropy::kernels::TableLayout::GRAD_SCALE,
                bytemuck::bytes_of(&scale),
            );
            let mut check = live.check(gpu, &LiveCheckOptions { rows: 24, every: 1, in_flight: 2, seed: 5 });
            for step in 0..if options.in_place { 1 } else { 3 } {
                let mut encoder = gpu.device.create_command_encoder(&Default::default());
                check.encode(&mut encoder, &live.plan, &live.step);
                gpu.queue.submit([encoder.finish()]);
                collect(gpu, &mut check, &live.reports, step + 1);
            }
            let reports = live.reports.lock().unwrap();
            assert_eq!(reports.len(), if options.in_place { 1 } else { 3 });
            for (number, report) in reports.iter().enumerate() {
                assert!(
                    report.validation.passed(),
                    "{}: {spec:?} {shape:?} {options:?}\n{}",
                    gpu.describe(),
                    report.validation
                );
                assert_eq!((report.step, report.left_out), (number as u64, 0));
                assert!(report.rows.iter().all(|row| *row < shape.rows));
                rows += report.rows.len();
            }
        }
        println!("{}: {rows} rows of live steps agreed with the oracle", gpu.describe());
    }
}

#[test]
fn a_live_check_of_sigmoid_losses() {
    for gpu in gpus() {
        for fault in [false, true] {
            for (spec, shape, options) in binary_cases() {
                let shape = if shape.rows > 9000 { Shape::new(900, shape.classes) } else { shape };
                let mut config = BinaryConfig::new(&gpu.device, &spec, shape, &options).unwrap();
                if fault {
                    config = config.with_shaders(with_a_fault);
                }
                let plan = BinaryCrossEntropy::with_config(&gpu.device, config).unwrap();
                let len = shape.logits_len() as usize;
                let made =
                    |by: usize| (0..len).map(|i| (i * by % 37) as f32 / 4.0 - 4.0).collect::<Vec<f32>>();
                let bytes = |values: &[f32], dtype: Dtype| {
                    Guarded::new(gpu, 0, &bytemuck::pod_collect_to_vec::<u8, u32>(&dtype.encode(values)))
                };
                let logits = bytes(&made(7), options.dtype);
                let targets: Vec<f32> = (0..len).map(|i| [0.0, 1.0, 0.25][i % 3]).collect();
                let targets = bytes(&targets, Dtype::F32);
                let weights =
                    bytes(&(0..len).map(|i| 0.5 + (i % 5) as f32).collect::<Vec<f32>>(), Dtype::F32);
                let grads = bytes(&vec![0.0; len], options.dtype);
                let losses = Guarded::output(gpu, 0, len);
                let batch = BinaryBatch {
                    logits: logits.binding(),
                    targets: targets.binding(),
                    element_weights: spec.element_weights.then(|| weights.binding()),
                    sample_weights: spec.sample_weights.then(|| weights.binding()),
                    grad_out: options.grad_out.then(|| weights.binding()),
                    external_denominator: None,
                    logit_grads: (!options.in_place).then(|| grads.binding()),
                    element_losses: options.element_losses.then(|| losses.binding()),
                };
                let step = plan.bind(&gpu.device, &batch).unwrap();
                let reports: Arc<Mutex<Vec<LiveReport>>> = Arc::default();
                let list = reports.clone();
                let every = LiveCheckOptions { rows: 20, every: 1, ..LiveCheckOptions::default() };
                let mut check = plan
                    .live_check(&gpu.device, &batch, &every, move |report| {
                        list.lock().unwrap().push(report.clone())
                    })
                    .unwrap();
                let mut encoder = gpu.device.create_command_encoder(&Default::default());
                check.encode_binary(&mut encoder, &plan, &step);
                gpu.queue.submit([encoder.finish()]);
                collect(gpu, &mut check, &reports, 1);
                let validation = &reports.lock().unwrap()[0].validation;
                // Gradients have no logarithm but focal ones: there the fault is in the losses, which not all plans write.
                let shows = fault && options.element_losses;
                assert_eq!(
                    validation.passed(),
                    !shows,
                    "{}: {spec:?} {options:?}\n{validation}",
                    gpu.describe()
                );
            }
        }
    }
}

/// The planted fault is found by the rows of the live batch, and by every check that looks.
#[test]
fn a_live_check_finds_one_wrong_constant() {
    for gpu in gpus() {
        let config =
            Config::new(&gpu.device, &full_spec(7), Shape::new(4000, 7), &Options::default()).unwrap();
        let live = Live::new(gpu, config.with_shaders(with_a_fault), 3);
        let mut check =
            live.check(gpu, &LiveCheckOptions { rows: 64, every: 4, ..LiveCheckOptions::default() });
        for _ in 0..9 {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            check.encode(&mut encoder, &live.plan, &live.step);
            gpu.queue.submit([encoder.finish()]);
        }
        collect(gpu, &mut check, &live.reports, 3);
        let reports = live.reports.lock().unwrap();
        let steps: Vec<u64> = reports.iter().map(|report| report.step).collect();
        assert_eq!(steps, [0, 4, 8]);
        for report in reports.iter() {
            let worst = report.validation.failures().next().expect("a difference");
            assert_eq!(worst.name, "row_losses", "{worst}");
            assert!(report.rows.contains(&(worst.index as u32)), "{worst}");
        }
        println!("{}: step 0: {}", gpu.describe(), reports[0].validation.failures().next().unwrap());
    }
}

/// Nothing waits: where all copies are under way, a check is left out; one that was never submitted is forgotten.
#[test]
fn a_live_check_never_waits() {
    for gpu in gpus() {
        let config =
            Config::new(&gpu.device, &full_spec(7), Shape::new(400, 7), &Options::default()).unwrap();
        let live = Live::new(gpu, config, 3);
        let mut check =
            live.check(gpu, &LiveCheckOptions { every: 1, in_flight: 2, ..LiveCheckOptions::default() });
        let mut recorded = Vec::new();
        for _ in 0..5 {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            check.encode(&mut encoder, &live.plan, &live.step);
            recorded.push(encoder.finish());
        }
        // Two are under way, three were left out. The first is submitted, the second dropped.
        let second = recorded.remove(1);
        gpu.queue.submit(recorded);
        drop(second);
        collect(gpu, &mut check, &live.reports, 1);
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        check.encode(&mut encoder, &live.plan, &live.step);
        gpu.queue.submit([encoder.finish()]);
        collect(gpu, &mut check, &live.reports, 2);
        let reports = live.reports.lock().unwrap();
        let seen: Vec<(u64, u64)> = reports.iter().map(|report| (report.step, report.left_out)).collect();
        assert_eq!(seen, [(0, 3), (5, 3)], "{}", gpu.describe());
        assert!(reports.iter().all(|report| report.validation.passed()));
        println!("{}: 6 steps, 2 checks reported, 3 left out, 1 dropped", gpu.describe());
        // A buffer that cannot be copied from is named.
        let secret = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 400 * 7 * 4,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        let batch = wgpu_cross_entropy::Batch {
            logits: secret.as_entire_buffer_binding(),
            ..batch_of(&live.plan, &live.buffers)
        };
        let refused = live.plan.live_check(&gpu.device, &batch, &LiveCheckOptions::default(), |_| {});
        assert!(matches!(
            refused.map(|_| ()),
            Err(HostError::Bind(BindError::Usage { name: "logits", missing: "COPY_SRC", .. }))
        ));
    }
}

/// What the check costs a step, in the time that a trainer sees: recording, submitting and the device's own work.
#[test]
fn what_a_live_check_costs() {
    for gpu in gpus() {
        let config =
            Config::new(&gpu.device, &full_spec(100), Shape::new(4096, 100), &Options::default()).unwrap();
        let live = Live::new(gpu, config, 3);
        let run = |mut check: Option<wgpu_cross_entropy::LiveCheck>, steps: u32| -> Duration {
            let began = Instant::now();
            for _ in 0..steps {
                let mut encoder = gpu.device.create_command_encoder(&Default::default());
                match &mut check {
                    Some(check) => check.encode(&mut encoder, &live.plan, &live.step),
                    None => live.plan.encode(&mut encoder, &live.step),
                }
                gpu.queue.submit([encoder.finish()]);
                settle(gpu);
            }
            began.elapsed() / steps
        };
        run(None, 3);
        let of = |every| live.check(gpu, &LiveCheckOptions { every, ..LiveCheckOptions::default() });
        // In turn, so that a busy machine slows both; the least of several.
        let mut least = [Duration::MAX; 3];
        for _ in 0..3 {
            for (which, check) in [None, Some(of(1)), Some(of(10))].into_iter().enumerate() {
                least[which] = least[which].min(run(check, 10));
            }
        }
        let percent = |which: usize| 100.0 * (least[which].as_secs_f64() / least[0].as_secs_f64() - 1.0);
        println!(
            "{}: 4096 rows of 100 classes: {:?} a step; 16 rows looked at in each step {:+.1} %, in every 10th {:+.1} %",
            gpu.describe(),
            least[0],
            percent(1),
            percent(2),
        );
        assert!(live.reports.lock().unwrap().iter().all(|report| report.validation.passed()));
        assert!(live.reports.lock().unwrap().len() >= 30);
    }
}
