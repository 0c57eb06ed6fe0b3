use crate::support::{Batch, Guarded, ROWS, full_spec, given_weights, gpus, run};
use wgpu_cross_entropy::kernels::{DenominatorBuffers, DenominatorKernel, TableLayout};
use wgpu_cross_entropy::tolerance::{Worst, tolerances};
use wgpu_cross_entropy::{
    Config, Denominator, Gpu, Options, Reduction, SampleWeights, Shape, Spec, Totals, cpu,
};

fn table_of(gpu: &Gpu, batch: &Batch, options: &Options) -> (Config, Vec<u32>) {
    let Batch { spec, shape, .. } = batch;
    let config = Config::new(&gpu.device, spec, *shape, options).unwrap();
    let kernel = DenominatorKernel::new(&gpu.device, &config).unwrap();
    let initial: Vec<u32> = bytemuck::pod_collect_to_vec(&TableLayout::new(spec, shape).initial(spec));
    // The totals start poisoned: every one must be set.
    let poisoned: Vec<u32> = [crate::support::POISON; 16].into_iter().chain(initial[16..].to_vec()).collect();
    let table = Guarded::new(gpu, 64, &poisoned);
    let targets = batch.targets(gpu, 1);
    let weights = batch.sample_weights.as_ref().map(|weights| Guarded::floats(gpu, 2, weights));
    let external = batch.external.map(|value| Guarded::floats(gpu, 7, &[value]));
    let partials =
        Guarded::output(gpu, 64, DenominatorKernel::partials_size(spec.targets, shape.rows) as usize / 4);
    let buffers = DenominatorBuffers {
        targets: targets.binding(),
        sample_weights: weights.as_ref().map(Guarded::binding),
        external_denominator: external.as_ref().map(Guarded::binding),
        partials: partials.binding(),
        table: table.binding(),
    };
    let bound = kernel.bind(&gpu.device, &buffers).unwrap();
    run(gpu, |pass| bound.encode(pass));
    partials.read(gpu);
    (config, table.read(gpu))
}

fn check(gpu: &Gpu, batch: &Batch) {
    let (config, words) = table_of(gpu, batch, &Options::default());
    let got = Totals::from_bytes(bytemuck::cast_slice(&words)).unwrap();
    let want = cpu::compute(&batch.spec, &batch.shape, &batch.inputs()).unwrap();
    let allowed = tolerances(&config, &batch.inputs(), &want);
    let what = format!("{}: {:?} {:?}", gpu.describe(), batch.shape, batch.spec);
    let w = &want.totals;
    for (name, got, want, tolerance) in [
        ("denominator", got.denominator, w.denominator, allowed.denominator),
        ("weight_sum", got.weight_sum, w.weight_sum, allowed.weight_sum),
        ("sample_weight_sum", got.sample_weight_sum, w.sample_weight_sum, allowed.sample_weight_sum),
    ] {
        let worst = Worst::of(name, &[got], &[want], &[tolerance]);
        assert!(worst.passed(), "{what}: {worst}");
    }
    assert_eq!(
        (got.valid_rows, got.ignored_rows, got.out_of_range_rows, got.nonzero_rows, got.nonfinite_weights),
        (w.valid_rows, w.ignored_rows, w.out_of_range_rows, w.nonzero_rows, w.nonfinite_weights),
        "{what}"
    );
    let first_out_of_range = (0..batch.shape.rows).find(|&row| {
        cpu::Target::read(&batch.spec, &batch.shape, &batch.inputs(), row) == cpu::Target::OutOfRange
    });
    assert_eq!(got.first_bad_row, first_out_of_range, "{what}");
    assert_eq!((got.loss, got.loss_sum, got.nonfinite_rows, got.correct_rows), (0.0, 0.0, 0, 0), "{what}");
}

/// Every number of rows, with every weight.
#[test]
fn sums_and_counts_agree() {
    for gpu in gpus() {
        for rows in ROWS {
            check(gpu, &Batch::random(rows.into(), &full_spec(5), Shape::new(rows, 5)));
        }
        println!("{}: {} shapes", gpu.describe(), ROWS.len());
    }
}

/// Every reduction; every broadcast of sample weights.
#[test]
fn every_denominator_and_broadcast() {
    use Denominator::*;
    let reductions = [WeightSum, ValidRows, SampleWeightSum, NonZeroWeights, Rows, External]
        .map(Reduction::Mean)
        .into_iter()
        .chain([Reduction::None, Reduction::Sum]);
    for gpu in gpus() {
        for reduction in reductions.clone() {
            for sample_weights in
                [SampleWeights::None, SampleWeights::PerRow, SampleWeights::PerSample, SampleWeights::PerStep]
            {
                let spec = Spec {
                    ignore_index: Some(2),
                    class_weights: given_weights(4),
                    sample_weights,
                    reduction,
                    ..Spec::default()
                };
                check(gpu, &Batch::random(9, &spec, Shape::temporal(21, 5, 4)));
            }
        }
    }
}

/// Tiled, the same bits.
#[test]
fn tiles_give_the_same_bits() {
    for gpu in gpus() {
        for sample_weights in [SampleWeights::PerRow, SampleWeights::PerSample, SampleWeights::PerStep] {
            let spec = Spec { sample_weights, ..full_spec(3) };
            let batch = Batch::random(3, &spec, Shape::temporal(5_000, 6, 3));
            let (_, whole) = table_of(gpu, &batch, &Options::default());
            // Broadcast weights are bound whole, and must fit.
            let small = Options { max_binding_size: Some(33_000), ..Options::default() };
            let (_, tiled) = table_of(gpu, &batch, &small);
            assert_eq!(whole, tiled, "{} {sample_weights:?}", gpu.describe());
        }
    }
}
