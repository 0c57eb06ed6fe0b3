//! Nothing breaks it: limits, faults, hostile input, the same bits every time. See `RELIABILITY.md`.

#[path = "../support/binary_steps.rs"]
mod binary_steps;
#[path = "../support/generator.rs"]
mod generator;
#[path = "../support/steps.rs"]
mod steps;
#[path = "../kernels/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the kernels, which use all of it")]
mod support;

mod again;
mod fuzz;
mod safety;
mod size;

/// Some values of a strategy, the same in every run.
fn draw<S: proptest::strategy::Strategy>(seed: u8, many: usize, strategy: S) -> Vec<S::Value> {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..many).map(|_| strategy.new_tree(&mut runner).expect("a value").current()).collect()
}
