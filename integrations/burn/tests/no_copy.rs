//! Our kernels read burn's buffers where they are and nothing comes back to the host: counted by burn's own allocator.
//! One test, in a process of its own, for the counts are of the whole device.

use burn::backend::DispatchDevice;
use burn::tensor::{Device, Int, Tensor, TensorData};
use cubecl::MemoryScope;
use cubecl::client::Client;
use wgpu_cross_entropy_burn::wgpu_cross_entropy::{Spec, WeightScheme};
use wgpu_cross_entropy_burn::{CrossEntropyLossConfig, read_backs};

const ROWS: usize = 1 << 16;
const CLASSES: usize = 32;
const LOGITS_BYTES: u64 = (ROWS * CLASSES * 4) as u64;

fn client(device: &Device) -> Client {
    match device.as_dispatch() {
        DispatchDevice::Cube(device) => device.client(),
        other => panic!("no device of cubecl: {other:?}"),
    }
}

/// Buffers that reads were ever staged in, over all streams.
fn staged(client: &Client) -> u64 {
    let report = client.memory_report(MemoryScope::Device);
    let pools = report.streams.iter().flat_map(|stream| &stream.auxiliary);
    let staging = pools.filter(|memory| memory.name.contains("Staging")).map(|memory| &memory.pools);
    let pools = staging.flat_map(|pools| pools.dynamic.iter().chain([&pools.persistent, &pools.dedicated]));
    pools.map(|pool| pool.pages_peak).sum()
}

/// Pages that could hold the logits and ever were in use at once, over all streams.
fn large(client: &Client) -> u64 {
    let report = client.memory_report(MemoryScope::Device);
    let pools = report.streams.iter().flat_map(|stream| &stream.pools.dynamic);
    pools.filter(|pool| pool.largest_alloc >= LOGITS_BYTES).map(|pool| pool.pages_peak).sum()
}

#[test]
fn no_copy_and_no_read_back() {
    let plain = Device::wgpu(Default::default());
    let device = plain.clone().autodiff();
    let values: Vec<f32> = (0..ROWS * CLASSES).map(|i| (i * 733 % 1013) as f32 / 100.0 - 5.0).collect();
    let classes: Vec<i32> = (0..ROWS as i32).map(|i| i * 7 % 31).collect();
    let logits: Tensor<2> =
        Tensor::from_data(TensorData::new(values, [ROWS, CLASSES]), &device).require_grad();
    let classes: Tensor<1, Int> = Tensor::from_data(TensorData::new(classes, [ROWS]), &device);
    let spec = Spec { class_weights: WeightScheme::Balanced.into(), ..Spec::default() };
    let loss = CrossEntropyLossConfig::new(spec, CLASSES).init(&device);
    device.sync().expect("a device");
    let client = client(&plain);
    let in_use = || client.memory_report(MemoryScope::Device).usage().bytes_in_use;
    let (before, bytes, pages) = (read_backs(), in_use(), large(&client));
    assert_eq!(pages, 1, "the logits are in a page of their own");

    let value = loss.forward(logits.clone(), classes.clone());
    let grads = value.backward();
    device.sync().expect("forward and backward");
    // In use at the end are the gradients and next to nothing else. Of pages that are as large there never were more than
    // three: the logits', the gradients', and one for what is kept of rows (36 bytes each), without room for a copy that
    // backward reads.
    let taken = in_use() - bytes;
    println!("{taken} bytes for {LOGITS_BYTES} of logits");
    assert!((LOGITS_BYTES..LOGITS_BYTES + LOGITS_BYTES / 64).contains(&taken), "{taken}");
    assert_eq!(large(&client), 3, "logits were copied");
    assert_eq!(staged(&client), 0, "something was read back");
    assert_eq!(read_backs(), before);

    // The count counts: a read is seen.
    let read = logits.grad(&grads).expect("tracked logits").into_data();
    assert!(read.iter::<f32>().any(|grad| grad != 0.0) && value.into_scalar::<f32>() > 0.0);
    assert!(staged(&client) > 0);

    // Where the oracle stands in, it reads.
    let device = Device::flex().autodiff();
    let logits: Tensor<2> = Tensor::zeros([4, CLASSES], &device).require_grad();
    let classes: Tensor<1, Int> = Tensor::zeros([4], &device);
    let loss = CrossEntropyLossConfig::new(Spec::default(), CLASSES).init(&device);
    let _ = loss.forward(logits, classes).backward();
    assert!(read_backs() > before);
}
