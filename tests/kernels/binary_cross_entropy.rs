use crate::binary_steps::{Batch, run_plan};
use crate::support::{Guarded, ROWS, gpus, run};
use wgpu::BufferUsages;
use wgpu_cross_entropy::{
    BinaryBatch, BinaryClip, BinaryConfig, BinaryCrossEntropy, BinaryDenominator, BinaryInputs,
    BinaryOptions, BinaryOutput, BinaryReduction, BinaryScores, BinarySpec, BinaryTotals, CountsOver, Dtype,
    Gpu, PosWeight, Shape, Validation, compute_binary_blocking, cpu,
};

/// Keras 3's clip, Keras 2's, and one that clips much.
const CLIPS: [BinaryClip; 3] = [
    BinaryClip { eps: 1e-7, log_eps: 0.0 },
    BinaryClip { eps: 1e-7, log_eps: 1e-7 },
    BinaryClip { eps: 0.2, log_eps: 0.25 },
];

/// Every kind of scores.
fn every_scores() -> Vec<BinaryScores> {
    let clipped =
        CLIPS.iter().flat_map(|&clip| [BinaryScores::Probs(clip), BinaryScores::SigmoidProbs(clip)]);
    std::iter::once(BinaryScores::Logits).chain(clipped).collect()
}

/// Everything at once.
fn full_spec() -> BinarySpec {
    BinarySpec {
        counts_over: CountsOver::Batch,
        pos_weight: PosWeight::Live { per_column: true, min: 0.5, max: 8.0 },
        focal_gamma: 1.5,
        focal_alpha: Some(0.25),
        label_smoothing: 0.1,
        ignore_value: Some(-1.0),
        element_weights: true,
        sample_weights: true,
        reduction: BinaryReduction::Mean(BinaryDenominator::WeightSum),
        ..BinarySpec::default()
    }
}

/// Options that go with a spec: an upstream gradient takes the last storage buffer.
fn with_all(in_place: bool, grad_out: bool) -> BinaryOptions {
    BinaryOptions { in_place, grad_out, element_losses: true, ..BinaryOptions::default() }
}

/// Runs and compares every output: the worst, in tolerances, and what came.
fn checked(gpu: &Gpu, batch: &Batch, options: &BinaryOptions, at: usize) -> (f64, BinaryOutput<f32>) {
    let got = run_plan(gpu, batch, options, at);
    let logits = options.dtype.round(&batch.logits);
    let mut inputs = BinaryInputs { logits: &logits, ..batch.inputs() };
    if !options.grad_out {
        inputs.grad_out = None;
    }
    let config = BinaryConfig::new(&gpu.device, &batch.spec, batch.shape, options).unwrap();
    let want = cpu::compute_binary(&batch.spec, &batch.shape, &inputs).unwrap();
    let validation = Validation::of_binary(&config, &inputs, &got, &want);
    assert!(
        validation.passed(),
        "{}: {:?}\n{options:?}\n{:?}\n{validation}",
        gpu.describe(),
        batch.shape,
        batch.spec,
    );
    (validation.outputs.iter().map(|worst| worst.ratio()).fold(0.0, f64::max), got)
}

fn check(gpu: &Gpu, batch: &Batch, options: &BinaryOptions, at: usize) -> f64 {
    checked(gpu, batch, options, at).0
}

fn bits(output: &BinaryOutput<f32>) -> (Vec<u32>, Vec<u32>, [u32; 4]) {
    let of = |floats: &[f32]| floats.iter().map(|x| x.to_bits()).collect();
    let t = &output.totals;
    (
        of(output.element_losses.as_deref().unwrap_or_default()),
        of(&output.logit_grads),
        [t.loss, t.loss_sum, t.denominator, t.weight_sum].map(f32::to_bits),
    )
}

/// Every option at once: rows around a workgroup and a group of elements, columns around a workgroup, aligned and not.
#[test]
fn every_number_of_rows_and_columns() {
    for gpu in gpus() {
        let mut worst = 0.0f64;
        let rows = ROWS.iter().map(|&rows| Shape::new(rows, 1));
        let columns = [2, 3, 5, 16, 64, 65, 129, 1000].map(|columns| Shape::new(21, columns));
        let first = [
            Shape::class_first(1, 3, 2),
            Shape::class_first(2, 3, 17).with_row_stride(60),
            Shape::class_first(3, 5, 100),
            Shape::class_first(1, 70, 64),
            Shape::class_first(7, 1, 1_000).with_row_stride(1_001),
        ];
        for (shape, seed) in rows.chain(columns).chain(first).zip(1..) {
            let batch = Batch::random(seed, &full_spec(), shape);
            for (at, in_place) in [(0, false), (3, true)] {
                worst = worst.max(check(gpu, &batch, &with_all(in_place, in_place), at));
            }
        }
        println!("{}: worst {worst:.3} of the tolerance", gpu.describe());
    }
}

/// Every source of factors, every denominator, every other option by itself.
#[test]
fn every_option() {
    use BinaryDenominator::*;
    let reductions = [Elements, ValidElements, WeightSum, SampleWeightSum, External, Columns]
        .map(BinaryReduction::Mean)
        .into_iter()
        .chain([BinaryReduction::None, BinaryReduction::Sum]);
    let factors = [
        PosWeight::None,
        PosWeight::Given(vec![3.5]),
        PosWeight::Given(vec![3.5, 0.0, 1.0, 0.5, 7.0]),
        PosWeight::Live { per_column: false, min: 0.0, max: 1e6 },
        PosWeight::Live { per_column: true, min: 0.0, max: 1e6 },
        PosWeight::Ratio { per_column: false },
        PosWeight::Ratio { per_column: true },
    ];
    for gpu in gpus() {
        let mut worst = 0.0f64;
        let mut seed = 0u64;
        for reduction in reductions.clone() {
            for pos_weight in &factors {
                seed += 1;
                let bit = |n: u64| (seed >> n) % 2 == 1;
                let scores = every_scores();
                let spec = BinarySpec {
                    counts_over: CountsOver::Batch,
                    scores: scores[seed as usize % scores.len()],
                    threshold: [0.5, 0.1, 0.0, 1.0][seed as usize % 4],
                    pos_weight: pos_weight.clone(),
                    focal_gamma: [0.0, 0.5, 1.0, 2.0, 3.7][seed as usize % 5],
                    focal_alpha: bit(0).then_some(0.25),
                    label_smoothing: if bit(1) { 0.2 } else { 0.0 },
                    ignore_value: [None, Some(-1.0), Some(f32::NAN), Some(0.0)][seed as usize % 4],
                    element_weights: bit(2),
                    sample_weights: bit(1) ^ bit(3),
                    reduction,
                };
                let shape = match seed % 4 {
                    0 => Shape::new(90, 5).with_row_stride(6),
                    1 => Shape::class_first(3, 5, 30),
                    2 => Shape::class_first(3, 5, 30).with_row_stride(155),
                    _ => Shape::new(90, 5),
                };
                let batch = Batch::random(seed, &spec, shape);
                let options =
                    if seed.is_multiple_of(3) { BinaryOptions::default() } else { with_all(bit(2), bit(2)) };
                worst = worst.max(check(gpu, &batch, &options, seed as usize % 2));
            }
        }
        println!("{}: {seed} specs, worst {worst:.3} of the tolerance", gpu.describe());
    }
}

/// The same bits: again, over the logits, and cut into tiles (which may start within a row); without the elements'
/// losses, the same totals.
#[test]
fn the_same_bits() {
    for gpu in gpus() {
        for shape in [
            Shape::new(20_000, 1),
            Shape::new(9_000, 3).with_row_stride(4),
            Shape::new(30, 1_000),
            Shape::class_first(100, 3, 64).with_row_stride(200),
        ] {
            let spec = full_spec();
            let batch = Batch::random(4, &spec, shape);
            let first = run_plan(gpu, &batch, &with_all(false, false), 0);
            for (what, options) in [
                ("again", with_all(false, false)),
                ("in place", with_all(true, false)),
                ("tiled", BinaryOptions { max_binding_size: Some(40_000), ..with_all(false, false) }),
            ] {
                // Blocks of 256 whole rows of 1,000 columns fit no such binding.
                if what == "tiled" && shape.classes == 1_000 {
                    continue;
                }
                let other = run_plan(gpu, &batch, &options, 0);
                assert_eq!(bits(&first), bits(&other), "{}: {what} {shape:?}", gpu.describe());
            }
            let without = run_plan(gpu, &batch, &BinaryOptions::default(), 0);
            assert_eq!(bits(&first).2, bits(&without).2, "{}: without losses {shape:?}", gpu.describe());
            assert_eq!(bits(&first).1, bits(&without).1, "{}: without losses {shape:?}", gpu.describe());
        }
        // Factors for the whole batch need no whole rows.
        let spec = BinarySpec { pos_weight: PosWeight::Ratio { per_column: false }, ..full_spec() };
        let batch = Batch::random(4, &spec, Shape::new(30, 1_000));
        let first = run_plan(gpu, &batch, &with_all(false, false), 0);
        let tiled = BinaryOptions { max_binding_size: Some(20_000), ..with_all(false, false) };
        assert_eq!(bits(&first), bits(&run_plan(gpu, &batch, &tiled, 0)), "{}", gpu.describe());
    }
}

/// Every workgroup size.
#[test]
fn every_workgroup_size() {
    for gpu in gpus() {
        for workgroup_size in [1, 2, 4, 8, 16, 32, 64, 128, 256] {
            let options = BinaryOptions { workgroup_size: Some(workgroup_size), ..with_all(false, false) };
            check(gpu, &Batch::random(3, &full_spec(), Shape::new(1_500, 6)), &options, 0);
        }
    }
}

/// NaN spoils its own element only; infinite logits have the limits; ignored elements may hold anything; huge and tiny
/// numbers, and exponents below 1 on saturated elements.
#[test]
fn hostile_elements() {
    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;
    let elements = [
        (0.5, 1.0),
        (NAN, 1.0),
        (0.5, NAN),
        (0.5, INF),
        (NAN, -1.0),
        (INF, -1.0),
        (INF, 1.0),
        (INF, 0.0),
        (-INF, 0.0),
        (-INF, 1.0),
        (INF, 0.5),
        (3e38, 1.0),
        (3e38, 0.0),
        (-3e38, 1.0),
        (-1e38, 0.5),
        (1e-40, 1.0),
        (-1e-42, 0.0),
        (100.0, 1.0),
        (-100.0, 0.0),
        (200.0, 0.0),
        (-0.0, 0.0),
        (88.0, 1.0),
        (103.9, 0.999_999_94),
    ];
    for gpu in gpus() {
        let name = gpu.describe();
        for gamma in [0.0, 0.25, 1.0, 2.0] {
            for (in_place, ratio) in [(false, false), (true, true)] {
                let pos_weight = match ratio {
                    true => PosWeight::Ratio { per_column: false },
                    false => PosWeight::None,
                };
                let spec = BinarySpec {
                    pos_weight,
                    focal_gamma: gamma,
                    ignore_value: Some(-1.0),
                    reduction: BinaryReduction::Sum,
                    ..BinarySpec::default()
                };
                let batch = Batch {
                    spec,
                    shape: Shape::new(elements.len() as u32, 1),
                    logits: elements.iter().map(|(x, _)| *x).collect(),
                    targets: elements.iter().map(|(_, t)| *t).collect(),
                    element_weights: None,
                    sample_weights: None,
                    grad_out: None,
                    external: None,
                };
                let options = with_all(in_place, false);
                let (_, got) = checked(gpu, &batch, &options, 0);
                let (losses, grads) = (got.element_losses.unwrap(), got.logit_grads);
                let t = got.totals;
                assert_eq!((t.ignored, t.nonfinite, t.first_bad), (2, 3, Some(1)), "{name}");
                assert!(t.loss.is_nan() && t.loss_sum.is_nan(), "{name}: {t:?}");
                for i in 1..4 {
                    assert!(losses[i].is_nan() && grads[i].is_nan(), "{name}: {:?}", elements[i]);
                }
                for i in 4..6 {
                    assert_eq!(
                        (losses[i].to_bits(), grads[i].to_bits()),
                        (0, 0),
                        "{name}: {:?}",
                        elements[i]
                    );
                }
                assert_eq!((losses[6], losses[8]), (0.0, 0.0), "{name}");
                assert_eq!((losses[7], losses[9], losses[10]), (INF, INF, INF), "{name}");
                if !ratio {
                    assert_eq!((grads[7], grads[9]), (1.0, -1.0), "{name}");
                }
            }
        }
    }
}

/// Every kind of scores, with every power that is computed another way, on elements of every size.
#[test]
fn every_kind_of_scores() {
    for gpu in gpus() {
        let (mut worst, mut checked) = (0.0f64, 0);
        for scores in every_scores() {
            for (gamma, seed) in [0.0, 0.25, 0.5, 1.0, 1.5, 2.0].into_iter().zip(1..) {
                for label_smoothing in [0.0, 0.1] {
                    let spec = BinarySpec {
                        scores,
                        focal_gamma: gamma,
                        label_smoothing,
                        pos_weight: PosWeight::Given(vec![3.0]),
                        reduction: BinaryReduction::None,
                        ..BinarySpec::default()
                    };
                    let batch = Batch::random(seed, &spec, Shape::new(200, 5));
                    worst = worst.max(check(gpu, &batch, &with_all(false, true), 0));
                    checked += 1;
                }
            }
        }
        println!("{}: {checked} specs, worst {worst:.3} of the tolerance", gpu.describe());
    }
}

/// Probabilities that are none, and denormal ones.
#[test]
fn hostile_probabilities() {
    const INF: f32 = f32::INFINITY;
    for gpu in gpus() {
        for (clip, gamma) in CLIPS.iter().flat_map(|clip| [0.0, 0.5, 1.0, 2.0].map(|gamma| (*clip, gamma))) {
            let elements = [
                (f32::NAN, 1.0),
                (INF, 0.0),
                (INF, 1.0),
                (-INF, 1.0),
                (-INF, 0.0),
                (3e38, 0.0),
                (-1e-40, 1.0),
                (1e-40, 1.0),
                (1e-40, 0.0),
                (0.999_999_94, 1.0),
                (0.999_999_94, 0.0),
                (0.999_999_9, 0.0),
                (0.5, 0.5),
            ];
            let spec = BinarySpec {
                scores: BinaryScores::Probs(clip),
                focal_gamma: gamma,
                reduction: BinaryReduction::None,
                ..BinarySpec::default()
            };
            let batch = Batch {
                shape: Shape::new(elements.len() as u32, 1),
                logits: elements.iter().map(|(p, _)| *p).collect(),
                targets: elements.iter().map(|(_, t)| *t).collect(),
                element_weights: None,
                sample_weights: None,
                grad_out: None,
                external: None,
                spec,
            };
            let (_, got) = checked(gpu, &batch, &with_all(false, false), 0);
            assert_eq!((got.totals.nonfinite, got.totals.first_bad), (1, Some(0)), "{}", gpu.describe());
            let losses = got.element_losses.unwrap();
            assert!(losses[0].is_nan() && got.logit_grads[0].is_nan());
            assert!(losses[1..].iter().chain(&got.logit_grads[1..]).all(|x| x.is_finite()), "{losses:?}");
        }
    }
}

/// 16-bit scores and gradients against the oracle on the rounded scores: odd and even numbers of elements, padded and
/// class-first layouts, tiles. Padding, and half a word behind the last element, keep what they hold.
#[test]
fn sixteen_bit_scores() {
    for gpu in gpus() {
        let shapes = [
            Shape::new(1, 1),
            Shape::new(3, 1),
            Shape::new(2, 3),
            Shape::new(5, 7),
            Shape::new(257, 17),
            Shape::new(4_099, 1),
            Shape::new(90, 6).with_row_stride(10),
            Shape::class_first(3, 5, 7),
            Shape::class_first(3, 5, 8).with_row_stride(42),
        ];
        let mut worst = 0.0f64;
        for dtype in [Dtype::F16, Dtype::Bf16] {
            for (shape, seed) in shapes.into_iter().zip(1..) {
                for (scores, in_place) in every_scores().into_iter().zip([true, false].into_iter().cycle()) {
                    let spec = BinarySpec { scores, ..full_spec() };
                    let batch = Batch::random(seed, &spec, shape);
                    let options = BinaryOptions { dtype, ..with_all(in_place, in_place) };
                    worst = worst.max(check(gpu, &batch, &options, seed as usize % 2));
                }
            }
            let spec = full_spec();
            let batch = Batch::random(9, &spec, Shape::new(9_001, 3));
            let whole = run_plan(gpu, &batch, &BinaryOptions { dtype, ..with_all(true, false) }, 0);
            let tiled = BinaryOptions { dtype, max_binding_size: Some(40_000), ..with_all(true, false) };
            assert_eq!(bits(&whole), bits(&run_plan(gpu, &batch, &tiled, 0)), "{}", gpu.describe());
        }
        println!("{}: worst {worst:.3} of the tolerance", gpu.describe());
    }
}

/// One side empty, all ignored, no rows, all weights 0: nothing infinite, nothing NaN.
#[test]
fn one_sided_and_empty_batches() {
    let factors = [
        PosWeight::Live { per_column: false, min: 0.25, max: 9.0 },
        PosWeight::Live { per_column: true, min: 0.25, max: 9.0 },
        PosWeight::Ratio { per_column: false },
        PosWeight::Ratio { per_column: true },
    ];
    for gpu in gpus() {
        for pos_weight in &factors {
            for denominator in [BinaryDenominator::Elements, BinaryDenominator::WeightSum] {
                let spec = BinarySpec {
                    pos_weight: pos_weight.clone(),
                    ignore_value: Some(-1.0),
                    reduction: BinaryReduction::Mean(denominator),
                    ..BinarySpec::default()
                };
                for target in [0.0, 1.0, -1.0] {
                    for rows in [0, 7] {
                        let mut batch = Batch::random(1, &spec, Shape::new(rows, 2));
                        batch.targets.fill(target);
                        let (_, got) = checked(gpu, &batch, &with_all(false, false), 0);
                        assert!(got.totals.loss.is_finite(), "{}: {spec:?} {target}", gpu.describe());
                        assert!(got.logit_grads.iter().all(|grad| grad.is_finite()));
                        assert!(got.factors.unwrap().iter().all(|factor| factor.is_finite()));
                    }
                }
            }
        }
    }
}

/// A plan's own check of itself, and the call that takes slices.
#[test]
fn host_calls() {
    for gpu in gpus() {
        let (device, queue) = (&gpu.device, &gpu.queue);
        let batch = Batch::random(2, &full_spec(), Shape::new(50, 7).with_row_stride(9));
        let options = with_all(true, true);
        let plan = BinaryCrossEntropy::new(device, &batch.spec, batch.shape, &options).unwrap();
        let found = plan.validate_blocking(device, queue, &batch.inputs()).unwrap();
        assert!(found.passed(), "{}\n{found}", gpu.describe());
        let got = compute_binary_blocking(device, queue, &batch.spec, batch.shape, &batch.inputs()).unwrap();
        let again = plan.compute_blocking(device, queue, &batch.inputs()).unwrap();
        assert_eq!(bits(&got), bits(&again));
        let wrong = BinaryInputs { targets: &[], ..batch.inputs() };
        let error = compute_binary_blocking(device, queue, &batch.spec, batch.shape, &wrong).unwrap_err();
        assert_eq!(error.to_string(), "targets holds 0 elements; 448 are needed");
    }
}

/// Two halves of a batch, with counts and denominators summed between the steps, are the whole.
#[test]
fn shards_add_up() {
    let spec = BinarySpec {
        pos_weight: PosWeight::Ratio { per_column: true },
        reduction: BinaryReduction::Mean(BinaryDenominator::WeightSum),
        ..BinarySpec::default()
    };
    let (shape, half) = (Shape::new(40, 3), Shape::new(20, 3));
    let batch = Batch::random(5, &spec, shape);
    let inputs = BinaryInputs { grad_out: None, ..batch.inputs() };
    let want = cpu::compute_binary(&spec, &shape, &inputs).unwrap();
    for gpu in gpus() {
        let plans: Vec<BinaryCrossEntropy> = (0..2)
            .map(|_| BinaryCrossEntropy::new(&gpu.device, &spec, half, &BinaryOptions::default()).unwrap())
            .collect();
        let buffers: Vec<[Guarded; 3]> = (0..2)
            .map(|i| {
                let part = i * 60..(i + 1) * 60;
                let grads = Guarded::output(gpu, 0, 60);
                let logits = Guarded::floats(gpu, 0, &batch.logits[part.clone()]);
                [logits, Guarded::floats(gpu, 0, &batch.targets[part]), grads]
            })
            .collect();
        let steps: Vec<_> = plans
            .iter()
            .zip(&buffers)
            .map(|(plan, [logits, targets, grads])| {
                let batch = BinaryBatch {
                    logits: logits.binding(),
                    targets: targets.binding(),
                    element_weights: None,
                    sample_weights: None,
                    grad_out: None,
                    external_denominator: None,
                    logit_grads: Some(grads.binding()),
                    element_losses: None,
                };
                plan.bind(&gpu.device, &batch).unwrap()
            })
            .collect();
        let all_reduce = |of: &dyn Fn(&BinaryCrossEntropy) -> wgpu::Buffer, at: u64, words: usize| {
            let size = at + words as u64 * 4;
            let mut sum = vec![0.0f32; words];
            for plan in &plans {
                let buffer = of(plan);
                let read = wgpu_cross_entropy::read(&gpu.device, &gpu.queue, "shard", &buffer, size);
                let bytes = pollster::block_on(read).unwrap();
                let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes[at as usize..]);
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
            for plan in &plans {
                gpu.queue.write_buffer(&of(plan), at, bytemuck::cast_slice(&sum));
            }
        };
        run(gpu, |pass| steps.iter().for_each(|step| step.binary_counts.encode(pass)));
        all_reduce(&|plan| plan.binary_counts().unwrap().clone(), 0, 6);
        run(gpu, |pass| {
            for step in &steps {
                step.weights.encode(pass);
                step.denominator.encode(pass);
            }
        });
        all_reduce(&|plan| plan.table().clone(), 8, 1);
        run(gpu, |pass| steps.iter().for_each(|step| step.binary_cross_entropy.encode(pass)));
        let mut loss = 0.0;
        for (i, (plan, [_, _, grads])) in plans.iter().zip(&buffers).enumerate() {
            let read = wgpu_cross_entropy::read(&gpu.device, &gpu.queue, "table", plan.table(), 64);
            loss += f64::from(BinaryTotals::from_bytes(&pollster::block_on(read).unwrap()).unwrap().loss);
            for (got, want) in grads.read_floats(gpu).iter().zip(&want.logit_grads[i * 60..]) {
                assert!((f64::from(*got) - want).abs() <= 1e-5 * want.abs() + 1e-9, "{}", gpu.describe());
            }
        }
        assert!((loss - want.totals.loss).abs() < 1e-5 * want.totals.loss, "{}", gpu.describe());
    }
}

/// What does not fit is refused with a message that names it, says what was expected and what came.
#[test]
fn errors() {
    for gpu in gpus() {
        let buffer = |words: u64, usage| {
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: words * 4,
                usage,
                mapped_at_creation: false,
            })
        };
        let storage = BufferUsages::STORAGE;
        let pool = [60, 60, 60, 59, 10].map(|words| buffer(words, storage));
        let copied = buffer(60, BufferUsages::COPY_DST);
        let [logits, targets, grads, short, rows] = &pool;
        let whole = wgpu::Buffer::as_entire_buffer_binding;
        let good = BinaryBatch {
            logits: whole(logits),
            targets: whole(targets),
            element_weights: None,
            sample_weights: None,
            grad_out: None,
            external_denominator: None,
            logit_grads: Some(whole(grads)),
            element_losses: None,
        };
        let shape = Shape::new(10, 6);
        let refused = |spec: &BinarySpec, options: &BinaryOptions, batch: &BinaryBatch<'_>| {
            let plan = BinaryCrossEntropy::new(&gpu.device, spec, shape, options).unwrap();
            plan.bind(&gpu.device, batch).unwrap_err().to_string()
        };
        let (plain, options) = (BinarySpec::default(), BinaryOptions::default());
        let of = |batch: BinaryBatch<'_>| refused(&plain, &options, &batch);
        assert_eq!(
            of(BinaryBatch { targets: whole(short), ..good.clone() }),
            "targets holds 236 bytes; 10 rows of 6 columns, 6 apart, need 240"
        );
        assert_eq!(
            of(BinaryBatch { logits: whole(&copied), ..good.clone() }),
            "logits lacks usage STORAGE; it has BufferUsages(COPY_DST)"
        );
        assert_eq!(
            of(BinaryBatch { logit_grads: None, ..good.clone() }),
            "logit_grads is missing; BinaryOptions::in_place is not set"
        );
        assert_eq!(
            of(BinaryBatch { element_losses: Some(whole(targets)), ..good.clone() }),
            "element_losses is given; the options do not ask for it"
        );
        assert_eq!(
            of(BinaryBatch { logit_grads: Some(whole(logits)), ..good.clone() }),
            "logits and logit_grads are in one buffer; where one of them is written they need a buffer each"
        );
        let in_place = BinaryOptions { in_place: true, ..options };
        assert_eq!(
            refused(&plain, &in_place, &good),
            "logit_grads is given; BinaryOptions::in_place writes gradients over the logits"
        );
        let grad_out = BinaryOptions { grad_out: true, ..options };
        assert_eq!(refused(&plain, &grad_out, &good), "grad_out is missing; the options ask for it");
        let weighted = BinarySpec { element_weights: true, ..plain.clone() };
        assert_eq!(refused(&weighted, &options, &good), "element_weights is missing; the spec asks for it");
        assert_eq!(
            refused(&weighted, &options, &BinaryBatch { element_weights: Some(whole(rows)), ..good.clone() }),
            "element_weights holds 40 bytes; 10 rows of 6 columns, 6 apart, need 240"
        );
        let external =
            BinarySpec { reduction: BinaryReduction::Mean(BinaryDenominator::External), ..plain.clone() };
        assert_eq!(
            refused(&external, &options, &good),
            "external_denominator is missing; the spec asks for it"
        );
        let new = |spec: &BinarySpec, shape, options: &BinaryOptions| {
            BinaryCrossEntropy::new(&gpu.device, spec, shape, options).unwrap_err().to_string()
        };
        let wrong = BinarySpec { pos_weight: PosWeight::Given(vec![1.0; 5]), ..plain.clone() };
        assert_eq!(new(&wrong, shape, &options), "pos_weight holds 5 values; 6 are needed");
        let half = BinaryOptions { dtype: Dtype::F16, ..options };
        assert!(new(&plain, Shape::new(10, 5).with_row_stride(6), &half).starts_with("dtype is F16; 16-bit"));
        let odd = BinaryOptions { workgroup_size: Some(3), ..options };
        assert_eq!(new(&plain, shape, &odd), "workgroup_size is 3; a power of two up to 256 is expected");
    }
}
