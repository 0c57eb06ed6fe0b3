use crate::support::{Batch, Guarded, ROWS, gpus, run};
use wgpu_cross_entropy::kernels::{ClassCountsBuffers, ClassCountsKernel};
use wgpu_cross_entropy::tolerance::{Worst, count_error};
use wgpu_cross_entropy::{
    Config, Gpu, LabelFormat, LiveCounts, Options, SampleWeights, Shape, Spec, Targets, WeightScheme, cpu,
};

/// Exact, for few classes (counted in workgroup memory on GPUs), at the edge (1024), beyond, and for very many; with
/// labels ignored and out of range; over poison, at an odd offset.
#[test]
fn counts_are_exact() {
    let spec = Spec { ignore_index: Some(-100), ..Spec::default() };
    for gpu in gpus() {
        let mut checked = 0;
        let shapes = ROWS
            .iter()
            .map(|&rows| Shape::new(rows, 6))
            .chain([1, 1023, 1024, 1025, 262_144].map(|classes| Shape::new(500, classes)));
        for shape in shapes {
            // Only labels matter: one logit a row spares the memory.
            let batch = Batch::random(1, &spec, Shape { classes: 1, row_stride: 1, ..shape });
            let labels: Vec<i32> = batch
                .labels
                .iter()
                .enumerate()
                .map(|(i, &label)| match label {
                    0 => ((i * i + 3 * i) % shape.classes as usize) as i32,
                    1 => shape.classes as i32,
                    other => other,
                })
                .collect();
            let config = Config::new(&gpu.device, &spec, shape, &Options::default()).unwrap();
            let kernel = ClassCountsKernel::new(&gpu.device, &config).unwrap();
            let labels_buffer = Guarded::labels(gpu, 3, &labels);
            let counts = Guarded::output(gpu, 64, shape.classes as usize);
            let bound = kernel
                .bind(
                    &gpu.device,
                    &ClassCountsBuffers {
                        targets: labels_buffer.binding(),
                        sample_weights: None,
                        mass: None,
                        class_counts: counts.binding(),
                    },
                )
                .unwrap();
            // Twice: counts are set, not added to.
            run(gpu, |pass| bound.encode(pass));
            run(gpu, |pass| bound.encode(pass));
            assert_eq!(
                counts.read(gpu),
                cpu::class_counts(&spec, &shape, &labels),
                "{}: {shape:?}",
                gpu.describe()
            );
            checked += 1;
        }
        println!("{}: {checked} shapes", gpu.describe());
    }
}

/// All labels of one class is the worst case for atomics; it must not lose a count.
#[test]
fn one_class_has_all() {
    for gpu in gpus() {
        let shape = Shape::new(20_000, 7);
        let config = Config::new(&gpu.device, &Spec::default(), shape, &Options::default()).unwrap();
        let kernel = ClassCountsKernel::new(&gpu.device, &config).unwrap();
        let labels = Guarded::labels(gpu, 0, &[4; 20_000]);
        let counts = Guarded::output(gpu, 0, 7);
        let buffers = ClassCountsBuffers {
            targets: labels.binding(),
            sample_weights: None,
            mass: None,
            class_counts: counts.binding(),
        };
        let bound = kernel.bind(&gpu.device, &buffers).unwrap();
        run(gpu, |pass| bound.encode(pass));
        assert_eq!(counts.read(gpu), [0, 0, 0, 0, 20_000, 0, 0], "{}", gpu.describe());
    }
}

/// Cut into tiles, the same counts.
#[test]
fn tiles_count_the_same() {
    for gpu in gpus() {
        let shape = Shape::new(50_000, 9);
        let labels: Vec<i32> = (0..50_000).map(|i| i * i % 11 - 1).collect();
        let small = Options { max_binding_size: Some(20_000), ..Options::default() };
        let config = Config::new(&gpu.device, &Spec::default(), shape, &small).unwrap();
        let kernel = ClassCountsKernel::new(&gpu.device, &config).unwrap();
        let buffer = Guarded::labels(gpu, 5, &labels);
        let counts = Guarded::output(gpu, 0, 9);
        let buffers = ClassCountsBuffers {
            targets: buffer.binding(),
            sample_weights: None,
            mass: None,
            class_counts: counts.binding(),
        };
        let bound = kernel.bind(&gpu.device, &buffers).unwrap();
        assert!(bound.dispatches() > 10, "{} dispatches", bound.dispatches());
        run(gpu, |pass| bound.encode(pass));
        assert_eq!(counts.read(gpu), cpu::class_counts(&Spec::default(), &shape, &labels));
    }
}

/// Mass of each kind of target, weighted and not: within its tolerance of the oracle, and of the same bits whole, in
/// tiles, in any order of the rows, and on every adapter.
#[test]
fn mass_is_exact_up_to_one_rounding() {
    let specs = [
        (Targets::Labels, SampleWeights::PerRow),
        (Targets::Labels, SampleWeights::PerStep),
        (Targets::TwoHot, SampleWeights::None),
        (Targets::TwoHot, SampleWeights::PerRow),
        (Targets::Soft, SampleWeights::None),
        (Targets::Soft, SampleWeights::PerSample),
    ];
    let shapes = [
        Shape::temporal(0, 1, 3),
        Shape::temporal(1, 1, 1),
        Shape::temporal(50, 4, 3).with_row_stride(5),
        Shape::temporal(600, 2, 66),
        Shape::temporal(2, 3, 2000),
        Shape::class_first(3, 19, 37),
        Shape::temporal(5000, 2, 2),
    ];
    for (targets, sample_weights) in specs {
        for shape in shapes {
            let sample_weighted = sample_weights != SampleWeights::None;
            let spec = Spec {
                targets,
                sample_weights,
                ignore_index: (targets != Targets::Soft).then_some(0),
                class_weights: WeightScheme::Balanced.into(),
                live_counts: LiveCounts { sample_weighted, ..LiveCounts::default() },
                ..Spec::default()
            };
            let batch = Batch::random(5, &spec, shape);
            let want = cpu::class_mass(&spec, &shape, &batch.inputs());
            let mut bits: Option<Vec<u32>> = None;
            for gpu in gpus() {
                for max_binding_size in [None, Some(60_000)] {
                    let options = Options { max_binding_size, ..Options::default() };
                    let got = mass(gpu, &batch, &options);
                    let what = format!("{}: {targets:?} {sample_weights:?} {shape:?}", gpu.describe());
                    let allowed: Vec<f64> =
                        want.iter().map(|m| m.abs() * count_error(&spec) + 1e-12).collect();
                    let floats: Vec<f32> = got.iter().map(|word| f32::from_bits(*word)).collect();
                    let worst = Worst::of("class_mass", &floats, &want, &allowed);
                    assert!(worst.passed(), "{what}: {worst}");
                    let first = bits.get_or_insert_with(|| got.clone());
                    assert_eq!(*first, got, "{what}: other bits than before");
                }
            }
        }
    }
}

/// The mass of a batch, over poison.
fn mass(gpu: &Gpu, batch: &Batch, options: &Options) -> Vec<u32> {
    let config = Config::new(&gpu.device, &batch.spec, batch.shape, options).unwrap();
    let kernel = ClassCountsKernel::new(&gpu.device, &config).unwrap();
    let targets = batch.targets(gpu, 3);
    let weights = batch.sample_weights.as_ref().map(|weights| Guarded::floats(gpu, 1, weights));
    let classes = batch.shape.classes as usize;
    let (scratch, counts) = (Guarded::output(gpu, 64, 4 * classes), Guarded::output(gpu, 64, classes));
    let buffers = ClassCountsBuffers {
        targets: targets.binding(),
        sample_weights: weights.as_ref().map(Guarded::binding),
        mass: Some(scratch.binding()),
        class_counts: counts.binding(),
    };
    let bound = kernel.bind(&gpu.device, &buffers).unwrap();
    // Twice: mass is set, not added to.
    run(gpu, |pass| bound.encode(pass));
    run(gpu, |pass| bound.encode(pass));
    scratch.read(gpu);
    counts.read(gpu)
}

/// Weights of every size and sign, whose sums no `f32` could add up in any order: the nearest `f32` of the exact sum,
/// bit for bit. What is beyond the limits is cut as documented; what is not finite counts 0.
#[test]
fn mass_adds_up_without_rounding() {
    let shape = Shape::new(4000, 5);
    let spec = Spec {
        sample_weights: SampleWeights::PerRow,
        class_weights: WeightScheme::Balanced.into(),
        live_counts: LiveCounts { sample_weighted: true, ..LiveCounts::default() },
        ..Spec::default()
    };
    let mut batch = Batch::random(6, &spec, shape);
    batch.labels = (0..4000).map(|row| row % 4).collect();
    let weights = batch.sample_weights.as_mut().unwrap();
    for (row, weight) in weights.iter_mut().enumerate() {
        let scaled = |exponent: usize| *weight * 2f32.powi(exponent as i32 - 41);
        *weight = match row % 4 {
            // All multiples of 2^-64, from 2^-41 to 2^28.
            0 => scaled(row / 4 % 69),
            // The large ones cancel, and the small ones are left.
            1 if row < 3992 => [1.0, -1.0][row / 4 % 2] * 2f32.powi(27),
            1 => 1.0 / 1024.0,
            2 => f32::from_bits([0x7fc0_0000, 0x7f80_0000, 0x3f80_0000, 0xff80_0000][row / 4 % 4]),
            // Beyond 2^30, and below 2^-64; one of the first is negative.
            _ => [1e-30, 3e38, 2f32.powi(-64), -3e38, 2f32.powi(-65)][row / 4 % 5],
        };
    }
    let exact = |class: usize| -> i128 {
        let of_class = weights.iter().skip(class).step_by(4).filter(|weight| weight.is_finite());
        let unit = (1u128 << 64) as f64;
        let most = f64::from(f32::from_bits(0x4e7f_ffff));
        of_class.map(|weight| (f64::from(*weight).clamp(-most, most) * unit) as i128).sum()
    };
    let unit = (1u128 << 64) as f32;
    let want: Vec<f32> = (0..4).map(|class| exact(class) as f32 / unit).chain([0.0]).collect();
    assert_eq!(want[1..], [2.0 / 1024.0, 250.0, 200.0 / unit, 0.0]);
    for gpu in gpus() {
        let got: Vec<f32> = mass(gpu, &batch, &Options::default()).into_iter().map(f32::from_bits).collect();
        assert_eq!(got, want, "{}", gpu.describe());
    }
}

/// Ten million rows, most of them of one class; counts above 2^24 would be no `f32` any more.
#[test]
fn ten_million_rows() {
    let shape = Shape::new(20_000_000, 3);
    // 2^24 + 1 rows of class 1.
    let label = |row: u32| match row {
        0..16_777_217 => 1u8,
        _ => [0, 2, 255][row as usize % 3],
    };
    let labels: Vec<u8> = (0..shape.rows).map(label).collect();
    let spec = Spec { ignore_index: Some(255), ..Spec::default() };
    for gpu in gpus() {
        let options = Options { labels: LabelFormat::U8, ..Options::default() };
        let config = Config::new(&gpu.device, &spec, shape, &options).unwrap();
        let kernel = ClassCountsKernel::new(&gpu.device, &config).unwrap();
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&labels);
        let buffer = Guarded::new(gpu, 0, &words);
        let counts = Guarded::output(gpu, 0, 3);
        let buffers = ClassCountsBuffers {
            targets: buffer.binding(),
            sample_weights: None,
            mass: None,
            class_counts: counts.binding(),
        };
        let bound = kernel.bind(&gpu.device, &buffers).unwrap();
        run(gpu, |pass| bound.encode(pass));
        let mut want = [0; 3];
        labels.iter().filter(|label| **label < 3).for_each(|label| want[usize::from(*label)] += 1);
        assert_eq!(want[1], (1 << 24) + 1);
        assert_eq!(counts.read(gpu), want, "{}", gpu.describe());
    }
}
