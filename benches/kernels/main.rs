//! How fast each kernel is, against a plain copy of as many bytes on the same device in the same run.
//!
//! ```text
//! cargo bench                                     # every kernel, every shape
//! cargo bench -- cross_entropy/                   # one kernel: the filter matches `kernel/shape/adapter`
//! cargo bench -- 50257                            # one shape
//! WGPU_BACKEND=vulkan WGPU_ADAPTER_NAME=llvmpipe cargo bench -- --quick
//! ```
//!
//! Each kernel is checked against the oracle before it is timed; one that is wrong is not timed, and the run ends with
//! exit code 1. `cargo test --benches` runs everything once, at tiny shapes. Without an adapter there is nothing to do.

mod binary_counts;
mod binary_cross_entropy;
mod class_counts;
mod class_weights;
mod cost_gather;
mod cross_entropy;
mod cross_entropy_backward;
mod cross_entropy_forward;
mod data;
mod denominator;
mod loss_total;
#[path = "../measure/mod.rs"]
mod measure;
mod support;

use std::process::ExitCode;
use std::time::Duration;

use criterion::Criterion;
use support::{Kernel, SAMPLES, Session};
use wgpu_cross_entropy::{DeviceOptions, Gpu};

/// In the order of the flow; those that read no logits come first.
const KERNELS: [Kernel; 12] = [
    class_counts::KERNEL,
    class_weights::KERNEL,
    denominator::KERNEL,
    loss_total::KERNEL,
    loss_total::CLASSES,
    loss_total::CLASSES_SKEWED,
    cost_gather::KERNEL,
    cross_entropy::KERNEL,
    cross_entropy_forward::KERNEL,
    cross_entropy_backward::KERNEL,
    binary_counts::KERNEL,
    binary_cross_entropy::KERNEL,
];

fn main() -> ExitCode {
    let gpu = match Gpu::new_blocking(&DeviceOptions::default()) {
        Ok(gpu) => gpu,
        Err(error) => {
            // No failure: a machine without an adapter can still run the other tests and benches.
            eprintln!("{error}");
            return ExitCode::SUCCESS;
        }
    };
    // A GPU is steady and a software device slow: few short samples tell as much as many.
    let mut criterion = Criterion::default()
        .sample_size(SAMPLES)
        .warm_up_time(Duration::from_millis(150))
        .measurement_time(Duration::from_millis(500))
        .nresamples(2_000)
        .without_plots()
        .configure_from_args();
    let mut session = match Session::new(gpu) {
        Ok(session) => session,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    for kernel in &KERNELS {
        session.bench(&mut criterion, kernel);
    }
    criterion.final_summary();
    session.finish()
}
