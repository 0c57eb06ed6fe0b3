//! Batches larger than a binding: cut into tiles, with the bits of a batch that is not.

use crate::noop;
use crate::support::{Batch, POISON, full_spec};
use proptest::prelude::*;
use proptest::sample::select;
use std::time::Instant;
use wgpu_cross_entropy::error::PlanError;
use wgpu_cross_entropy::wgsl::{self, grid};
use wgpu_cross_entropy::{
    Capabilities, CrossEntropy, DeviceOptions, Dtype, Gpu, Options, Reduction, Shape, Spec, Targets, Totals,
    tiles_of_logits, tiles_of_rows,
};

/// What WebGPU promises, SwiftShader, lavapipe (128 MiB at 32), a GPU (2 GiB - 4), a device with nearly nothing.
fn devices() -> impl Strategy<Value = Capabilities> {
    let with = |max_binding_size, offset_alignment, max_groups| Capabilities {
        max_binding_size,
        offset_alignment,
        max_groups,
        ..Capabilities::default()
    };
    select(vec![
        with(128 << 20, 256, 65_535),
        with(1 << 30, 256, 65_535),
        with(128 << 20, 32, 65_535),
        with((2 << 30) - 4, 16, 65_535),
        with(u64::MAX, 4, u32::MAX),
        with(64 << 10, 256, 128),
    ])
}

/// Up to 2^32 rows, up to 2^24 classes, any padding; class-first blocks.
fn shapes() -> impl Strategy<Value = Shape> {
    let sizes = || prop_oneof![1u32..50, 1u32..100_000, 1u32..1 << 24];
    let class_last = (prop_oneof![0u32..9, any::<u32>()], sizes(), prop_oneof![Just(0u32), 1u32..300])
        .prop_map(|(rows, classes, padding)| Shape::new(rows, classes).with_row_stride(classes + padding));
    let class_first = (1u32..2000, 1u32..300, 1u32..100_000, prop_oneof![Just(0u32), 1u32..300]).prop_map(
        |(outer, classes, inner, padding)| {
            let shape = Shape::class_first(outer, classes, inner);
            shape.with_row_stride(shape.row_stride + padding)
        },
    );
    prop_oneof![3 => class_last, 1 => class_first]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Tiles follow each other from the first row to the last; whatever a tile's bindings start at, they fit, and an index
    /// in them fits 32 bits. Or one row, block or group is too large by itself, and that is said.
    #[test]
    fn tiles_cover_every_row_once_and_fit(
        caps in devices(),
        shape in shapes(),
        bytes in select(vec![4u64, 12, 16, 32]),
        group in select(vec![1u32, 64]),
    ) {
        prop_assume!(shape.check().is_ok());
        let usable = caps.max_binding_size.min(1 << 31) - u64::from(caps.offset_alignment);
        // As many tiles as there are rows of the largest kind would be slow to list, here as in a training step.
        let rows_a_tile = (usable / (u64::from(shape.row_stride) * 4)).max(1) * u64::from(shape.inner);
        prop_assume!(u64::from(shape.rows) / rows_a_tile < 1 << 20);
        match tiles_of_logits(&shape, &caps, bytes, group) {
            Ok(tiles) => {
                let mut next = 0u64;
                for tile in &tiles {
                    prop_assert_eq!(u64::from(tile.first_row), next);
                    prop_assert!(tile.rows > 0 && tile.first_row.is_multiple_of(shape.inner));
                    prop_assert!(tile.first_row.is_multiple_of(group));
                    next += u64::from(tile.rows);
                    let logits = Shape { rows: tile.rows, ..shape }.logits_len() * 4;
                    prop_assert!(logits <= usable, "{} bytes of logits", logits);
                    prop_assert!(u64::from(tile.rows) * bytes <= usable);
                }
                prop_assert_eq!(next, u64::from(shape.rows));
            }
            Err(error) => {
                let inner = u64::from(shape.inner);
                let least = inner.max(u64::from(group) * inner);
                let block = least / inner * u64::from(shape.row_stride) * 4;
                prop_assert!(block.max(least * bytes) > usable, "{} for {} bytes", error, block);
            }
        }
        let tiles = tiles_of_rows(shape.rows, &caps, bytes);
        let mut next = 0u64;
        for tile in &tiles {
            prop_assert_eq!(u64::from(tile.first_row), next);
            next += u64::from(tile.rows);
            prop_assert!(u64::from(tile.rows) * bytes <= usable || tiles.len() as u64 * 4096 >= u64::from(shape.rows));
        }
        prop_assert_eq!(next, u64::from(shape.rows));
    }

    /// A grid has as many workgroups as are needed, in each dimension no more than the device takes, and few too many.
    #[test]
    fn grids_are_legal(groups in prop_oneof![0u64..200_000, any::<u32>().prop_map(u64::from)]) {
        let (x, y) = grid(groups, 65_535);
        prop_assert!(x <= 65_535 && y <= 65_537, "{x} x {y}");
        prop_assert!(u64::from(x) * u64::from(y) >= groups);
        if groups <= 65_535 * 65_535 {
            prop_assert!(y <= 65_535 && u64::from(x) * u64::from(y) < groups + 65_535);
        }
    }
}

/// Whole plans on a made-up device that computes nothing, but whose limits wgpu checks at each call: of every strategy,
/// type of logits and kind of loss, on batches of many tiles. Nothing that is made or recorded is refused.
#[test]
fn whole_plans_keep_to_the_limits_of_a_device() {
    let with = |binding: u64, invocations, groups, alignment| wgpu::Limits {
        max_storage_buffer_binding_size: binding,
        max_compute_invocations_per_workgroup: invocations,
        max_compute_workgroup_size_x: invocations,
        max_compute_workgroups_per_dimension: groups,
        min_storage_buffer_offset_alignment: alignment,
        ..wgpu::Limits::defaults()
    };
    // WebGPU's defaults otherwise: 16 KiB of workgroup memory, 8 storage buffers in a dispatch.
    let devices =
        [with(64 << 10, 256, 65_535, 256), with(96 << 10, 64, 300, 32), with(1 << 20, 1024, 200, 256)];
    let plain = Spec::default();
    let specs =
        [plain.clone(), full_spec(40), Spec { targets: Targets::Soft, ignore_index: None, ..full_spec(40) }];
    let shapes =
        [Shape::new(6_000, 40), Shape::new(3_000, 40).with_row_stride(50), Shape::class_first(30, 40, 128)];
    let (mut plans, mut refused, mut most_tiles) = (0, 0, 0);
    for limits in devices {
        assert_eq!(
            (limits.max_compute_workgroup_storage_size, limits.max_storage_buffers_per_shader_stage),
            (16384, 8)
        );
        let options =
            wgpu::NoopBackendOptions { limits: Some(limits.clone()), ..wgpu::NoopBackendOptions::enabled() };
        let (device, queue) = noop(options, &limits);
        let strategies = wgsl::Strategy::ALL.into_iter().map(Some).chain([None]);
        let dtypes = [Dtype::F32, Dtype::F16, Dtype::Bf16];
        for (strategy, dtype) in strategies.flat_map(|strategy| dtypes.map(|dtype| (strategy, dtype))) {
            for (spec, shape) in specs.iter().flat_map(|spec| shapes.iter().map(move |shape| (spec, *shape)))
            {
                for in_place in [false, true] {
                    let options = Options { strategy, dtype, in_place, ..Options::default() };
                    let plan = match CrossEntropy::new(&device, spec, shape, &options) {
                        Ok(plan) => plan,
                        // Not every strategy takes every layout.
                        Err(PlanError::Option { .. } | PlanError::Limit { .. }) if strategy.is_some() => {
                            refused += 1;
                            continue;
                        }
                        Err(error) => panic!("{error}: {options:?} {shape:?} {spec:?}"),
                    };
                    let batch = Batch::random(1, spec, shape).without_grad_out();
                    let tiles = tiles_of_logits(&shape, plan.config().capabilities(), 4, 1).unwrap().len();
                    // What wgpu has against a bind group, a dispatch or a submission comes back.
                    if let Err(error) = plan.compute_blocking(&device, &queue, &batch.inputs()) {
                        panic!("{error}: {options:?} {shape:?} {spec:?}");
                    }
                    plans += 1;
                    most_tiles = most_tiles.max(tiles);
                }
            }
        }
    }
    println!("{plans} plans of up to {most_tiles} tiles, {refused} refused with a reason");
    assert!(plans > 100 && most_tiles > 10);
}

/// Bytes that processes can still have, where the system says so.
fn available_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// Logits beyond a gibibyte, gradients over them, on the first Vulkan adapter with bindings of 128 MiB: every row's loss
/// and gradients are the bits that it has in a batch of its own, that needs no tiles. Takes three gibibytes of memory, and
/// is left out, with a word, where there are not four, or no lavapipe.
#[test]
fn a_gibibyte_of_logits() {
    if available_memory().is_some_and(|bytes| bytes < 4 << 30) {
        println!("size: left out: less than 4 GiB of memory are free");
        return;
    }
    let gpus = pollster::block_on(Gpu::all(&DeviceOptions::default()));
    let wanted = |gpu: &&Gpu| gpu.info.backend == wgpu::Backend::Vulkan && gpu.info.name.contains("llvmpipe");
    let Some(gpu) = gpus.iter().find(wanted) else {
        println!("size: left out: there is no lavapipe");
        return;
    };
    let (classes, period, times) = (1000, 1000, 280);
    let spec = Spec { reduction: Reduction::Sum, ..Spec::default() };
    let options = Options { in_place: true, ..Options::default() };
    let small = Batch::random(3, &spec, Shape::new(period, classes)).without_grad_out();
    let plan = CrossEntropy::new(&gpu.device, &spec, small.shape, &options).unwrap();
    let want = plan.compute_blocking(&gpu.device, &gpu.queue, &small.inputs()).unwrap();
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();

    let began = Instant::now();
    let shape = Shape::new(period * times, classes);
    let plan = CrossEntropy::new(&gpu.device, &spec, shape, &options).unwrap();
    let block = u64::from(period * classes) * 4;
    let size = block * u64::from(times);
    let buffer = |size| {
        gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    };
    let (logits, labels) = (buffer(size), buffer(u64::from(period * times) * 4));
    let wait = || gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    for time in 0..u64::from(times) {
        gpu.queue.write_buffer(&logits, time * block, bytemuck::cast_slice(&small.logits));
        gpu.queue.write_buffer(&labels, time * u64::from(period) * 4, bytemuck::cast_slice(&small.labels));
        // What is written is kept until the queue moves.
        gpu.queue.submit([]);
        wait();
    }
    let step = plan
        .bind(
            &gpu.device,
            &wgpu_cross_entropy::Batch {
                logits: logits.as_entire_buffer_binding(),
                targets: labels.as_entire_buffer_binding(),
                sample_weights: None,
                grad_out: None,
                external_denominator: None,
                logit_grads: None,
            },
        )
        .unwrap();
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    plan.encode(&mut encoder, &step);
    gpu.queue.submit([encoder.finish()]);
    wait();
    let seconds = began.elapsed().as_secs_f64();

    let read = |buffer: &wgpu::Buffer, size| {
        pollster::block_on(wgpu_cross_entropy::read(&gpu.device, &gpu.queue, "size", buffer, size)).unwrap()
    };
    let losses: Vec<u32> =
        bytemuck::pod_collect_to_vec(&read(plan.row_losses(), u64::from(period * times) * 4));
    let small_losses = bits(&want.row_losses);
    assert!(losses.chunks(period as usize).all(|losses| losses == small_losses), "row losses");
    let piece = buffer(block);
    let small_grads = bits(&want.logit_grads);
    assert!(!small_grads.contains(&POISON));
    for time in 0..u64::from(times) {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&logits, time * block, &piece, 0, block);
        gpu.queue.submit([encoder.finish()]);
        let grads: Vec<u32> = bytemuck::pod_collect_to_vec(&read(&piece, block));
        assert!(grads == small_grads, "gradients of block {time}");
    }
    let totals = Totals::from_bytes(&read(plan.table(), 64)).unwrap();
    assert_eq!(totals.valid_rows, want.totals.valid_rows * times);
    println!(
        "size: {}: {size} bytes of logits ({} rows of {classes}), {} dispatches, upload and step {seconds:.1} s; \
         all bits as those of {period} rows",
        gpu.describe(),
        shape.rows,
        step.dispatches(),
    );
}
