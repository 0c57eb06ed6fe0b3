use crate::support::{Guarded, ROWS, gpus, run};
use wgpu_cross_entropy::kernels::{BinaryCountsBuffers, BinaryCountsKernel};
use wgpu_cross_entropy::tolerance::Worst;
use wgpu_cross_entropy::{BinaryConfig, BinaryOptions, BinarySpec, Gpu, PosWeight, Shape, cpu};

fn spec(per_column: bool) -> BinarySpec {
    BinarySpec {
        pos_weight: PosWeight::Ratio { per_column },
        ignore_value: Some(-1.0),
        ..BinarySpec::default()
    }
}

/// Skewed targets, some ignored, some NaN; padding is poison, which would be NaN as well.
fn hard_targets(shape: &Shape) -> Vec<f32> {
    let mut targets = vec![1.0; shape.logits_len() as usize];
    for row in 0..shape.rows {
        for column in 0..shape.classes {
            targets[shape.index(row, column) as usize] = match (row * 7 + column * 3) % 19 {
                0 | 4 | 9 => 1.0,
                11 => -1.0,
                17 if row % 5 == 0 => f32::NAN,
                _ => 0.0,
            };
        }
    }
    targets
}

fn counts(gpu: &Gpu, spec: &BinarySpec, shape: Shape, targets: &[f32], limit: Option<u64>) -> Vec<f32> {
    let options = BinaryOptions { max_binding_size: limit, ..BinaryOptions::default() };
    let config = BinaryConfig::new(&gpu.device, spec, shape, &options).unwrap();
    let kernel = BinaryCountsKernel::new(&gpu.device, &config).unwrap();
    let targets = Guarded::floats(gpu, 3, targets);
    let partials = Guarded::output(gpu, 64, BinaryCountsKernel::partials_size(&config) as usize / 4);
    let counts = Guarded::output(gpu, 1, BinaryCountsKernel::counts_size(&config) as usize / 4);
    let buffers = BinaryCountsBuffers {
        targets: targets.binding(),
        partials: partials.binding(),
        binary_counts: counts.binding(),
    };
    let bound = kernel.bind(&gpu.device, &buffers).unwrap();
    assert!(limit.is_none() || bound.dispatches() > 3, "{} dispatches", bound.dispatches());
    // Set, not added to.
    run(gpu, |pass| bound.encode(pass));
    run(gpu, |pass| bound.encode(pass));
    partials.read(gpu);
    counts.read_floats(gpu)
}

/// Targets of 0 and 1 are counted exactly: in all and by column, with columns around a workgroup (64), and padding.
#[test]
fn hard_targets_are_exact() {
    for gpu in gpus() {
        let rows = ROWS.iter().map(|&rows| Shape::new(rows, 3));
        let columns = [1, 2, 5, 31, 32, 33, 63, 64, 65, 129, 1000].map(|columns| Shape::new(300, columns));
        let padded = [Shape::new(513, 5).with_row_stride(8), Shape::new(100, 70).with_row_stride(71)];
        let mut checked = 0;
        let first = [Shape::class_first(9, 5, 100), Shape::class_first(3, 70, 33).with_row_stride(2_400)];
        for shape in rows.chain(columns).chain(padded).chain(first) {
            for per_column in [false, true] {
                let (spec, targets) = (spec(per_column), hard_targets(&shape));
                let got = counts(gpu, &spec, shape, &targets, None);
                let want: Vec<f32> = cpu::binary_counts(&spec, &shape, &targets)
                    .into_iter()
                    .map(|count| count as f32)
                    .collect();
                assert_eq!(got, want, "{}: {shape:?} {per_column}", gpu.describe());
                checked += 1;
            }
        }
        println!("{}: {checked} shapes", gpu.describe());
    }
}

/// Soft targets within their tolerance, in the same bits whether tiled or not.
#[test]
fn soft_targets_and_tiles() {
    for gpu in gpus() {
        for (shape, per_column) in [
            (Shape::new(30_000, 2), false),
            (Shape::new(30_000, 2), true),
            (Shape::new(9_000, 7).with_row_stride(9), false),
            (Shape::new(9_000, 7).with_row_stride(9), true),
            (Shape::class_first(500, 3, 32).with_row_stride(100), false),
            (Shape::class_first(500, 3, 32).with_row_stride(100), true),
        ] {
            let spec = spec(per_column);
            let len = shape.logits_len() as u32;
            let targets: Vec<f32> =
                (0..len).map(|i| if i % 13 == 5 { -1.0 } else { (i * 37 % 101) as f32 / 100.0 }).collect();
            let whole = counts(gpu, &spec, shape, &targets, None);
            let tiled = counts(gpu, &spec, shape, &targets, Some(40_000));
            let bits = |counts: &[f32]| counts.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&whole), bits(&tiled), "{}: {shape:?} {per_column}", gpu.describe());
            let want = cpu::binary_counts(&spec, &shape, &targets);
            // Additions one after the other: at most a block's and the blocks', far below 2,000.
            let allowed: Vec<f64> =
                want.iter().map(|count| count * 2_000.0 * wgpu_cross_entropy::tolerance::U).collect();
            let worst = Worst::of("binary_counts", &whole, &want, &allowed);
            assert!(worst.passed(), "{}: {worst}", gpu.describe());
        }
    }
}
