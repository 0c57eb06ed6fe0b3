use crate::support::{Batch, Guarded, cost_matrix, gpus, run};
use wgpu_cross_entropy::kernels::{CostGatherBuffers, CostGatherKernel, TableLayout};
use wgpu_cross_entropy::wgsl::Strategy;
use wgpu_cross_entropy::{Config, Dtype, Gpu, Options, Shape, Spec, cpu};

/// Those that take any number of classes of the tests here; tiles are for `cross_entropy`'s tests.
const STRATEGIES: [Strategy; 5] =
    [Strategy::Thread, Strategy::Group, Strategy::Resident, Strategy::Streaming, Strategy::Split];

fn gather(gpu: &Gpu, batch: &Batch, options: &Options, at: usize) -> Vec<(u32, f32)> {
    let config = Config::new(&gpu.device, &batch.spec, batch.shape, options).unwrap();
    let kernel = CostGatherKernel::new(&gpu.device, &config).unwrap();
    let initial = TableLayout::new(&batch.spec, &batch.shape).initial(&batch.spec);
    let table = Guarded::new(gpu, 64, &bytemuck::pod_collect_to_vec::<u8, u32>(&initial));
    let logits = Guarded::elements(gpu, at, options.dtype, &batch.logits);
    let labels = Guarded::labels(gpu, 1, &batch.labels);
    let gathered = Guarded::output(gpu, 2, batch.shape.rows as usize * 2);
    let buffers = CostGatherBuffers {
        logits: logits.binding(),
        labels: labels.binding(),
        gathered: gathered.binding(),
        table: table.binding(),
    };
    let bound = kernel.bind(&gpu.device, &buffers).unwrap();
    run(gpu, |pass| bound.encode(pass));
    gathered.read(gpu).chunks(2).map(|pair| (pair[0], f32::from_bits(pair[1]))).collect()
}

fn check(gpu: &Gpu, batch: &Batch, options: &Options, at: usize) {
    let want: Vec<(u32, f32)> = cpu::cost_gather(&batch.spec, &batch.shape, &batch.logits, &batch.labels)
        .into_iter()
        .map(|row| (row.prediction, row.cost as f32))
        .collect();
    assert_eq!(gather(gpu, batch, options, at), want, "{}: {:?} {options:?}", gpu.describe(), batch.shape);
}

/// Exact, in both strategies: tails of every length around the four classes that a load takes, and around a workgroup.
#[test]
fn predictions_and_costs_are_exact() {
    for gpu in gpus() {
        for strategy in STRATEGIES {
            let options = Options { strategy: Some(strategy), ..Options::default() };
            for classes in [1, 2, 3, 4, 5, 8, 31, 33, 64, 255, 257] {
                let spec = Spec {
                    ignore_index: Some(-100),
                    cost_matrix: Some(cost_matrix(classes)),
                    ..Spec::default()
                };
                let mut batch = Batch::random(classes.into(), &spec, Shape::new(70, classes));
                // Ties: the first of the highest wins. Row 3 is all alike, row 4 ties at the end.
                for class in 0..classes {
                    batch.logits[batch.shape.index(3, class) as usize] = 1.5;
                }
                for class in classes.saturating_sub(2)..classes {
                    batch.logits[batch.shape.index(4, class) as usize] = 90.0;
                }
                check(gpu, &batch, &options, 0);
            }
        }
        println!("{}: ok", gpu.describe());
    }
}

/// Rows that are not finite predict class 0 at cost 0; rows that do not count predict at cost 0; no matrix costs 1.
#[test]
fn rows_without_a_cost() {
    for gpu in gpus() {
        for strategy in STRATEGIES {
            let options = Options { strategy: Some(strategy), ..Options::default() };
            let spec = Spec { ignore_index: Some(1), ..Spec::default() };
            let mut batch = Batch::random(4, &spec, Shape::new(6, 5).with_row_stride(7));
            let index = |row, class| batch.shape.index(row, class) as usize;
            batch.logits[index(0, 4)] = f32::NAN;
            batch.logits[index(1, 2)] = f32::INFINITY;
            for class in 0..5 {
                batch.logits[index(2, class)] = f32::NEG_INFINITY;
                batch.logits[index(3, class)] = class as f32;
            }
            batch.labels = vec![0, 0, 0, 1, 3, i32::MIN];
            let got = gather(gpu, &batch, &options, 4);
            assert_eq!(got[..4], [(0, 0.0), (0, 0.0), (0, 0.0), (4, 0.0)], "{}", gpu.describe());
            assert_eq!((got[4].1, got[5].1), (1.0, 0.0));
            check(gpu, &batch, &options, 4);
        }
    }
}

/// Class-first logits, with no transpose.
#[test]
fn class_first() {
    for gpu in gpus() {
        let spec = Spec { cost_matrix: Some(cost_matrix(19)), ..Spec::default() };
        check(gpu, &Batch::random(5, &spec, Shape::class_first(3, 19, 37)), &Options::default(), 1);
        for dtype in [Dtype::F16, Dtype::Bf16] {
            for inner in [2, 38] {
                let mut batch = Batch::random(5, &spec, Shape::class_first(3, 19, inner));
                batch.logits = dtype.round(&batch.logits);
                check(gpu, &batch, &Options { dtype, ..Options::default() }, 1);
            }
        }
    }
}
