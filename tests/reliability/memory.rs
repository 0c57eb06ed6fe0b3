//! Memory is known before any is taken, and a step takes no more.

use crate::support::{Batch, full_spec};
use crate::{noop, own_device, support::gpus};
use wgpu_cross_entropy::error::PlanError;
use wgpu_cross_entropy::wgsl::Strategy;
use wgpu_cross_entropy::{
    BinaryBatch, BinaryConfig, BinaryCrossEntropy, BinaryOptions, BinarySpec, Capabilities, Config,
    CountsOver, CrossEntropy, Gpu, LiveCounts, MAX_CLASSES, Options, PosWeight, Shape, Spec, Targets,
    WeightScheme,
};

/// What wgpu has made on a device: buffers, and bytes where the back end counts them (Vulkan).
fn made(gpu: &Gpu) -> [u64; 2] {
    let hal = gpu.device.get_internal_counters().hal;
    [hal.buffers.read() as u64, hal.buffer_memory.read() as u64]
}

/// Submits what is pending and lets wgpu free what it is done with.
fn settle(gpu: &Gpu) {
    for _ in 0..2 {
        gpu.queue.submit([]);
        gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device answers");
    }
}

fn buffer(gpu: &Gpu, bytes: u64) -> wgpu::Buffer {
    gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("the caller's"),
        size: bytes.max(4),
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

/// What drivers add to a buffer: they align it. The largest alignment here is 256 bytes.
fn aligned(sizes: impl IntoIterator<Item = u64>) -> std::ops::RangeInclusive<u64> {
    let (mut least, mut most) = (0, 0);
    for size in sizes {
        least += size.next_multiple_of(4);
        most += size.next_multiple_of(256);
    }
    least..=most
}

fn total(memory: &[(&'static str, u64)]) -> u64 {
    memory.iter().map(|(_, size)| size).sum()
}

/// Compares what was said with what wgpu made: `before` a plan, at its `peak` before the first submission, and `after`
/// steps have run. `bounds` buffers of parameters make up the entry `params`.
fn compare(gpu: &Gpu, said: &[(&'static str, u64)], bounds: usize, [before, peak, after]: [[u64; 2]; 3]) {
    let what = format!("{}: {said:?}", gpu.describe());
    let sizes: Vec<u64> = said.iter().filter(|(name, _)| *name != "params").map(|(_, size)| *size).collect();
    let params = total(said) - sizes.iter().sum::<u64>();
    assert_eq!(after[0] - before[0], (sizes.len() + bounds) as u64, "buffers; {what}");
    // New buffers with contents are staged up to the end of the next submission.
    let staged: Vec<u64> =
        said.iter().filter(|(name, _)| matches!(*name, "table" | "history")).map(|(_, size)| *size).collect();
    assert_eq!(peak[0] - after[0], (staged.len() + bounds) as u64, "staged buffers; {what}");
    if after[1] > 0 {
        let all = || sizes.iter().copied().chain([params]);
        let kept = after[1] - before[1];
        assert!(aligned(all()).contains(&kept), "{kept} bytes are kept; {what}");
        let highest = peak[1] - before[1];
        let twice = aligned(all().chain(staged).chain([params]));
        assert!(twice.contains(&highest), "{highest} bytes at the peak, {twice:?} expected; {what}");
    }
}

#[test]
fn a_plan_takes_what_it_said() {
    for gpu in gpus() {
        let gpu = &own_device(gpu);
        let history = LiveCounts { over: CountsOver::Ema { momentum: 0.5 }, ..LiveCounts::default() };
        let live = Spec { class_weights: WeightScheme::Balanced.into(), ..Spec::default() };
        let mass = LiveCounts { sample_weighted: true, ..history };
        let cases = [
            (Spec::default(), Shape::new(4097, 12), Options::default()),
            (full_spec(7), Shape::new(70_001, 7), Options { confusion: true, ..Options::default() }),
            (
                Spec { live_counts: history, ..live.clone() },
                Shape::new(301, 7),
                Options { in_place: true, ..Options::default() },
            ),
            (
                Spec {
                    live_counts: mass,
                    sample_weights: wgpu_cross_entropy::SampleWeights::PerRow,
                    ..live.clone()
                },
                Shape::new(301, 7),
                Options::default(),
            ),
            (Spec { targets: Targets::Soft, ..live }, Shape::new(5000, 6), Options::default()),
            // Rows that several workgroups share, with terms that need moments.
            (
                Spec { label_smoothing: 0.1, ..Spec::default() },
                Shape::new(9, 5000),
                Options { strategy: Some(Strategy::Split), ..Options::default() },
            ),
            // Many tiles: many parameters.
            (
                full_spec(7),
                Shape::new(70_001, 7),
                Options { class_stats: true, max_binding_size: Some(200_000), ..Options::default() },
            ),
        ];
        for (spec, shape, options) in cases {
            let batch = Batch::random(1, &spec, shape).without_grad_out();
            let logits = buffer(gpu, shape.logits_len() * 4);
            let grads = buffer(gpu, shape.logits_len() * 4);
            let targets = batch.targets(gpu, 0);
            let weights =
                batch.sample_weights.as_ref().map(|weights| crate::support::Guarded::floats(gpu, 0, weights));
            settle(gpu);
            let config = Config::new(&gpu.device, &spec, shape, &options).unwrap();
            let said = config.memory();
            let before = made(gpu);
            let plan = CrossEntropy::with_config(&gpu.device, config).unwrap();
            let step = plan
                .bind(
                    &gpu.device,
                    &wgpu_cross_entropy::Batch {
                        logits: logits.as_entire_buffer_binding(),
                        targets: targets.binding(),
                        sample_weights: weights.as_ref().map(|weights| weights.binding()),
                        grad_out: None,
                        external_denominator: None,
                        logit_grads: (!options.in_place).then(|| grads.as_entire_buffer_binding()),
                    },
                )
                .unwrap();
            let peak = made(gpu);
            for _ in 0..3 {
                let mut encoder =
                    gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                plan.encode(&mut encoder, &step);
                gpu.queue.submit([encoder.finish()]);
                assert!(made(gpu)[0] <= peak[0]);
            }
            settle(gpu);
            assert_eq!(plan.memory(), said);
            let bounds = step.steps().iter().filter(|bound| bound.dispatches() > 0).count();
            compare(gpu, &said, bounds, [before, peak, made(gpu)]);
            drop((plan, step));
            settle(gpu);
            assert_eq!(made(gpu), before, "{}: what is left of {said:?}", gpu.describe());
        }
        println!("{}: seven plans took what they had said, and gave it back", gpu.describe());
    }
}

#[test]
fn a_binary_plan_takes_what_it_said() {
    for gpu in gpus() {
        let gpu = &own_device(gpu);
        let live = BinarySpec {
            pos_weight: PosWeight::Live { per_column: true, min: 0.0, max: f32::MAX },
            counts_over: CountsOver::Cumulative,
            ..BinarySpec::default()
        };
        let cases = [
            (BinarySpec::default(), BinaryOptions::default()),
            (live, BinaryOptions { max_binding_size: Some(200_000), ..BinaryOptions::default() }),
        ];
        for (spec, options) in cases {
            let shape = Shape::new(10_007, 9);
            let [logits, targets, grads] = [(); 3].map(|()| buffer(gpu, shape.logits_len() * 4));
            settle(gpu);
            let config = BinaryConfig::new(&gpu.device, &spec, shape, &options).unwrap();
            let said = config.memory();
            let before = made(gpu);
            let plan = BinaryCrossEntropy::with_config(&gpu.device, config).unwrap();
            let step = plan
                .bind(
                    &gpu.device,
                    &BinaryBatch {
                        logits: logits.as_entire_buffer_binding(),
                        targets: targets.as_entire_buffer_binding(),
                        element_weights: None,
                        sample_weights: None,
                        grad_out: None,
                        external_denominator: None,
                        logit_grads: Some(grads.as_entire_buffer_binding()),
                        element_losses: None,
                    },
                )
                .unwrap();
            let peak = made(gpu);
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            plan.encode(&mut encoder, &step);
            gpu.queue.submit([encoder.finish()]);
            settle(gpu);
            let bounds = step.steps().iter().filter(|bound| bound.dispatches() > 0).count();
            compare(gpu, &said, bounds, [before, peak, made(gpu)]);
            drop((plan, step));
            settle(gpu);
            assert_eq!(made(gpu), before, "{}: what is left of {said:?}", gpu.describe());
        }
    }
}

/// In place, nothing on the device is as large as the logits but the logits: the caller's one buffer, the labels, and what
/// the plan said.
#[test]
fn in_place_takes_no_second_buffer_of_logits() {
    for gpu in gpus() {
        let gpu = &own_device(gpu);
        let shape = Shape::new(20_000, 50);
        settle(gpu);
        let empty = made(gpu);
        let logits = buffer(gpu, shape.logits_len() * 4);
        let labels = buffer(gpu, u64::from(shape.rows) * 4);
        let options = Options { in_place: true, ..Options::default() };
        let plan = CrossEntropy::new(&gpu.device, &Spec::default(), shape, &options).unwrap();
        let step = plan
            .bind(
                &gpu.device,
                &wgpu_cross_entropy::Batch {
                    logits: logits.as_entire_buffer_binding(),
                    targets: labels.as_entire_buffer_binding(),
                    sample_weights: None,
                    grad_out: None,
                    external_denominator: None,
                    logit_grads: None,
                },
            )
            .unwrap();
        let peak = made(gpu);
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        plan.encode(&mut encoder, &step);
        gpu.queue.submit([encoder.finish()]);
        settle(gpu);
        // The logits were zeros, and so were the labels: gradients are there, in their place.
        let read = wgpu_cross_entropy::read(&gpu.device, &gpu.queue, "logits", &logits, 8);
        let grads: Vec<f32> = bytemuck::pod_collect_to_vec(&pollster::block_on(read).unwrap());
        assert!(grads[0] < 0.0 && grads[1] > 0.0, "{grads:?}");
        let beside = total(&plan.memory()) + labels.size();
        assert!(beside * 4 < logits.size(), "{beside} bytes beside the logits' {}", logits.size());
        if peak[1] > 0 {
            let bytes = peak[1] - empty[1];
            assert!(bytes < logits.size() + logits.size() / 4, "{bytes} bytes at the peak");
            println!(
                "{}: in place, {} bytes of logits: {bytes} bytes at the peak, labels included",
                gpu.describe(),
                logits.size()
            );
        }
    }
}

/// What no device holds is refused with the size and the limit, before anything is allocated: on made-up devices and on
/// all adapters.
#[test]
fn what_is_too_large_is_refused_with_its_size() {
    let confusion = Options { confusion: true, ..Options::default() };
    let cases = [
        ("telemetry (8 bytes for each pair of classes)", Shape::new(1, MAX_CLASSES / 2), confusion),
        ("row_losses", Shape::new(u32::MAX, 2), Options { predictions: true, ..Options::default() }),
    ];
    let refused = |made: Result<(), PlanError>, named: &str| match made {
        Err(PlanError::Limit { what, got, limit }) if what == named => assert!(got > limit),
        other => panic!("{named}: {other:?}"),
    };
    let limits = wgpu::Limits::defaults();
    let options =
        wgpu::NoopBackendOptions { limits: Some(limits.clone()), ..wgpu::NoopBackendOptions::enabled() };
    let (device, _) = noop(options, &limits);
    let own: Vec<wgpu::Device> = gpus().map(|gpu| gpu.device.clone()).collect();
    for device in own.iter().chain([&device]) {
        for (named, shape, options) in &cases {
            refused(CrossEntropy::new(device, &Spec::default(), *shape, options).map(|_| ()), named);
            let config = Config::new(device, &Spec::default(), *shape, options).unwrap();
            refused(config.check_memory(), named);
        }
    }
    let spec = BinarySpec {
        pos_weight: PosWeight::Live { per_column: true, min: 0.0, max: 1e6 },
        ..BinarySpec::default()
    };
    let shape = Shape::new(255, MAX_CLASSES);
    let config = BinaryConfig::new(&device, &spec, shape, &BinaryOptions::default());
    refused(config.and_then(|config| config.check_memory()), "table");
    let config = Config::new(&device, &Spec::default(), cases[1].1, &cases[1].2).unwrap();
    assert_eq!(
        config.check_memory().unwrap_err().to_string(),
        "row_losses is 68719476720; the device allows 268435456"
    );
    // Nothing overflows on the way to the sizes, whatever the shape.
    let most = Shape::new(u32::MAX, MAX_CLASSES);
    let caps =
        Capabilities { max_buffer_size: u64::MAX, max_binding_size: u64::MAX, ..Capabilities::default() };
    for targets in [Targets::Labels, Targets::TwoHot, Targets::Soft] {
        let spec = Spec { targets, class_weights: WeightScheme::Balanced.into(), ..Spec::default() };
        for shape in [most, most.with_row_stride(u32::MAX), Shape::new(0, 1), Shape::new(0, MAX_CLASSES)] {
            let config = Config::with_capabilities(caps, &spec, shape, &confusion).unwrap();
            assert!(total(&config.memory()) > 0);
        }
    }
}
