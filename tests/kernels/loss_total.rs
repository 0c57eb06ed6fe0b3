use crate::support::{Guarded, POISON, ROWS, gpus, run};
use wgpu_cross_entropy::kernels::{LossTotalBuffers, LossTotalKernel, TableLayout};
use wgpu_cross_entropy::tolerance::{U, ULP, Worst};
use wgpu_cross_entropy::{Config, Gpu, Options, Shape, Spec, Totals, cpu};

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
