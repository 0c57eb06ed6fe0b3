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
mod checks;
mod faults;
mod fuzz;
mod input;
mod memory;
mod poison;
mod safety;
mod size;
mod threads;

use wgpu_cross_entropy::Gpu;

/// Some values of a strategy, the same in every run.
fn draw<S: proptest::strategy::Strategy>(seed: u8, many: usize, strategy: S) -> Vec<S::Value> {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..many).map(|_| strategy.new_tree(&mut runner).expect("a value").current()).collect()
}

/// A made-up device that computes nothing.
pub fn noop(options: wgpu::NoopBackendOptions, limits: &wgpu::Limits) -> (wgpu::Device, wgpu::Queue) {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::NOOP;
    // With the default flags no buffer may have more than 4 GiB.
    descriptor.flags = wgpu::InstanceFlags::empty();
    descriptor.backend_options.noop = options;
    let instance = wgpu::Instance::new(descriptor);
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))
        .expect("a no-op adapter");
    let wanted = wgpu::DeviceDescriptor { required_limits: limits.clone(), ..Default::default() };
    pollster::block_on(adapter.request_device(&wanted)).expect("a no-op device")
}

/// Another device of the same adapter, for tests that break theirs, or count what wgpu makes on it.
pub fn own_device(gpu: &Gpu) -> Gpu {
    let backends = wgpu::Backends::from(gpu.info.backend);
    let options = wgpu_cross_entropy::DeviceOptions {
        adapter_name: Some(gpu.info.name.clone()),
        backends: Some(backends),
    };
    let own = Gpu::new_blocking(&options).expect("the adapter opens twice");
    assert_eq!(own.describe(), gpu.describe());
    own
}
