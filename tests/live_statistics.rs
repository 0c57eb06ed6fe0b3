//! Live class statistics over many steps: shards and micro-batches, histories that are saved and loaded, and what a
//! step asks of the device beside its dispatches.

#[path = "kernels/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the kernels, which use all of it")]
mod support;

use support::{Batch, Guarded, gpus};
use wgpu_cross_entropy::kernels::TableLayout;
use wgpu_cross_entropy::tolerance::{FLUSHED, U, Worst, class_weight_error, count_error};
use wgpu_cross_entropy::{
    BinaryCrossEntropy, BinaryInputs, BinaryOptions, BinarySpec, BoundStep, ClassWeights, ClassesOver,
    CountHistory, CountsOver, CrossEntropy, Denominator, DeviceOptions, Gpu, Inputs, LiveCounts, LiveWeights,
    LogitBias, Options, Output, PosWeight, Reduction, SampleWeights, Shape, Spec, Targets, Totals,
    Validation, WeightScheme, cpu, read,
};

/// A plan with a batch's buffers, bound.
struct Bound {
    plan: CrossEntropy,
    step: BoundStep,
    grads: Guarded,
    /// They are kept as long as the step is.
    _inputs: Vec<Guarded>,
}

fn bind(gpu: &Gpu, batch: &Batch, external: Option<&wgpu::Buffer>) -> Bound {
    let plan = CrossEntropy::new(&gpu.device, &batch.spec, batch.shape, &Options::default()).unwrap();
    let logits = Guarded::floats(gpu, 0, &batch.logits);
    let targets = batch.targets(gpu, 0);
    let grads = Guarded::output(gpu, 0, batch.logits.len());
    let weights = batch.sample_weights.as_ref().map(|weights| Guarded::floats(gpu, 0, weights));
    let step = plan
        .bind(
            &gpu.device,
            &wgpu_cross_entropy::Batch {
                logits: logits.binding(),
                targets: targets.binding(),
                sample_weights: weights.as_ref().map(Guarded::binding),
                grad_out: None,
                external_denominator: external.map(wgpu::Buffer::as_entire_buffer_binding),
                logit_grads: Some(grads.binding()),
            },
        )
        .unwrap();
    Bound { plan, step, grads, _inputs: [logits, targets].into_iter().chain(weights).collect() }
}

/// Rows `from..to` of a batch of labels.
fn rows(batch: &Batch, from: usize, to: usize) -> Batch {
    let classes = batch.shape.classes as usize;
    let weights = batch.sample_weights.as_ref();
    Batch {
        shape: Shape::new((to - from) as u32, batch.shape.classes),
        logits: batch.logits[from * classes..to * classes].to_vec(),
        labels: batch.labels[from..to].to_vec(),
        sample_weights: weights.map(|weights| weights[from..to].to_vec()),
        ..batch.clone()
    }
}

fn words(gpu: &Gpu, buffer: &wgpu::Buffer) -> Vec<u32> {
    let bytes = pollster::block_on(read(&gpu.device, &gpu.queue, "words", buffer, buffer.size())).unwrap();
    bytemuck::pod_collect_to_vec(&bytes)
}

/// What a collective does to one buffer of each shard: all of them hold the sum afterwards.
fn all_reduce_counts(gpu: &Gpu, buffers: &[&wgpu::Buffer]) -> Vec<u32> {
    let counts: Vec<Vec<u32>> = buffers.iter().map(|buffer| words(gpu, buffer)).collect();
    let sum: Vec<u32> = (0..counts[0].len()).map(|class| counts.iter().map(|of| of[class]).sum()).collect();
    buffers.iter().for_each(|buffer| gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&sum)));
    sum
}

fn submit(gpu: &Gpu, steps: &[&wgpu_cross_entropy::Bound]) {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        steps.iter().for_each(|step| step.encode(&mut pass));
    }
    gpu.queue.submit([encoder.finish()]);
}

/// The whole batch in one plan: what shards and micro-batches are to agree with.
fn whole(batch: &Batch) -> Output<f64> {
    cpu::compute(&batch.spec, &batch.shape, &batch.inputs()).unwrap()
}

fn spec() -> Spec {
    Spec {
        ignore_index: Some(-100),
        class_weights: WeightScheme::Balanced.into(),
        logit_bias: LogitBias::LogPrior { tau: 0.5, smoothing: 1.0 },
        sample_weights: SampleWeights::PerRow,
        ..Spec::default()
    }
}

/// Two shards, as two machines have them: their counts summed equal the whole batch's to the bit; so do the weights and
/// biases that follow; with the denominators summed as well, gradients and losses are the whole batch's.
#[test]
fn two_shards_make_one_batch() {
    for gpu in gpus() {
        let batch = Batch::random(21, &spec(), Shape::new(301, 7));
        let batch = Batch { grad_out: None, ..batch };
        let one = bind(gpu, &batch, None);
        submit(gpu, &one.step.steps());
        let want = whole(&batch);
        let want_table = words(gpu, one.plan.table());
        let shards = [rows(&batch, 0, 120), rows(&batch, 120, 301)].map(|shard| bind(gpu, &shard, None));

        for shard in &shards {
            submit(gpu, &[&shard.step.class_counts]);
        }
        let local = words(gpu, shards[0].plan.class_counts().unwrap());
        let counts = all_reduce_counts(gpu, &[0, 1].map(|n: usize| shards[n].plan.class_counts().unwrap()));
        assert_eq!(Some(&counts), want.class_counts.as_ref(), "{}", gpu.describe());
        assert_ne!(local, counts, "the shards are alike; nothing is tested");

        for shard in &shards {
            submit(gpu, &[&shard.step.class_weights, &shard.step.denominator]);
        }
        let layout = TableLayout::new(&batch.spec, &batch.shape);
        let first = layout.class_weights() as usize / 4;
        let tables = [0, 1].map(|n: usize| words(gpu, shards[n].plan.table()));
        for table in &tables {
            assert_eq!(table[first..], want_table[first..], "{}: weights and biases", gpu.describe());
        }
        // The denominators go the same way, as f32.
        let at = TableLayout::DENOMINATOR as usize / 4;
        let sum: f32 = tables.iter().map(|table| f32::from_bits(table[at])).sum();
        for shard in &shards {
            gpu.queue.write_buffer(shard.plan.table(), TableLayout::DENOMINATOR, bytemuck::bytes_of(&sum));
            submit(gpu, &[&shard.step.cross_entropy, &shard.step.loss_total]);
        }
        agree(gpu, &one, &shards, &want);
    }
}

/// Two micro-batches of one device: the counts of both first, then `Denominator::External` with the sum of what each
/// would divide by. Their gradients are the whole batch's, and their losses add up to its.
#[test]
fn two_micro_batches_make_one_batch() {
    for gpu in gpus() {
        let batch = Batch { grad_out: None, ..Batch::random(22, &spec(), Shape::new(210, 5)) };
        let one = bind(gpu, &batch, None);
        submit(gpu, &one.step.steps());
        let want = whole(&batch);
        let external = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("external"),
            size: 4,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let parts = [rows(&batch, 0, 64), rows(&batch, 64, 210)].map(|part| {
            let reduction = Reduction::Mean(Denominator::External);
            bind(gpu, &Batch { spec: Spec { reduction, ..part.spec.clone() }, ..part }, Some(&external))
        });
        for part in &parts {
            submit(gpu, &[&part.step.class_counts]);
        }
        all_reduce_counts(gpu, &[0, 1].map(|n: usize| parts[n].plan.class_counts().unwrap()));
        let mut sum = 0.0;
        for part in &parts {
            submit(gpu, &[&part.step.class_weights, &part.step.denominator]);
            sum +=
                Totals::from_bytes(bytemuck::cast_slice(&words(gpu, part.plan.table()))).unwrap().weight_sum;
        }
        gpu.queue.write_buffer(&external, 0, bytemuck::bytes_of(&sum));
        for part in &parts {
            submit(gpu, &[&part.step.denominator, &part.step.cross_entropy, &part.step.loss_total]);
        }
        agree(gpu, &one, &parts, &want);
    }
}

/// Gradients of the parts after one another, and the sum of their losses, against the plan that had all rows: the same
/// but for the order in which the denominator was added up, and the losses.
fn agree(gpu: &Gpu, one: &Bound, parts: &[Bound], want: &Output<f64>) {
    let got: Vec<f32> = parts.iter().flat_map(|part| part.grads.read_floats(gpu)).collect();
    let whole: Vec<f64> = one.grads.read_floats(gpu).into_iter().map(f64::from).collect();
    // Sums of 301 positive terms at most, in two orders; then a quotient or two.
    let relative = 2.0 * 320.0 * U;
    let allowed: Vec<f64> = whole.iter().map(|g| g.abs() * relative + FLUSHED).collect();
    let worst = Worst::of("logit_grads", &got, &whole, &allowed);
    assert!(worst.passed(), "{}: {worst}", gpu.describe());
    let totals =
        |bound: &Bound| Totals::from_bytes(bytemuck::cast_slice(&words(gpu, bound.plan.table()))).unwrap();
    let loss: f64 = parts.iter().map(|part| f64::from(totals(part).loss)).sum();
    let all = f64::from(totals(one).loss);
    assert!((loss - all).abs() <= 2.0 * relative * all.abs(), "{}: {loss}, not {all}", gpu.describe());
    assert!(all.is_finite() && all > 0.0 && (all / want.totals.loss - 1.0).abs() < 1e-3);
}

const OVER: [CountsOver; 4] = [
    CountsOver::Ema { momentum: 0.0 },
    CountsOver::Ema { momentum: 0.9 },
    CountsOver::Ema { momentum: 0.999 },
    CountsOver::Cumulative,
];

fn over_batches(over: CountsOver, targets: Targets) -> Spec {
    Spec {
        targets,
        ignore_index: (targets == Targets::Labels).then_some(-100),
        class_weights: ClassWeights::Live(LiveWeights {
            over: ClassesOver::Present,
            ..LiveWeights::default()
        }),
        live_counts: LiveCounts { over, ..LiveCounts::default() },
        ..Spec::default()
    }
}

/// Batches of one shape whose classes come and go.
fn batch_of_step(spec: &Spec, shape: Shape, step: u32) -> Batch {
    let mut batch = Batch { grad_out: None, ..Batch::random(100 + u64::from(step), spec, shape) };
    for label in &mut batch.labels {
        // Class 3 is only in every fifth batch, class 4 in the first three.
        let gone = *label == 3 && !step.is_multiple_of(5) || *label == 4 && step > 2;
        *label = if gone { 0 } else { *label };
    }
    batch
}

/// Many steps of one plan against the oracle's state: counts, weights and the state itself, step by step; after a reset
/// it starts anew; saved in the middle and loaded into another plan it goes on with the same bits.
#[test]
fn history_follows_the_oracle() {
    const STEPS: u32 = 40;
    for gpu in gpus() {
        for targets in [Targets::Labels, Targets::Soft] {
            for over in OVER {
                let shape = Shape::new(90, 6);
                let spec = over_batches(over, targets);
                let ClassWeights::Live(live) = &spec.class_weights else { panic!("live weights") };
                let new = || CrossEntropy::new(&gpu.device, &spec, shape, &Options::default()).unwrap();
                let (plan, other) = (new(), new());
                let save = |plan: &CrossEntropy| {
                    pollster::block_on(plan.save_history(&gpu.device, &gpu.queue)).unwrap().unwrap()
                };
                let what = format!("{}: {over:?} {targets:?}", gpu.describe());
                let initial = save(&plan);
                let mut state = cpu::CountState::new(over, shape.classes);
                for step in 0..STEPS {
                    let batch = batch_of_step(&spec, shape, step);
                    let got = plan.compute_blocking(&gpu.device, &gpu.queue, &batch.inputs()).unwrap();
                    let want = cpu::compute_next(&spec, &shape, &batch.inputs(), &mut state).unwrap();
                    let saved = save(&plan);
                    assert_eq!(saved.steps(), u64::from(step) + 1);
                    // What the formulas took, from the oracle's weights back: the state's own counts.
                    let relative = count_error(&spec);
                    let counts: Vec<f64> = saved.counts();
                    let used = unbiased(&state, over);
                    for (class, (got, want)) in counts.iter().zip(&used).enumerate() {
                        let apart = (got - want).abs();
                        assert!(
                            apart <= want * relative + FLUSHED,
                            "{what}: step {step}, class {class}: {got} {want}"
                        );
                    }
                    let weights = got.class_weights.as_deref().unwrap();
                    let want = want.class_weights.unwrap();
                    let error = class_weight_error(live, &used, relative);
                    let allowed: Vec<f64> = want.iter().map(|w| w * error + FLUSHED).collect();
                    let worst = Worst::of("class_weights", weights, &want, &allowed);
                    assert!(worst.passed(), "{what}: step {step}: {worst}");
                    if step == STEPS / 2 {
                        let bytes = saved.as_bytes().to_vec();
                        other.load_history(&gpu.queue, &CountHistory::from_bytes(&bytes).unwrap()).unwrap();
                    }
                    if step > STEPS / 2 {
                        let again = other.compute_blocking(&gpu.device, &gpu.queue, &batch.inputs()).unwrap();
                        assert_eq!(
                            again.class_weights.as_deref(),
                            Some(weights),
                            "{what}: step {step}, loaded"
                        );
                        assert_eq!(save(&other), saved, "{what}: step {step}, loaded");
                    }
                }
                let mut encoder =
                    gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                plan.encode_reset(&mut encoder);
                gpu.queue.submit([encoder.finish()]);
                assert_eq!(save(&plan), initial, "{what}: after a reset");
            }
        }
        println!("{}: ok", gpu.describe());
    }
}

/// The counts that the formulas take, from a state.
fn unbiased(state: &cpu::CountState, over: CountsOver) -> Vec<f64> {
    let by = match over {
        CountsOver::Ema { momentum } => 1.0 - f64::from(momentum).powi(state.steps as i32),
        CountsOver::Batch | CountsOver::Cumulative => 1.0,
    };
    state.counts.iter().map(|count| count / by).collect()
}

/// A sum of batches goes on where an `f32`, and a `u32`, would not: by 30 rows at 2^32 - 10, and by one at 2^40.
#[test]
fn cumulative_counts_never_stall() {
    for gpu in gpus() {
        let spec = over_batches(CountsOver::Cumulative, Targets::Labels);
        let shape = Shape::new(31, 2);
        let plan = CrossEntropy::new(&gpu.device, &spec, shape, &Options::default()).unwrap();
        let mut bytes = CountHistory::new(&spec, 2).unwrap().as_bytes().to_vec();
        let of_class = |count: u64| [0, 0, count as u32, (count >> 32) as u32];
        let counts = [of_class((1 << 32) - 10), of_class(1 << 40)].concat();
        bytes[64..96].copy_from_slice(bytemuck::cast_slice(&counts));
        plan.load_history(&gpu.queue, &CountHistory::from_bytes(&bytes).unwrap()).unwrap();
        let labels: Vec<i32> = (0..31).map(|row| i32::from(row == 7)).collect();
        let inputs = Inputs { logits: &[0.0; 62], labels: &labels, ..Inputs::default() };
        for step in 1..=3u32 {
            plan.compute_blocking(&gpu.device, &gpu.queue, &inputs).unwrap();
            let saved = pollster::block_on(plan.save_history(&gpu.device, &gpu.queue)).unwrap().unwrap();
            let want = [f64::from(step) * 30.0 + 2f64.powi(32) - 10.0, f64::from(step) + 2f64.powi(40)];
            assert_eq!((saved.counts(), saved.steps()), (want.to_vec(), step.into()), "{}", gpu.describe());
        }
    }
}

/// A class that is gone for good leaves a moving average after a while; its weight is never infinite on the way.
#[test]
fn a_class_that_is_gone_leaves_the_average() {
    for gpu in gpus() {
        let spec = over_batches(CountsOver::Ema { momentum: 0.5 }, Targets::Labels);
        let plan = CrossEntropy::new(&gpu.device, &spec, Shape::new(4, 2), &Options::default()).unwrap();
        let step = |labels: &[i32]| {
            let inputs = Inputs { logits: &[0.0; 8], labels, ..Inputs::default() };
            plan.compute_blocking(&gpu.device, &gpu.queue, &inputs).unwrap().class_weights.unwrap()
        };
        step(&[0, 0, 1, 1]);
        // 2^-n rows after n steps.
        let mut weights = Vec::new();
        for _ in 0..70 {
            weights = step(&[0, 0, 0, 0]);
            assert!(weights.iter().all(|weight| weight.is_finite()), "{weights:?}");
        }
        assert_eq!(weights, [1.0, 0.0], "{}", gpu.describe());
    }
}

/// The same for sigmoid losses: factors of all elements and of each column, of moving averages and of sums, against the
/// oracle's state; with the history saved in the middle and loaded.
#[test]
fn binary_history_follows_the_oracle() {
    let shape = Shape::new(40, 3);
    for gpu in gpus() {
        for per_column in [false, true] {
            for over in OVER {
                for pos_weight in
                    [PosWeight::Live { per_column, min: 0.01, max: 50.0 }, PosWeight::Ratio { per_column }]
                {
                    let spec = BinarySpec { pos_weight, counts_over: over, ..BinarySpec::default() };
                    let new = || {
                        BinaryCrossEntropy::new(&gpu.device, &spec, shape, &BinaryOptions::default()).unwrap()
                    };
                    let (plan, other) = (new(), new());
                    let save = |plan: &BinaryCrossEntropy| {
                        pollster::block_on(plan.save_history(&gpu.device, &gpu.queue)).unwrap().unwrap()
                    };
                    let mut state = cpu::CountState::new(over, if per_column { 6 } else { 2 });
                    for step in 0..20u32 {
                        // Column 2 has positives in every fourth batch only.
                        let positive = |i: u32| match i % 3 {
                            2 => step % 4 == 1 && i.is_multiple_of(7),
                            column => (i * i + step * i + column) % 5 < 2,
                        };
                        let targets: Vec<f32> = (0..120).map(|i| f32::from(u8::from(positive(i)))).collect();
                        let logits: Vec<f32> = (0..120).map(|i| (i * 37 % 41) as f32 / 8.0 - 2.5).collect();
                        let inputs =
                            BinaryInputs { logits: &logits, targets: &targets, ..BinaryInputs::default() };
                        let got = plan.compute_blocking(&gpu.device, &gpu.queue, &inputs).unwrap();
                        let want = cpu::compute_binary_next(&spec, &shape, &inputs, &mut state).unwrap();
                        let checked = Validation::of_binary(plan.config(), &inputs, &got, &want);
                        let what = format!("{}: {:?} {over:?} step {step}", gpu.describe(), spec.pos_weight);
                        assert!(checked.passed(), "{what}\n{checked}");
                        let saved = save(&plan);
                        assert_eq!(saved.steps(), u64::from(step) + 1);
                        if step == 9 {
                            other.load_history(&gpu.queue, &saved).unwrap();
                        }
                        if step > 9 {
                            let again = other.compute_blocking(&gpu.device, &gpu.queue, &inputs).unwrap();
                            assert_eq!((again.factors, save(&other)), (got.factors, saved), "{what}, loaded");
                        }
                    }
                    // It is the caller's: a validation in between leaves it alone.
                    let before = save(&plan);
                    let (logits, targets) = (vec![0.5; 120], vec![1.0; 120]);
                    let inputs =
                        BinaryInputs { logits: &logits, targets: &targets, ..BinaryInputs::default() };
                    assert!(plan.validate_blocking(&gpu.device, &gpu.queue, &inputs).unwrap().passed());
                    assert_eq!(save(&plan), before);
                }
            }
        }
        println!("{}: ok", gpu.describe());
    }
}

/// What a plan refuses to load, and what it does not keep.
#[test]
fn histories_of_others_are_refused() {
    let gpu = gpus().next().expect("an adapter");
    let plan = |over, classes| {
        let spec = over_batches(over, Targets::Labels);
        CrossEntropy::new(&gpu.device, &spec, Shape::new(2, classes), &Options::default()).unwrap()
    };
    let save = |plan: &CrossEntropy| pollster::block_on(plan.save_history(&gpu.device, &gpu.queue)).unwrap();
    let of_three = save(&plan(CountsOver::Cumulative, 3)).unwrap();
    let message = |plan: CrossEntropy| plan.load_history(&gpu.queue, &of_three).unwrap_err().to_string();
    assert_eq!(message(plan(CountsOver::Cumulative, 4)), "counters of the history is 3; the plan's is 4");
    assert_eq!(
        message(plan(CountsOver::Ema { momentum: 0.5 }, 3)),
        "kind of the history is 2; the plan's is 1"
    );
    let batch = plan(CountsOver::Batch, 3);
    assert!(save(&batch).is_none() && batch.history().is_none());
    assert_eq!(message(batch), "the plan keeps no history: its counts go over the batch alone");
}

/// A thousand steps after a warm-up, each submitted by the caller: meanwhile the device makes no buffer, no bind group, no
/// pipeline, and allocates no memory. Recording takes neither a device nor a queue, so the plan can neither submit nor
/// read back; wgpu's own counters say that nothing else happened behind its back.
#[test]
fn a_thousand_steps_make_nothing() {
    // Devices of its own: wgpu counts by device, and the other tests run meanwhile.
    for gpu in &pollster::block_on(Gpu::all(&DeviceOptions::default())) {
        let spec = Spec {
            live_counts: LiveCounts { over: CountsOver::Ema { momentum: 0.9 }, ..LiveCounts::default() },
            ..spec()
        };
        let batch = Batch { grad_out: None, ..Batch::random(23, &spec, Shape::new(40, 5)) };
        let bound = bind(gpu, &batch, None);
        let mut submissions = 0;
        let mut step = || {
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            bound.plan.encode(&mut encoder, &bound.step);
            gpu.queue.submit([encoder.finish()]);
            submissions += 1;
            gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        };
        let made = || {
            let hal = gpu.device.get_internal_counters().hal;
            let bind_groups = hal.bind_groups.read();
            let pipelines = hal.compute_pipelines.read() + hal.shader_modules.read();
            [
                hal.buffers.read(),
                bind_groups,
                pipelines,
                hal.memory_allocations.read(),
                hal.buffer_memory.read(),
            ]
        };
        (0..10).for_each(|_| step());
        let before = made();
        assert!(
            before[0] > 0 && before[1] > 0,
            "wgpu counts nothing: is its feature `counters` on? {before:?}"
        );
        for number in 0..1000 {
            step();
            // Whatever a step had made would still be there, or its memory would: it is freed after the next one.
            assert_eq!(made(), before, "{}: in step {number}", gpu.describe());
        }
        assert_eq!(submissions, 1010);
        let history = bound.plan.save_history(&gpu.device, &gpu.queue);
        assert_eq!(pollster::block_on(history).unwrap().unwrap().steps(), 1010);
        assert_ne!(bound.grads.read(gpu), vec![support::POISON; batch.logits.len()]);
        println!(
            "{}: 1000 steps; buffers, bind groups, pipelines, allocations, bytes: {before:?} throughout",
            gpu.describe()
        );
    }
}
