//! A structured fuzzer: any spec, shape, options and numbers, on every adapter, against the oracle.
//!
//! A short run is part of the tests. A longer one, of other seeds:
//!
//! ```text
//! WGPU_CROSS_ENTROPY_FUZZ_PLANS=100 WGPU_CROSS_ENTROPY_FUZZ_BATCHES=1000 WGPU_CROSS_ENTROPY_FUZZ_SEED=7 \
//!     tests/run.sh --test reliability -- --nocapture fuzz
//! ```
//!
//! A case is a plan and a batch; a plan has many of them, for compiling it takes longest. A case that fails
//! is made smaller, and printed; it becomes a test of its own below.

use crate::binary_steps;
use crate::generator::{BinaryCase, Case, Smaller, binary_cases, cases};
use crate::steps::{run_plan, run_step, validated};
use crate::support::{Batch, gpus};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use wgpu_cross_entropy::error::{BindError, PlanError};
use wgpu_cross_entropy::{
    BinaryCrossEntropy, BinaryInputs, BinaryOptions, BinarySpec, ClassWeights, CountsOver, CrossEntropy,
    Dtype, Gpu, LiveCounts, LogitBias, Options, PosWeight, Reduction, SampleWeights, Scores, Shape, Spec,
    Targets, Validation, WeightScheme, WeightScope, cpu,
};

/// Batches of a plan, at most, in the short run.
const BATCHES: usize = 20;

/// A run ends at so many failures.
const FAILURES: u32 = 12;

/// How long a failing case is made smaller.
const SMALLER: Duration = Duration::from_secs(40);

/// What a run has seen.
#[derive(Default)]
struct Tally {
    cases: BTreeMap<String, u64>,
    plans: u64,
    refused: BTreeMap<String, u64>,
    worst: f64,
}

impl Tally {
    fn case(&mut self, gpu: &Gpu, validation: &Validation, what: &str) -> Result<(), String> {
        *self.cases.entry(gpu.describe()).or_default() += 1;
        self.worst = validation.outputs.iter().map(|worst| worst.ratio()).fold(self.worst, f64::max);
        match validation.passed() {
            true => Ok(()),
            false => {
                let failures: String = validation.failures().map(|worst| format!("\n    {worst}")).collect();
                Err(format!("{what}{failures}"))
            }
        }
    }

    /// A plan that is refused is refused with a reason, and no case.
    fn refuse(&mut self, error: &PlanError) -> Result<(), String> {
        match error {
            PlanError::Option { .. } | PlanError::Limit { .. } => {
                *self.refused.entry(reason(&error.to_string())).or_default() += 1;
                Ok(())
            }
            _ => Err(format!("the plan: {error}")),
        }
    }

    fn print(&self, what: &str, seed: u64, began: Instant) {
        let cases: u64 = self.cases.values().sum();
        println!(
            "fuzz {what}: seed {seed}: {} plans, {cases} cases (plan and batch), {} refused, worst {:.3} of the \
             tolerance, {:.0} s",
            self.plans,
            self.refused.values().sum::<u64>(),
            self.worst,
            began.elapsed().as_secs_f64(),
        );
        for (adapter, cases) in &self.cases {
            println!("    {adapter}: {cases}");
        }
        for (why, times) in &self.refused {
            println!("    refused {times}: {why}");
        }
    }
}

/// An error without its numbers.
fn reason(message: &str) -> String {
    message.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Whether a device does not take a batch's buffers: a row that is larger than the limit drawn for bindings.
fn too_large(error: &BindError) -> bool {
    matches!(error, BindError::BindingSize { .. })
}

/// Runs a case's batches on a device.
fn run_case(gpu: &Gpu, case: &Case, tally: &mut Tally) -> Result<(), String> {
    let plan = match CrossEntropy::new(&gpu.device, &case.spec, case.shape, &case.options) {
        Ok(plan) => plan,
        Err(error) => return tally.refuse(&error),
    };
    tally.plans += 1;
    for filling in &case.fillings {
        let batch = case.batch(filling);
        match run_step(gpu, &plan, &batch, filling.at) {
            Ok(got) => tally.case(gpu, &validated(&plan, &batch, &got), &format!("{filling:?}"))?,
            Err(error) if too_large(&error) => {
                *tally.refused.entry(reason(&error.to_string())).or_default() += 1;
                return Ok(());
            }
            Err(error) => return Err(format!("{}: {error}", gpu.describe())),
        }
    }
    Ok(())
}

/// The same for a sigmoid loss.
fn run_binary_case(gpu: &Gpu, case: &BinaryCase, tally: &mut Tally) -> Result<(), String> {
    let plan = match BinaryCrossEntropy::new(&gpu.device, &case.spec, case.shape, &case.options) {
        Ok(plan) => plan,
        Err(error) => return tally.refuse(&error),
    };
    tally.plans += 1;
    for filling in &case.fillings {
        let batch = case.batch(filling);
        let (got, _) = binary_steps::run_step(gpu, &plan, &batch, filling.at);
        let logits = case.options.dtype.round(&batch.logits);
        let mut inputs = BinaryInputs { logits: &logits, ..batch.inputs() };
        inputs.grad_out = inputs.grad_out.filter(|_| case.options.grad_out);
        let want = cpu::compute_binary(&case.spec, &case.shape, &inputs).unwrap();
        let validation = Validation::of_binary(plan.config(), &inputs, &got, &want);
        tally.case(gpu, &validation, &format!("{filling:?}"))?;
    }
    Ok(())
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Draws plans and runs them on every adapter. A case that fails is made smaller and printed; the run goes on.
fn fuzz<S: Strategy>(
    what: &str,
    short: u64,
    cases: impl FnOnce(usize) -> S,
    run: impl Fn(&Gpu, &S::Value, &mut Tally) -> Result<(), String>,
) where
    S::Value: Smaller,
{
    let plans = number("WGPU_CROSS_ENTROPY_FUZZ_PLANS");
    // Also without the environment each run is the same: a run that fails can be run again.
    let seed = number("WGPU_CROSS_ENTROPY_FUZZ_SEED").unwrap_or(20_251_125);
    let batches = number("WGPU_CROSS_ENTROPY_FUZZ_BATCHES").map_or(BATCHES, |batches| batches as usize);
    let cases = cases(batches);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut failures = 0;
    for number in 0..plans.unwrap_or(short) {
        let case = cases.new_tree(&mut runner).expect("a case").current();
        for gpu in gpus() {
            // A panic is a failure of the case as any other.
            let mut fails = |case: &S::Value| {
                catch_unwind(AssertUnwindSafe(|| run(gpu, case, &mut tally)))
                    .unwrap_or_else(|panic| {
                        let text = panic.downcast_ref::<String>().cloned();
                        let text =
                            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                        Err(format!("panic: {}", text.unwrap_or_default()))
                    })
                    .err()
            };
            let Some(why) = fails(&case) else { continue };
            println!("fuzz {what}: seed {seed}, plan {number}, {}: {why}", gpu.describe());
            let (case, why) = smallest(case.clone(), why, &mut fails);
            println!("smaller: {why}\n{case:?}\n");
            failures += 1;
        }
        assert!(failures < FAILURES, "seed {seed}: {failures} cases have failed; see above");
    }
    tally.print(what, seed, began);
    assert_eq!(failures, 0, "seed {seed}: see above");
}

/// Takes whatever can go out of a failing case that still fails then.
fn smallest<C: Smaller>(
    mut case: C,
    mut why: String,
    fails: &mut impl FnMut(&C) -> Option<String>,
) -> (C, String) {
    let began = Instant::now();
    let mut from = 0;
    while let Some(smaller) = case.smaller().into_iter().nth(from) {
        if began.elapsed() > SMALLER {
            break;
        }
        match fails(&smaller) {
            // What was tried before is not tried again, but for the first, which takes batches away.
            Some(still) => (case, why, from) = (smaller, still, if from < 2 { 0 } else { from }),
            None => from += 1,
        }
    }
    (case, why)
}

#[test]
fn fuzz_softmax() {
    fuzz("softmax", 16, cases, run_case);
}

#[test]
fn fuzz_sigmoid() {
    fuzz("sigmoid", 8, binary_cases, run_binary_case);
}

/// Found by the fuzzer: of a row whose soft targets hold NaN, `weight != 0` was false on Vulkan, where `!=` is ordered; and
/// so was `denominator != 0`, so that the other rows got gradients of 0, and not NaN. With weights by row the oracle took
/// another class for the row than the kernels.
#[test]
fn a_weight_that_is_not_a_number_is_not_zero() {
    for weight_scope in [WeightScope::PerTerm, WeightScope::PerRow] {
        let class_weights = ClassWeights::Given(vec![1.0, 2.0, 4.0, 0.5]);
        let spec = Spec { targets: Targets::Soft, weight_scope, class_weights, ..Spec::default() };
        let mut batch = Batch::random(1, &spec, Shape::new(5, 4));
        batch.target_probs.as_mut().unwrap()[6] = f32::NAN;
        for gpu in gpus() {
            let (plan, got) = run_plan(gpu, &batch, &Options::default(), 0);
            assert_eq!(got.totals.nonzero_rows, 5, "{}", gpu.describe());
            let validation = validated(&plan, &batch, &got);
            assert!(validation.passed(), "{}\n{validation}", gpu.describe());
        }
    }
}

/// Found by the fuzzer: half of the least normal number is flushed, so that a scale of 0.5 made two logits one, and the
/// first of them the prediction. A scale whose product is rounded does the same.
#[test]
fn a_scale_that_makes_two_logits_one() {
    // Of neighbours below 2, times 0.6, some come to one number above 1.
    let next = |x: f32| f32::from_bits(x.to_bits() + 1);
    let rounded = std::iter::successors(Some(1.9f32), |x| Some(next(*x)))
        .find(|x| x * 0.6 == next(*x) * 0.6)
        .expect("two that become one");
    for (logit_scale, low, high) in [(0.5, 0.0, f32::MIN_POSITIVE), (0.6, rounded, next(rounded))] {
        for classes in [3, 70] {
            let spec = Spec { logit_scale, ..Spec::default() };
            let mut batch = Batch::random(1, &spec, Shape::new(6, classes));
            batch.logits.fill(-1.0);
            for row in 0..6 {
                batch.logits[(row * classes) as usize] = low;
                batch.logits[(row * classes + 2) as usize] = high;
            }
            batch.labels.fill(2);
            for gpu in gpus() {
                let (plan, got) = run_plan(gpu, &batch, &Options::default(), 0);
                assert_eq!(got.totals.correct_rows, 6, "{}: {logit_scale}", gpu.describe());
                let validation = validated(&plan, &batch, &got);
                assert!(validation.passed(), "{}\n{validation}", gpu.describe());
            }
        }
    }
}

/// Found by the fuzzer: of a loss just above the least normal number, which is twice a quotient, that quotient is flushed;
/// the tolerance knew of one flush only.
#[test]
fn a_sigmoid_loss_whose_half_is_flushed() {
    let spec = BinarySpec { pos_weight: PosWeight::Given(vec![3.5]), ..BinarySpec::default() };
    let shape = Shape::new(1, 64);
    let logits: Vec<f32> = (0..64).map(|i| 86.0 + i as f32 / 32.0).collect();
    let targets = vec![1.0; 64];
    sigmoid_agrees(&spec, shape, &logits, &targets);
}

/// Found by the fuzzer: a focal power that is 0 even in `f64` had a tolerance of 0 times infinity.
#[test]
fn a_focal_power_beyond_f64() {
    let spec = BinarySpec { focal_gamma: 2.0, ..BinarySpec::default() };
    let logits: Vec<f32> = (0..64).map(|i| 40.0 * i as f32).collect();
    sigmoid_agrees(&spec, Shape::new(1, 64), &logits, &[1.0; 64]);
}

fn softmax_agrees(batch: &Batch, options: &Options) {
    for gpu in gpus() {
        let (plan, got) = run_plan(gpu, batch, options, 0);
        let validation = validated(&plan, batch, &got);
        assert!(validation.passed(), "{}\n{validation}", gpu.describe());
    }
}

fn sigmoid_agrees(spec: &BinarySpec, shape: Shape, logits: &[f32], targets: &[f32]) {
    let inputs = BinaryInputs { logits, targets, ..BinaryInputs::default() };
    let options = BinaryOptions { element_losses: true, ..BinaryOptions::default() };
    for gpu in gpus() {
        let plan = BinaryCrossEntropy::new(&gpu.device, spec, shape, &options).unwrap();
        let got = plan.compute_blocking(&gpu.device, &gpu.queue, &inputs).unwrap();
        let want = cpu::compute_binary(spec, &shape, &inputs).unwrap();
        let validation = Validation::of_binary(plan.config(), &inputs, &got, &want);
        assert!(validation.passed(), "{}\n{validation}", gpu.describe());
    }
}

/// Found by the fuzzer: gradients beyond the largest `f16` are clamped to it, as `Dtype::F16` says; comparisons with the
/// oracle now do the same. And a loss that is flushed before it is multiplied by a huge weight.
#[test]
fn beyond_the_ends_of_f16_and_f32() {
    let spec = Spec { sample_weights: SampleWeights::PerRow, reduction: Reduction::Sum, ..Spec::default() };
    let mut batch = Batch::random(1, &spec, Shape::new(8, 6));
    batch.sample_weights = Some(vec![1e7; 8]);
    let mut tiny = batch.clone();
    tiny.sample_weights = Some(vec![1e20; 8]);
    tiny.spec.focal_gamma = 0.5;
    tiny.labels.fill(1);
    for row in 0..8 {
        let logits = &mut tiny.logits[row * 6..(row + 1) * 6];
        logits.fill(0.0);
        logits[1] = 56.0 + row as f32;
    }
    for gpu in gpus() {
        for (batch, dtype) in [(&batch, Dtype::F16), (&tiny, Dtype::F32)] {
            let options = Options { dtype, ..Options::default() };
            let (plan, got) = run_plan(gpu, batch, &options, 0);
            let validation = validated(&plan, batch, &got);
            assert!(validation.passed(), "{}\n{validation}", gpu.describe());
            assert!(dtype == Dtype::F32 || got.logit_grads.contains(&-65504.0));
        }
    }
}

/// Found by the fuzzer: an upstream gradient times a weight is flushed, and what it is multiplied by is large; the tolerance
/// knew of flushes only where nothing follows.
#[test]
fn a_scale_whose_product_is_flushed() {
    let spec = Spec {
        z_loss: 1.0,
        sample_weights: SampleWeights::PerRow,
        reduction: Reduction::Sum,
        ..Spec::default()
    };
    let mut batch = Batch::random(1, &spec, Shape::new(8, 6));
    batch.logits.fill(1e6);
    batch.sample_weights = Some(vec![1e-19; 8]);
    batch.grad_out = Some(vec![1e-20; 8]);
    softmax_agrees(&batch, &Options { grad_out: true, ..Options::default() });
}

/// Found by the fuzzer: a focal power that is flushed before it is multiplied by a weight.
#[test]
fn a_focal_power_that_is_flushed() {
    let spec = Spec {
        scores: Scores::LogProbs,
        focal_gamma: 2.0,
        sample_weights: SampleWeights::PerRow,
        reduction: Reduction::Sum,
        ..Spec::default()
    };
    let mut batch = Batch::random(1, &spec, Shape::new(8, 6));
    batch.logits.fill(-1e-19);
    batch.sample_weights = Some(vec![100.0; 8]);
    softmax_agrees(&batch, &Options::default());
}

/// Found by the fuzzer: the oracle's log-sum-exp of a row that is certain was 0 where the others' sum is below `f64`'s
/// epsilon, and a z-loss vanished from the label's gradient.
#[test]
fn a_z_loss_of_a_certain_row() {
    let spec = Spec { z_loss: 0.01, reduction: Reduction::Sum, ..Spec::default() };
    let mut batch = Batch::random(1, &spec, Shape::new(6, 3));
    batch.labels.fill(0);
    for row in batch.logits.chunks_mut(3) {
        row.copy_from_slice(&[0.0, f32::NEG_INFINITY, -44.0]);
    }
    softmax_agrees(&batch, &Options::default());
}

/// Found by the fuzzer: of more classes than a workgroup has invocations, llvmpipe's GL gave a weight of 0 to those whose
/// invocation left the loop before its neighbours.
#[test]
fn weights_of_more_classes_than_a_workgroup() {
    let prior = LogitBias::LogPrior { tau: 1.0, smoothing: 1.0 };
    for gpu in gpus() {
        for over in [CountsOver::Batch, CountsOver::Ema { momentum: 0.5 }, CountsOver::Cumulative] {
            for scheme in [WeightScheme::Balanced, WeightScheme::EffectiveNumber(0.999)] {
                for (targets, classes) in
                    [(Targets::Labels, 257), (Targets::Soft, 300), (Targets::Labels, 511)]
                {
                    let spec = Spec {
                        targets,
                        class_weights: scheme.into(),
                        logit_bias: prior.clone(),
                        live_counts: LiveCounts { over, ..LiveCounts::default() },
                        ..Spec::default()
                    };
                    let batch = Batch::random(3, &spec, Shape::new(34, classes));
                    let (plan, got) = run_plan(gpu, &batch, &Options::default(), 0);
                    let validation = validated(&plan, &batch, &got);
                    assert!(validation.passed(), "{}: {spec:?}\n{validation}", gpu.describe());
                }
            }
        }
    }
}
