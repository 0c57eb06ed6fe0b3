use crate::support::{Guarded, gpus, run};
use wgpu_cross_entropy::kernels::{ClassWeightsBuffers, ClassWeightsKernel, TableLayout};
use wgpu_cross_entropy::tolerance::{LOG_NEAR_ONE, ULP, Worst, class_weight_error};
use wgpu_cross_entropy::{
    ClassWeights, ClassesOver, Config, LiveWeights, LogitBias, Options, Shape, Spec, WeightScheme, cpu,
};

const SCHEMES: [WeightScheme; 14] = [
    WeightScheme::Balanced,
    WeightScheme::Inverse,
    WeightScheme::InversePower(0.5),
    WeightScheme::InversePower(1.5),
    WeightScheme::InversePower(4.0),
    WeightScheme::InverseFrequency(0.5),
    WeightScheme::InverseFrequency(1.0),
    WeightScheme::InverseFrequency(4.0),
    WeightScheme::EffectiveNumber(0.0),
    WeightScheme::EffectiveNumber(0.9),
    WeightScheme::EffectiveNumber(0.9999),
    WeightScheme::EffectiveNumber(0.999_999_99),
    WeightScheme::MedianFrequency,
    WeightScheme::LogFrequency(1.02),
];

/// All formulas; absent classes get the absent weight and are never infinite; one class; no rows at all; counts above
/// 2^24, which f32 cannot count; 262,144 classes, more than a workgroup has invocations by far.
#[test]
fn weights_follow_the_formula() {
    let many: Vec<u32> = (0..262_144).map(|c| c % 7 * 1000).collect();
    // More than a workgroup has invocations, some of which have one class less than their neighbours.
    let some: Vec<u32> = many.iter().copied().take(511).collect();
    let all_counts: [&[u32]; 8] = [
        &[10, 53, 681, 638, 199, 18],
        &[0, 5, 0, 20_000_001],
        &[9],
        &[0, 0, 0],
        &[u32::MAX / 2, 1],
        // After an all-reduce over many machines a sum may pass 2^32.
        &[u32::MAX, u32::MAX, 7],
        &many,
        &some,
    ];
    for gpu in gpus() {
        for counts in all_counts {
            for scheme in SCHEMES {
                for (absent_weight, smoothing, over, min, max) in [
                    (0.0, 0.0, ClassesOver::Present, 0.0, f32::INFINITY),
                    (2.5, 1.5, ClassesOver::All, 0.1, 3.0),
                    // Smoothing that alone is beyond what powers of it leave in f32.
                    (0.0, 1e30, ClassesOver::Present, 0.0, f32::INFINITY),
                ] {
                    let live = LiveWeights { scheme, absent_weight, smoothing, over, min, max };
                    let spec = Spec { class_weights: ClassWeights::Live(live.clone()), ..Spec::default() };
                    let shape = Shape::new(4, counts.len() as u32);
                    let config = Config::new(&gpu.device, &spec, shape, &Options::default()).unwrap();
                    let kernel = ClassWeightsKernel::new(&gpu.device, &config).unwrap();
                    let words = TableLayout::new(&spec, &shape).size() as usize / 4;
                    let counts_buffer = Guarded::new(gpu, 64, counts);
                    let table = Guarded::output(gpu, 64, words);
                    let buffers = ClassWeightsBuffers {
                        class_counts: counts_buffer.binding(),
                        history: None,
                        counted: None,
                        table: table.binding(),
                    };
                    let bound = kernel.bind(&gpu.device, &buffers).unwrap();
                    run(gpu, |pass| bound.encode(pass));
                    let got = &table.read_floats(gpu)[16..16 + counts.len()];
                    let want = cpu::class_weights(&live, counts);
                    let relative = class_weight_error(&live, counts, 0.0);
                    assert!(relative < 1e-3, "{live:?}: a tolerance of {relative}");
                    let tolerance: Vec<f64> = want.iter().map(|w| w.abs() * relative).collect();
                    let worst = Worst::of("class_weights", got, &want, &tolerance);
                    assert!(worst.passed(), "{}: {live:?} {worst}", gpu.describe());
                    assert!(got.iter().all(|w| w.is_finite()));
                }
            }
        }
        println!("{}: ok", gpu.describe());
    }
}

/// The log-prior: finite for absent classes, as the formula says for any number of them; weights are left alone.
#[test]
fn log_prior_follows_the_formula() {
    let all_counts: [&[u32]; 4] = [&[10, 53, 681, 638, 199, 18], &[0, 5, 0, 20_000_001], &[9], &[0, 0, 0]];
    for gpu in gpus() {
        for counts in all_counts {
            for (tau, smoothing) in [(1.0, 1.0), (0.5, 1e-3), (-2.0, 10.0)] {
                let spec = Spec { logit_bias: LogitBias::LogPrior { tau, smoothing }, ..Spec::default() };
                let shape = Shape::new(4, counts.len() as u32);
                let config = Config::new(&gpu.device, &spec, shape, &Options::default()).unwrap();
                let kernel = ClassWeightsKernel::new(&gpu.device, &config).unwrap();
                let words = TableLayout::new(&spec, &shape).size() as usize / 4;
                let counts_buffer = Guarded::new(gpu, 64, counts);
                let table = Guarded::output(gpu, 64, words);
                let buffers = ClassWeightsBuffers {
                    class_counts: counts_buffer.binding(),
                    history: None,
                    counted: None,
                    table: table.binding(),
                };
                let bound = kernel.bind(&gpu.device, &buffers).unwrap();
                run(gpu, |pass| bound.encode(pass));
                let words = table.read(gpu);
                let (weights, bias) = words[16..].split_at(counts.len());
                assert!(weights.iter().all(|word| *word == crate::support::POISON));
                let got: Vec<f32> = bias.iter().map(|word| f32::from_bits(*word)).collect();
                let want = cpu::log_prior(tau.into(), smoothing.into(), counts);
                // A quotient within 4 ulp has a logarithm that far off, absolutely; then the logarithm's own error.
                let tolerance: Vec<f64> = want
                    .iter()
                    .map(|w| f64::from(tau).abs() * (LOG_NEAR_ONE + 4.0 * ULP) + w.abs() * 4.0 * ULP)
                    .collect();
                let worst = Worst::of("logit_bias", &got, &want, &tolerance);
                assert!(worst.passed(), "{}: {tau} {smoothing} {worst}", gpu.describe());
            }
        }
    }
}
