use crate::steps::run_plan;
use crate::support::{Batch, Guarded, cost_matrix, full_spec, given_weights, gpus};
use wgpu_cross_entropy::wgsl::Strategy;
use wgpu_cross_entropy::{
    Capabilities, ClassWeights, Clip, ClipOrder, Config, CrossEntropy, Denominator, Dtype, Gpu, LabelFormat,
    LogitBias, Options, Output, Reduction, SampleWeights, Scores, Shape, Spec, Targets, Totals, Validation,
    WeightScheme, WeightScope, cpu,
};

fn check(gpu: &Gpu, batch: &Batch, options: &Options, at: usize) -> f64 {
    checked(gpu, batch, options, at).2
}

/// The same, with the plan and what it gave.
fn checked(gpu: &Gpu, batch: &Batch, options: &Options, at: usize) -> (CrossEntropy, Output<f32>, f64) {
    let (plan, got) = run_plan(gpu, batch, options, at);
    let want = cpu::compute(&batch.spec, &batch.shape, &batch.inputs()).unwrap();
    let validation = Validation::of(plan.config(), &batch.inputs(), &got, &want);
    assert!(
        validation.passed(),
        "{}: {:?}\n{options:?}\n{:?}\n{validation}",
        gpu.describe(),
        batch.shape,
        batch.spec.reduction,
    );
    let worst = validation.outputs.iter().map(|worst| worst.ratio()).fold(0.0, f64::max);
    (plan, got, worst)
}

/// Bits, so that NaN equals itself.
fn bits(output: &Output<f32>) -> (Vec<u32>, Vec<u32>, [u32; 2]) {
    let of = |floats: &[f32]| floats.iter().map(|x| x.to_bits()).collect();
    (
        of(&output.row_losses),
        of(&output.logit_grads),
        [output.totals.loss.to_bits(), output.totals.loss_sum.to_bits()],
    )
}

/// The strategies that take a shape on every adapter.
fn strategies(shape: &Shape) -> Vec<Option<Strategy>> {
    let takes = |strategy: &Strategy| match strategy {
        // Rows without padding, few enough for workgroup memory.
        Strategy::Tile => shape.inner == 1 && shape.row_stride == shape.classes && shape.classes <= 32,
        // Subgroups of four whose invocations hold 16 classes each, as they do for losses of many terms.
        Strategy::Group => shape.inner == 1 && shape.classes <= 64,
        Strategy::Resident | Strategy::Streaming | Strategy::Split => shape.inner == 1,
        Strategy::Thread => true,
    };
    Strategy::ALL.into_iter().filter(takes).map(Some).collect()
}

/// Every option at once, in every strategy: class counts with tails of 0 to 3 around a load of four and around a
/// workgroup's reach, both sides of the table's edges (64 and 32,768 on CPUs; 32, 512 and 2,048 on GPUs), at an aligned
/// offset and one that no 16-byte load can take.
#[test]
fn every_number_of_classes() {
    for gpu in gpus() {
        let mut worst = 0.0f64;
        for classes in [1, 2, 3, 4, 5, 7, 8, 12, 31, 32, 33, 64, 65, 127, 128, 256, 257, 1000, 1025, 2052] {
            let rows = if classes > 200 { 24 } else { 50 };
            let batch = Batch::random(classes.into(), &full_spec(classes), Shape::new(rows, classes));
            for (turn, strategy) in strategies(&batch.shape).into_iter().enumerate() {
                // The offsets take turns with the classes, so that each strategy meets each of them at several tails.
                let at = [0, 4, 3][(turn + classes as usize) % 3];
                let options = Options { strategy, ..Options::default() };
                worst = worst.max(check(gpu, &batch, &options, at));
            }
        }
        println!("{}: worst {worst:.3} of the tolerance", gpu.describe());
    }
}

/// Rows around a workgroup and a group of rows, and more workgroups than one dimension of a grid holds.
#[test]
fn every_number_of_rows() {
    for gpu in gpus() {
        for rows in [0, 1, 2, 7, 8, 9, 63, 64, 65, 255, 4095, 4096, 4097, 70_000] {
            check(
                gpu,
                &Batch::random(rows.into(), &full_spec(3), Shape::new(rows, 3)),
                &Options::default(),
                0,
            );
        }
        // A workgroup a row: 70,000 workgroups.
        let options =
            Options { strategy: Some(Strategy::Streaming), workgroup_size: Some(4), ..Options::default() };
        let batch = Batch::random(8, &full_spec(4), Shape::new(70_000, 4));
        check(gpu, &batch, &options, 0);
    }
}

/// 262,144 classes: one driver (llvmpipe) leaves loops after 65,535 turns without a word.
#[test]
fn many_classes() {
    for gpu in gpus() {
        for classes in [262_144, 262_143] {
            let batch = Batch::random(1, &Spec::default(), Shape::new(3, classes));
            check(gpu, &batch, &Options::default(), 0);
        }
        let refused = CrossEntropy::new(
            &gpu.device,
            &Spec::default(),
            Shape::new(3, 262_144),
            &Options { strategy: Some(Strategy::Thread), ..Options::default() },
        );
        assert_eq!(
            refused.unwrap_err().to_string(),
            "number of classes with an invocation a row is 262144; the device allows 65536"
        );
    }
}

/// Every workgroup size, with and without subgroups, with and without 16-byte loads.
#[test]
fn every_variant() {
    for gpu in gpus() {
        for strategy in strategies(&Shape::new(33, 28)) {
            // 16 KiB hold 128 rows of 28 classes.
            let most = if strategy == Some(Strategy::Tile) { 64 } else { 256 };
            for workgroup_size in [1, 2, 8, 32, 256].into_iter().filter(|size| *size <= most) {
                for (subgroups, vectorize) in [(true, true), (false, true), (true, false)] {
                    let options = Options {
                        strategy,
                        workgroup_size: Some(workgroup_size),
                        subgroups: Some(subgroups),
                        vectorize: Some(vectorize),
                        ..Options::default()
                    };
                    check(gpu, &Batch::random(2, &full_spec(28), Shape::new(33, 28)), &options, 0);
                }
            }
        }
    }
}

/// Four rows an invocation, as CPUs take few classes: words that straddle rows, and words of neighbouring positions; with
/// each thing that changes what is loaded or stored together; numbers of rows and offsets that another text must serve.
/// Whichever text, the bits are the same.
#[test]
fn four_rows_an_invocation() {
    for gpu in gpus() {
        let cpu = Capabilities::of(&gpu.device).cpu;
        for classes in [2, 5, 19] {
            let spec = Spec {
                ignore_index: Some(255),
                focal_gamma: 1.5,
                z_loss: 0.25,
                logit_scale: 0.5,
                ..full_spec(classes)
            };
            let shapes =
                [(132, 0), (64, 4), (8, 3), (66, 0)].map(|(rows, at)| (Shape::new(rows, classes), at));
            let class_first =
                [(Shape::class_first(2, classes, 20), 0), (Shape::class_first(3, classes, 6), 0)];
            for (turn, (shape, at)) in shapes.into_iter().chain(class_first).enumerate() {
                let mut batch = Batch::random(turn as u64, &spec, shape);
                // As bytes hold them: ignored, out of range, classes.
                for label in &mut batch.labels {
                    *label = if *label < 0 { 250 - *label % 2 } else { *label };
                }
                if let Some(logit) = batch.logits.get_mut(shape.index(3, 1) as usize) {
                    *logit = [f32::NAN, f32::INFINITY][turn % 2];
                }
                let labels = [LabelFormat::I32, LabelFormat::U8, LabelFormat::U16];
                let plain = Options::default();
                let packed = Options { in_place: true, predictions: true, labels: labels[turn % 3], ..plain };
                let takes_four = cpu && shape.rows.is_multiple_of(4) && shape.inner % 4 < 2;
                let (plan, got, _) = checked(gpu, &batch, &plain, at);
                assert_eq!(plan.config().variant().quads, takes_four, "{shape:?}");
                let (plan, others, _) = checked(gpu, &batch, &packed, at);
                assert_eq!(plan.config().variant().quads, takes_four, "{shape:?}");
                if !cpu {
                    continue;
                }
                assert_eq!(bits(&others).1, bits(&got).1, "{}: {shape:?}", gpu.describe());
                for (vectorize, int64) in [(None, Some(false)), (Some(false), None)] {
                    let (plan, other) = run_plan(gpu, &batch, &Options { vectorize, int64, ..plain }, at);
                    let variant = plan.config().variant();
                    assert!(!variant.wide);
                    assert_eq!(variant.quads, takes_four && vectorize.is_none(), "{shape:?}");
                    assert_eq!(bits(&other), bits(&got), "{}: {shape:?} {vectorize:?}", gpu.describe());
                }
            }
        }
    }
}

/// Rows that start and end anywhere within words of 32 bytes, as CPUs read long rows of any number of classes: two rows in
/// one word of 64 bits, every place within a word where a row may start, rows that are no numbers beside rows that are,
/// and labels at both ends; batches, offsets, tiles and options that another text must serve.
#[test]
fn rows_anywhere_within_words() {
    for gpu in gpus() {
        let caps = Capabilities::of(&gpu.device);
        for (turn, classes) in [17, 21, 30, 44, 131, 1_003].into_iter().enumerate() {
            let spec = Spec { focal_gamma: 1.5, z_loss: 0.25, logit_scale: 0.5, ..full_spec(classes) };
            // A table that fits the least of tiles, and no bias.
            let spec = Spec { logit_bias: LogitBias::None, cost_matrix: None, ..spec };
            let mut batch = Batch::random(turn as u64, &spec, Shape::new(16, classes));
            // At the ends, where a word has another row's logits.
            for (row, label) in batch.labels.iter_mut().enumerate() {
                *label = [*label, 0, classes as i32 - 1][row % 3];
            }
            for (row, class, word) in [
                (3, 0, f32::NAN),
                (6, classes - 1, f32::INFINITY),
                (9, 0, f32::NEG_INFINITY),
                (10, classes - 1, f32::MAX),
            ] {
                batch.logits[batch.shape.index(row, class) as usize] = word;
            }
            let plain = Options { strategy: Some(Strategy::Streaming), ..Options::default() };
            let threads = Options { strategy: Some(Strategy::Thread), ..plain };
            let odd = classes % 2 == 1;
            let takes = caps.cpu && caps.int64 && (!odd || caps.subgroups);
            let few = u64::from(classes) * 12 + 512;
            let together = u64::from(classes) * 4 * (8 >> classes.trailing_zeros());
            let few_will_do = together <= few - u64::from(caps.offset_alignment);
            for (options, at, skewed) in [
                (plain, 0, takes),
                (Options { predictions: true, ..plain }, 0, takes),
                // Through another text: a start within a word, gradients over the logits, words of 32 bits.
                (plain, 4, takes),
                (Options { in_place: true, ..plain }, 0, false),
                (Options { int64: Some(false), ..plain }, 0, false),
                // Tiles of as many rows as are whole words, and of too few.
                (Options { max_binding_size: Some(u64::from(classes) * 4 * 8 + 512), ..plain }, 0, takes),
                (Options { max_binding_size: Some(few), ..plain }, 0, takes && few_will_do),
                // A workgroup of several subgroups, for which a row is enough.
                (Options { workgroup_size: Some(32), ..plain }, 0, takes && !odd),
                // An invocation a row, or two; up to 64 classes are held.
                (threads, 0, caps.cpu && caps.int64 && classes > 64),
                (Options { workgroup_size: Some(4), ..threads }, 4, caps.cpu && caps.int64 && classes > 64),
            ] {
                let (plan, ..) = checked(gpu, &batch, &options, at);
                let variant = plan.config().variant();
                assert_eq!(variant.skewed, skewed, "{}: {classes} {options:?}", gpu.describe());
                assert_eq!(variant.row_pairs, skewed && odd, "{classes} {options:?}");
            }
            // 15 rows of an odd number of classes are no whole words.
            let few = Batch::random(turn as u64, &spec, Shape::new(15, classes));
            let (plan, ..) = checked(gpu, &few, &plain, 0);
            assert_eq!(plan.config().variant().skewed, takes && (15 * classes) % 8 == 0, "{classes}");
        }
    }
}

/// Any number of invocations a row, several rows a workgroup: with exchanges within subgroups where those are wide
/// enough, and through workgroup memory; with a block or many in registers, and rows that do not fill a workgroup.
#[test]
fn every_group() {
    for gpu in gpus() {
        for threads_a_row in [1, 2, 4, 8, 32] {
            for (classes, subgroups) in [(33, true), (100, false), (16, true)] {
                let options = Options {
                    strategy: Some(Strategy::Group),
                    workgroup_size: Some(64),
                    threads_a_row: Some(threads_a_row),
                    subgroups: Some(subgroups),
                    ..Options::default()
                };
                let spec = match classes {
                    16 => Spec { label_smoothing: 0.1, ..full_spec(classes) },
                    _ => full_spec(classes),
                };
                check(gpu, &Batch::random(2, &spec, Shape::new(131, classes)), &options, 0);
            }
        }
        let refused = CrossEntropy::new(
            &gpu.device,
            &Spec::default(),
            Shape::new(3, 9),
            &Options { strategy: Some(Strategy::Group), threads_a_row: Some(3), ..Options::default() },
        );
        let message = refused.unwrap_err().to_string();
        assert!(message.starts_with("threads_a_row is 3; a power of two"), "{message}");
    }
}

/// Rows shared by any number of workgroups, some of which get nothing of a short row; padding, unaligned bases, losses of
/// many terms, soft targets, and a batch cut into tiles.
#[test]
fn every_split() {
    for gpu in gpus() {
        for (turn, workgroups_a_row) in [1, 2, 3, 256].into_iter().enumerate() {
            for (classes, row_stride) in [(5, 5), (1_000, 1_003), (4_100, 4_100)] {
                let terms = match (turn + classes as usize) % 3 {
                    0 => Spec { label_smoothing: 0.1, ..full_spec(classes) },
                    1 => Spec { targets: Targets::Soft, ignore_index: None, ..full_spec(classes) },
                    _ => full_spec(classes),
                };
                let options = Options {
                    strategy: Some(Strategy::Split),
                    workgroup_size: Some(16),
                    workgroups_a_row: Some(workgroups_a_row),
                    in_place: turn % 2 == 1,
                    // Rows that may be bound fit several tiles where they are long.
                    max_binding_size: (turn == 1).then_some(65_536),
                    ..Options::default()
                };
                let batch = Batch::random(2, &terms, Shape::new(7, classes).with_row_stride(row_stride));
                check(gpu, &batch, &options, [0, 3][turn % 2]);
            }
        }
        let asked = |spec: &Spec, workgroups_a_row| {
            let options = Options { strategy: Some(Strategy::Split), workgroups_a_row, ..Options::default() };
            CrossEntropy::new(&gpu.device, spec, Shape::new(3, 9), &options).unwrap_err().to_string()
        };
        assert_eq!(asked(&Spec::default(), Some(257)), "workgroups_a_row is 257; 1 to 256 are expected");
        let scores = Spec { scores: Scores::LogProbs, ..Spec::default() };
        assert!(asked(&scores, None).starts_with("strategy is Split; scores that are no logits"));
    }
}

/// Padded rows, vocabularies with a stride that 16-byte loads can take, time steps, class-first blocks.
#[test]
fn every_layout() {
    let shapes = [
        Shape::new(40, 5).with_row_stride(8),
        Shape::new(40, 100).with_row_stride(104),
        Shape::new(40, 100).with_row_stride(101),
        Shape::temporal(10, 7, 6),
        Shape::class_first(1, 19, 64),
        Shape::class_first(3, 5, 21),
        Shape::class_first(2, 130, 9).with_row_stride(130 * 9 + 5),
    ];
    for gpu in gpus() {
        for shape in shapes {
            for in_place in [false, true] {
                let options = Options { in_place, ..Options::default() };
                check(gpu, &Batch::random(6, &full_spec(shape.classes), shape), &options, 1);
            }
        }
        let refused = CrossEntropy::new(
            &gpu.device,
            &Spec::default(),
            Shape::class_first(1, 3, 4),
            &Options { strategy: Some(Strategy::Streaming), ..Options::default() },
        );
        assert_eq!(
            refused.unwrap_err().to_string(),
            "strategy is Streaming; class-first layouts take Thread"
        );
    }
}

/// Every reduction, every source of weights, every broadcast, with and without an upstream gradient.
#[test]
fn every_option() {
    use Denominator::*;
    let reductions = [WeightSum, ValidRows, SampleWeightSum, NonZeroWeights, Rows, External]
        .map(Reduction::Mean)
        .into_iter()
        .chain([Reduction::None, Reduction::Sum]);
    for gpu in gpus() {
        let mut seed = 0;
        for reduction in reductions.clone() {
            for sample_weights in
                [SampleWeights::None, SampleWeights::PerRow, SampleWeights::PerSample, SampleWeights::PerStep]
            {
                let weights = match seed % 4 {
                    0 => given_weights(6),
                    1 => WeightScheme::Balanced.into(),
                    2 => WeightScheme::Inverse.into(),
                    _ => ClassWeights::None,
                };
                seed += 1;
                let spec = Spec {
                    ignore_index: (seed % 3 != 0).then_some(seed % 5 - 1),
                    class_weights: weights,
                    sample_weights,
                    cost_matrix: (seed % 2 == 0).then(|| cost_matrix(6)),
                    reduction,
                    ..Spec::default()
                };
                let batch = Batch::random(seed as u64, &spec, Shape::temporal(30, 4, 6));
                check(gpu, &batch, &Options::default(), 0);
                check(gpu, &batch.without_grad_out(), &Options::default(), 5);
            }
        }
    }
}

/// Every term of the loss, alone and together, for every kind of target, in both strategies, with and without
/// subgroups, beside the logits and over them.
#[test]
fn every_term() {
    let plain = Spec::default();
    let terms = |classes| {
        [
            plain.clone(),
            Spec { label_smoothing: 0.1, ..plain.clone() },
            Spec { label_smoothing: 1.0, ..plain.clone() },
            Spec { focal_gamma: 2.0, ..plain.clone() },
            Spec { focal_gamma: 0.5, label_smoothing: 0.2, ..plain.clone() },
            Spec { z_loss: 0.01, ..plain.clone() },
            Spec { logit_scale: 0.5, ..plain.clone() },
            Spec {
                logit_bias: LogitBias::Given((0..classes).map(|c| (c % 7) as f32 - 3.0).collect()),
                cost_matrix: Some(cost_matrix(classes)),
                ..plain.clone()
            },
            Spec {
                cost_matrix: Some(cost_matrix(classes)),
                cost_lambda: 0.7,
                cost_gather: false,
                ..plain.clone()
            },
            Spec {
                label_smoothing: 0.1,
                focal_gamma: 1.5,
                z_loss: 0.001,
                logit_scale: 1.5,
                logit_bias: LogitBias::Given((0..classes).map(|c| (c % 5) as f32 / 2.0).collect()),
                cost_matrix: Some(cost_matrix(classes)),
                cost_lambda: 0.3,
                class_weights: given_weights(classes),
                sample_weights: SampleWeights::PerRow,
                ..plain.clone()
            },
        ]
    };
    for gpu in gpus() {
        let (mut worst, mut checked) = (0.0f64, 0);
        for (classes, rows) in [(1, 9), (5, 40), (68, 40), (130, 20)] {
            for (number, spec) in terms(classes).into_iter().enumerate() {
                for (kind, targets) in
                    [Targets::Labels, Targets::TwoHot, Targets::Soft].into_iter().enumerate()
                {
                    // The scopes take turns.
                    let scope = [WeightScope::PerTerm, WeightScope::PerRow]
                        [(number + kind + classes as usize / 2) % 2];
                    // Weights of every scope, every other time.
                    let class_weights = match number % 2 {
                        0 => spec.class_weights.clone(),
                        _ => given_weights(classes),
                    };
                    let spec = Spec {
                        targets,
                        weight_scope: scope,
                        class_weights,
                        ignore_index: (targets != Targets::Soft).then_some(-100),
                        ..spec.clone()
                    };
                    let batch = Batch::random(number as u64, &spec, Shape::new(rows, classes));
                    // Each strategy, and each way to reduce, in turn.
                    let strategies = strategies(&Shape::new(rows, classes));
                    let turn = checked % (2 * strategies.len());
                    let options = Options {
                        strategy: strategies[turn % strategies.len()],
                        subgroups: Some(turn < strategies.len()),
                        in_place: number % 3 == 0,
                        ..Options::default()
                    };
                    worst = worst.max(check(gpu, &batch, &options, turn));
                    checked += 1;
                }
            }
        }
        println!("{}: {checked} cases, worst {worst:.3} of the tolerance", gpu.describe());
    }
}

/// Scores that are no logits, each kind, with what goes with them: in both strategies, every way to reduce, beside the
/// scores and over them.
#[test]
fn every_kind_of_scores() {
    let clips =
        |eps| [ClipOrder::AfterNormalizing, ClipOrder::BeforeNormalizing].map(|order| Clip { eps, order });
    for gpu in gpus() {
        let (mut worst, mut checked) = (0.0f64, 0);
        for (classes, rows) in [(1, 9), (5, 40), (68, 40), (130, 20)] {
            let mut kinds = vec![Scores::LogProbs];
            // One so wide that it clips most classes, Keras', and one that clips next to nothing.
            for eps in [1e-2, 1e-7, 1e-30] {
                kinds.extend(clips(eps).map(Scores::Probs));
                kinds.extend(clips(eps).map(Scores::SoftmaxProbs));
            }
            let plain = Spec { sample_weights: SampleWeights::PerRow, ..Spec::default() };
            let terms = [
                plain.clone(),
                Spec { label_smoothing: 0.1, class_weights: given_weights(classes), ..plain.clone() },
                Spec {
                    focal_gamma: 2.0,
                    cost_matrix: Some(cost_matrix(classes)),
                    class_weights: given_weights(classes),
                    weight_scope: WeightScope::PerRow,
                    ..plain.clone()
                },
                Spec { focal_gamma: 0.5, label_smoothing: 0.3, ..plain.clone() },
            ];
            // Every kind with every term once; at the other sizes the terms take turns.
            let pairs = kinds.iter().enumerate().flat_map(|(number, kind)| {
                let turn = move |term: &usize| classes == 5 || *term == number % 4;
                (0..terms.len()).filter(turn).map(move |term| (kind, term))
            });
            for (scores, term) in pairs {
                let spec = &terms[term];
                let targets = [Targets::Labels, Targets::TwoHot, Targets::Soft][checked % 3];
                let spec = Spec {
                    scores: *scores,
                    targets,
                    ignore_index: (targets != Targets::Soft).then_some(-100),
                    ..spec.clone()
                };
                let batch = Batch::random(checked as u64, &spec, Shape::new(rows, classes));
                let mut strategies = strategies(&batch.shape);
                strategies.retain(|strategy| *strategy != Some(Strategy::Split));
                let turn = checked % (2 * strategies.len());
                let options = Options {
                    strategy: strategies[turn % strategies.len()],
                    subgroups: Some(turn < strategies.len()),
                    in_place: checked % 5 == 0,
                    ..Options::default()
                };
                worst = worst.max(check(gpu, &batch, &options, turn));
                checked += 1;
            }
        }
        println!("{}: {checked} cases, worst {worst:.3} of the tolerance", gpu.describe());
    }
}

/// Rows of probabilities that cannot be normalized are counted and NaN, and the others stay exact.
#[test]
fn probabilities_without_a_sum() {
    for gpu in gpus() {
        for order in [ClipOrder::AfterNormalizing, ClipOrder::BeforeNormalizing] {
            let scores = Scores::Probs(Clip { eps: 1e-7, order });
            let spec = Spec { scores, reduction: Reduction::Sum, ..Spec::default() };
            let mut batch = Batch::random(2, &spec, Shape::new(20, 5)).without_grad_out();
            batch.labels.fill(1);
            // Row 9 holds a negative probability of its own.
            for (row, value) in [(9, 0.2), (2, 0.0), (4, -1.0), (6, f32::NAN), (8, f32::INFINITY), (10, 3e38)]
            {
                batch.logits[row * 5..][..5].fill(value);
            }
            batch.logits[12 * 5 + 3] = f32::NEG_INFINITY;
            check(gpu, &batch, &Options::default(), 0);
            let (_, output) = run_plan(gpu, &batch, &Options::default(), 0);
            // A clip that comes first leaves a sum: only NaN and infinity make a row bad then.
            let bad = if order == ClipOrder::AfterNormalizing { 6 } else { 2 };
            assert_eq!(output.totals.nonfinite_rows, bad, "{}: {order:?}", gpu.describe());
        }
    }
}

/// The log-prior of the batch's own labels, with live weights and without.
#[test]
fn live_log_prior() {
    for gpu in gpus() {
        for weights in [ClassWeights::None, WeightScheme::Balanced.into()] {
            let spec = Spec {
                logit_bias: LogitBias::LogPrior { tau: 1.0, smoothing: 1.0 },
                class_weights: weights,
                ignore_index: Some(-100),
                ..Spec::default()
            };
            check(gpu, &Batch::random(3, &spec, Shape::new(200, 9)), &Options::default(), 0);
        }
    }
}

/// Soft targets and smoothing over class-first blocks, and padded rows.
#[test]
fn many_terms_in_every_layout() {
    for gpu in gpus() {
        let clip = |order| Clip { eps: 1e-3, order };
        for (shape, scores) in [
            (Shape::class_first(2, 7, 33), Scores::Probs(clip(ClipOrder::AfterNormalizing))),
            (Shape::new(30, 6).with_row_stride(9), Scores::Probs(clip(ClipOrder::BeforeNormalizing))),
            (
                Shape::new(130, 12).with_row_stride(16),
                Scores::SoftmaxProbs(clip(ClipOrder::BeforeNormalizing)),
            ),
        ] {
            for targets in [Targets::Soft, Targets::TwoHot, Targets::Labels] {
                let spec = Spec {
                    targets,
                    label_smoothing: 0.1,
                    class_weights: given_weights(shape.classes),
                    ..Spec::default()
                };
                check(gpu, &Batch::random(3, &spec, shape), &Options::default(), 1);
                let other = Spec { scores, ..spec.clone() };
                check(gpu, &Batch::random(3, &other, shape), &Options::default(), 1);
                // Cut into tiles, the same bits; partial sums of soft targets are of 64 rows.
                let batch = Batch::random(4, &spec, Shape { rows: shape.inner * 520, ..shape });
                let (_, whole) = run_plan(gpu, &batch, &Options::default(), 0);
                let small = Options { max_binding_size: Some(80_000), ..Options::default() };
                let (_, tiled) = run_plan(gpu, &batch, &small, 0);
                assert_eq!(bits(&whole), bits(&tiled), "{}: {targets:?} {shape:?}", gpu.describe());
            }
        }
    }
}

/// 16-bit logits and gradients against the oracle on the rounded logits: odd class counts, padding kept, both
/// strategies, in place; NaN, infinities and -inf come through.
#[test]
fn sixteen_bits() {
    for gpu in gpus() {
        for dtype in [Dtype::F16, Dtype::Bf16] {
            let mut worst = 0.0f64;
            for (classes, row_stride) in
                [(1, 2), (2, 2), (3, 4), (5, 6), (6, 10), (38, 38), (67, 68), (128, 128), (257, 260)]
            {
                let strategies = strategies(&Shape::new(37, classes).with_row_stride(row_stride));
                for (turn, strategy) in strategies.into_iter().enumerate() {
                    let in_place = (turn + classes as usize).is_multiple_of(2);
                    let shape = Shape::new(37, classes).with_row_stride(row_stride);
                    let targets = [Targets::Labels, Targets::Soft][classes as usize % 2];
                    let spec = Spec {
                        targets,
                        ignore_index: (targets == Targets::Labels).then_some(-100),
                        ..full_spec(classes)
                    };
                    let mut batch = Batch::random(classes.into(), &spec, shape);
                    batch.logits = dtype.round(&batch.logits);
                    if classes == 67 {
                        batch.logits[shape.index(2, 9) as usize] = f32::NAN;
                        batch.logits[shape.index(3, 66) as usize] = f32::INFINITY;
                    }
                    let options = Options { dtype, strategy, in_place, grad_out: true, ..Options::default() };
                    let plan = CrossEntropy::new(&gpu.device, &spec, shape, &options).unwrap();
                    let validation =
                        plan.validate_blocking(&gpu.device, &gpu.queue, &batch.inputs()).unwrap();
                    assert!(
                        validation.passed(),
                        "{}: {dtype:?} {classes} {options:?}\n{validation}",
                        gpu.describe()
                    );
                    worst = worst.max(validation.outputs.iter().map(|w| w.ratio()).fold(0.0, f64::max));
                }
            }
            println!("{}: {dtype:?} worst {worst:.3} of the tolerance", gpu.describe());
        }
    }
}

/// 16-bit logits, class-first: two neighbouring positions share each word. Every length of tail, rows in registers and
/// not, every kind of target, scores that are none, all terms; NaN and infinities in one half of a word only, and halves
/// that are ignored; the same bits cut into tiles in place as whole beside.
#[test]
fn sixteen_bits_class_first() {
    let padded = |shape: Shape| shape.with_row_stride(shape.row_stride + 6);
    let shapes = [
        Shape::class_first(3, 1, 2),
        Shape::class_first(9, 3, 4),
        padded(Shape::class_first(2, 5, 22)),
        Shape::class_first(1, 19, 64),
        Shape::class_first(2, 33, 26),
        padded(Shape::class_first(2, 130, 10)),
    ];
    for gpu in gpus() {
        for (number, dtype) in [Dtype::F16, Dtype::Bf16].into_iter().enumerate() {
            let mut worst = 0.0f64;
            for (turn, shape) in shapes.into_iter().enumerate() {
                // Targets, terms and places take turns, others with the second type.
                let turn = turn + number;
                let targets = [Targets::Labels, Targets::TwoHot, Targets::Soft][turn % 3];
                let plain = Spec {
                    targets,
                    ignore_index: (targets != Targets::Soft).then_some(-100),
                    ..full_spec(shape.classes)
                };
                let late = Clip { eps: 1e-2, order: ClipOrder::AfterNormalizing };
                let bias = (0..shape.classes).map(|c| (c % 5) as f32 / 2.0).collect();
                let spec = match turn % 4 {
                    0 => Spec { focal_gamma: 2.0, logit_scale: 0.5, ..plain },
                    1 => Spec {
                        label_smoothing: 0.1,
                        focal_gamma: 1.5,
                        z_loss: 0.001,
                        logit_bias: LogitBias::Given(bias),
                        cost_lambda: 0.3,
                        ..plain
                    },
                    2 => Spec { scores: Scores::Probs(late), ..plain },
                    _ => plain,
                };
                let mut batch = Batch::random(turn as u64, &spec, shape);
                for (row, value) in [(2, f32::NAN), (5, f32::INFINITY)] {
                    if row < shape.rows {
                        batch.logits[shape.index(row, shape.classes / 2) as usize] = value;
                    }
                }
                batch.logits = dtype.round(&batch.logits);
                let options = Options { dtype, in_place: turn % 2 == 0, ..Options::default() };
                worst = worst.max(check(gpu, &batch, &options, turn % 4));
            }
            let shape = padded(Shape::class_first(500, 5, 6));
            let mut batch = Batch::random(4, &full_spec(5), shape);
            batch.logits = dtype.round(&batch.logits);
            let (_, whole) = run_plan(gpu, &batch, &Options { dtype, ..Options::default() }, 0);
            let small =
                Options { dtype, in_place: true, max_binding_size: Some(20_000), ..Options::default() };
            let (_, tiled) = run_plan(gpu, &batch, &small, 0);
            assert_eq!(bits(&whole), bits(&tiled), "{}", gpu.describe());
            println!("{}: {dtype:?} worst {worst:.3} of the tolerance", gpu.describe());
        }
    }
}

/// What shares no word in pairs is refused.
#[test]
fn sixteen_bits_are_even() {
    let refused = |shape| {
        let options = Options { dtype: Dtype::F16, ..Options::default() };
        Config::with_capabilities(Capabilities::default(), &Spec::default(), shape, &options)
            .map_or_else(|error| error.to_string(), |_| String::new())
    };
    for inner in 1..=9 {
        let shape = Shape::class_first(2, 4, inner);
        assert_eq!(refused(shape).is_empty(), inner == 1 || inner % 2 == 0, "{inner}");
    }
    let message = |numbers| format!("dtype is F16; 16-bit logits lie two to a word: {numbers} must be even");
    assert_eq!(refused(Shape::new(4, 3)), message("row_stride (3)"));
    assert_eq!(refused(Shape::class_first(1, 4, 7)), message("row_stride (28) and inner (7)"));
    let odd = Shape::class_first(2, 4, 6).with_row_stride(25);
    assert_eq!(refused(odd), message("row_stride (25) and inner (6)"));
    assert_eq!(
        refused(Shape::class_first(1, 32_770, 2)),
        "number of classes with an invocation for two rows is 32770; the device allows 32768"
    );
}

/// A confident row keeps its gradient: p = 0.9999999 and beyond, to f32's relative precision.
#[test]
fn confident_targets() {
    for gpu in gpus() {
        for strategy in strategies(&Shape::new(2, 3)) {
            let options = Options { strategy, ..Options::default() };
            for lead in [10.0, 16.118_096, 40.0, 80.0] {
                let shape = Shape::new(2, 3);
                let batch = Batch {
                    spec: Spec { reduction: Reduction::Sum, ..Spec::default() },
                    shape,
                    logits: vec![lead, 0.0, 0.0, 0.0, lead, 0.0],
                    labels: vec![0, 1],
                    second_labels: None,
                    mix: None,
                    target_probs: None,
                    sample_weights: None,
                    grad_out: None,
                    external: None,
                };
                let (_, got) = run_plan(gpu, &batch, &options, 0);
                // -q of the label's class, not p - 1.
                let q = 2.0 * f64::from(-lead).exp() / (1.0 + 2.0 * f64::from(-lead).exp());
                let relative = (f64::from(got.logit_grads[0]) / -q - 1.0).abs();
                // exp(-lead) may be 3 + 2 lead ulp off.
                assert!(relative < 2e-7 * (8.0 + 2.0 * f64::from(lead)), "{}: {relative:e}", gpu.describe());
                check(gpu, &batch, &options, 0);
            }
        }
    }
}

/// NaN, +inf and all -inf spoil their own row only; ignored rows may hold anything; huge logits do not overflow.
#[test]
fn hostile_rows() {
    const INF: f32 = f32::INFINITY;
    let rows: [([f32; 4], i32); 13] = [
        ([0.5, 1.0, -1.0, 2.0], 2),
        ([0.5, f32::NAN, -1.0, 2.0], 2),
        ([0.5, INF, -1.0, 2.0], 1),
        ([-INF, -INF, -INF, -INF], 0),
        ([f32::NAN, f32::NAN, INF, -INF], -100),
        ([f32::NAN, 0.0, 0.0, 0.0], 4),
        ([f32::NAN, 0.0, 0.0, 0.0], i32::MIN),
        ([-INF, 1.0, 2.0, -INF], 1),
        ([-INF, 1.0, 2.0, 0.0], 0),
        ([3e38, -3e38, 1e38, 0.0], 1),
        ([-3e38, -3e38, -3e38, -3e38], 1),
        ([1e-40, -1e-42, 0.0, -0.0], 3),
        ([0.5, 1.0, -1.0, 2.0], i32::MAX),
    ];
    for gpu in gpus() {
        for strategy in strategies(&Shape::new(rows.len() as u32, 4)) {
            for (subgroups, in_place) in [(true, false), (false, true)] {
                let options =
                    Options { strategy, subgroups: Some(subgroups), in_place, ..Options::default() };
                let spec = Spec { ignore_index: Some(-100), reduction: Reduction::Sum, ..Spec::default() };
                let batch = Batch {
                    spec,
                    shape: Shape::new(rows.len() as u32, 4),
                    logits: rows.iter().flat_map(|(logits, _)| *logits).collect(),
                    labels: rows.iter().map(|(_, label)| *label).collect(),
                    second_labels: None,
                    mix: None,
                    target_probs: None,
                    sample_weights: None,
                    grad_out: None,
                    external: None,
                };
                let (_, got) = run_plan(gpu, &batch, &options, 0);
                let name = gpu.describe();
                check(gpu, &batch, &options, 0);
                let t = &got.totals;
                assert_eq!((t.nonfinite_rows, t.first_bad_row), (3, Some(1)), "{name}");
                assert_eq!((t.ignored_rows, t.out_of_range_rows, t.valid_rows), (1, 3, 9), "{name}");
                assert!(t.loss.is_nan(), "{name}: a loss of {}", t.loss);
                for row in [1, 2, 3] {
                    assert!(got.row_losses[row].is_nan(), "{name}: row {row}");
                    assert!(
                        got.logit_grads[row * 4..row * 4 + 4].iter().all(|x| x.is_nan()),
                        "{name}: row {row}"
                    );
                }
                for row in [4, 5, 6, 12] {
                    assert_eq!(got.row_losses[row].to_bits(), 0, "{name}: row {row}");
                    assert_eq!(got.logit_grads[row * 4..row * 4 + 4], [0.0; 4], "{name}: row {row}");
                }
                assert_eq!(got.row_losses[8], INF, "{name}: a masked label costs infinity");
                assert_eq!(got.logit_grads[7 * 4], 0.0, "{name}: a masked class has probability 0");
            }
        }
    }
}

/// No row weighs anything: loss 0 and gradient 0, not NaN.
#[test]
fn nothing_to_divide_by() {
    for gpu in gpus() {
        for (labels, ignore_index) in [(vec![1; 9], Some(1)), (vec![3; 9], None)] {
            // Class 3 weighs 0.
            let spec = Spec { ignore_index, class_weights: given_weights(5), ..Spec::default() };
            let batch = Batch { labels, ..Batch::random(3, &spec, Shape::new(9, 5)) };
            let (_, got) = run_plan(gpu, &batch, &Options::default(), 0);
            assert_eq!((got.totals.loss, got.totals.denominator), (0.0, 0.0), "{}", gpu.describe());
            assert!(got.logit_grads.iter().all(|grad| *grad == 0.0));
            check(gpu, &batch, &Options::default(), 0);
        }
    }
}

/// The same bits: again, over the logits, and cut into tiles.
#[test]
fn the_same_bits() {
    for gpu in gpus() {
        for (strategy, shape) in [
            (Some(Strategy::Thread), Shape::new(9_000, 7).with_row_stride(9)),
            (Some(Strategy::Streaming), Shape::new(300, 60)),
            (Some(Strategy::Streaming), Shape::new(200, 61)),
            (Some(Strategy::Streaming), Shape::new(300, 64)),
            (Some(Strategy::Resident), Shape::new(300, 60)),
            (Some(Strategy::Split), Shape::new(300, 60)),
            (Some(Strategy::Group), Shape::new(300, 61)),
            (Some(Strategy::Tile), Shape::new(1_000, 19)),
            (None, Shape::class_first(40, 5, 30)),
        ] {
            let options = Options { strategy, ..Options::default() };
            let spec = Spec { class_weights: WeightScheme::Balanced.into(), ..full_spec(shape.classes) };
            let batch = Batch::random(12, &spec, shape);
            let (plan, first) = run_plan(gpu, &batch, &options, 0);
            let skewed = plan.config().variant().skewed;
            for (what, options) in [
                ("again", options),
                ("in place", Options { in_place: true, ..options }),
                ("tiled", Options { max_binding_size: Some(17_000), ..options }),
            ] {
                // Gradients over the logits take another text than rows that start anywhere within words.
                if skewed && what == "in place" {
                    continue;
                }
                let (plan, other) = run_plan(gpu, &batch, &options, 0);
                assert_eq!(bits(&first), bits(&other), "{}: {what} {shape:?}", gpu.describe());
                assert_eq!(plan.config().variant().skewed, skewed, "{what} {shape:?}");
                if what == "tiled" {
                    assert!(!plan.describe().contains(" 1 tile"), "{}", plan.describe());
                }
            }
        }
    }
}

/// One plan, recorded three times in one encoder on three sets of buffers: each step sees its own batch.
#[test]
fn several_steps_in_one_submission() {
    for gpu in gpus() {
        let shape = Shape::new(50, 6);
        let spec = Spec { class_weights: WeightScheme::Inverse.into(), ..Spec::default() };
        let plan = CrossEntropy::new(&gpu.device, &spec, shape, &Options::default()).unwrap();
        let batches: Vec<Batch> =
            (0..3).map(|seed| Batch::random(seed, &spec, shape).without_grad_out()).collect();
        let buffers: Vec<[Guarded; 3]> = batches
            .iter()
            .map(|batch| {
                let grads = Guarded::output(gpu, 0, batch.logits.len());
                [Guarded::floats(gpu, 0, &batch.logits), Guarded::labels(gpu, 0, &batch.labels), grads]
            })
            .collect();
        let totals = Guarded::output(gpu, 0, 3 * 16);
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for ([logits, targets, grads], number) in buffers.iter().zip(0..) {
            let step = plan
                .bind(
                    &gpu.device,
                    &wgpu_cross_entropy::Batch {
                        logits: logits.binding(),
                        targets: targets.binding(),
                        sample_weights: None,
                        grad_out: None,
                        external_denominator: None,
                        logit_grads: Some(grads.binding()),
                    },
                )
                .unwrap();
            plan.encode(&mut encoder, &step);
            encoder.copy_buffer_to_buffer(plan.table(), 0, &totals.buffer, number * 64, 64);
        }
        gpu.queue.submit([encoder.finish()]);
        let words = totals.read(gpu);
        for (batch, words) in batches.iter().zip(words.chunks(16)) {
            let got = Totals::from_bytes(bytemuck::cast_slice(words)).unwrap();
            let want = cpu::compute(&spec, &shape, &batch.inputs()).unwrap().totals;
            assert!((f64::from(got.loss) - want.loss).abs() < 1e-5 * want.loss, "{}", gpu.describe());
            assert_eq!(got.correct_rows, want.correct_rows);
        }
    }
}
