//! Plans and batches out of the fuzzer's bytes, on every adapter, against the oracle.

#![no_main]

#[path = "../../tests/support/binary_steps.rs"]
mod binary_steps;
#[path = "../../tests/support/generator.rs"]
mod generator;
#[path = "../../tests/support/steps.rs"]
mod steps;
#[path = "../../tests/kernels/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the kernels, which use all of it")]
mod support;

use libfuzzer_sys::fuzz_target;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use wgpu_cross_entropy::CrossEntropy;

fuzz_target!(|bytes: &[u8]| {
    // The bytes are the random numbers that the strategies ask for; where they end, zeros follow.
    let rng = TestRng::from_seed(RngAlgorithm::PassThrough, bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let Ok(tree) = generator::cases(4).new_tree(&mut runner) else { return };
    let case = tree.current();
    for gpu in support::gpus() {
        // What does not go together is refused; so is a row that is larger than the bindings drawn.
        let Ok(plan) = CrossEntropy::new(&gpu.device, &case.spec, case.shape, &case.options) else { continue };
        for filling in &case.fillings {
            let batch = case.batch(filling);
            let Ok(got) = steps::run_step(gpu, &plan, &batch, filling.at) else { continue };
            let validation = steps::validated(&plan, &batch, &got);
            assert!(validation.passed(), "{}: {case:?}\n{validation}", gpu.describe());
        }
    }
});
