//! Each kernel against the oracle, on every adapter of this machine.
//!
//! `WGPU_CROSS_ENTROPY_ADAPTERS=n` makes a run with fewer than `n` adapters fail; with none it always fails.

#[path = "../support/binary_steps.rs"]
mod binary_steps;
#[path = "../support/steps.rs"]
mod steps;
mod support;

mod binary_counts;
mod binary_cross_entropy;
mod class_counts;
mod class_weights;
mod cost_gather;
mod cross_entropy;
mod cross_entropy_backward;
mod cross_entropy_forward;
mod denominator;
mod loss_total;
mod properties;

mod errors;
mod labels;

#[test]
fn adapters_are_there() {
    let gpus = support::gpus();
    for gpu in gpus {
        println!("adapter: {}; {}", gpu.describe(), support::tier(gpu));
    }
}
