//! Faults come as typed errors: no panic, no hang, nothing left behind, and a new plan works afterwards.

use crate::support::{Batch, Guarded, POISON, full_spec, gpus};
use crate::{noop, own_device};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use wgpu_cross_entropy::error::{BindError, DeviceError, HostError, PlanError};
use wgpu_cross_entropy::{
    BinaryConfig, BinaryCrossEntropy, BinaryOptions, BinarySpec, Config, CrossEntropy, DeviceOptions, Gpu,
    Inputs, Options, Shape, Spec, compute_blocking, read, read_within,
};

fn batch() -> Batch {
    Batch::random(3, &full_spec(9), Shape::new(130, 9)).without_grad_out()
}

/// A new plan on this device agrees with the oracle.
fn works(gpu: &Gpu) {
    let batch = batch();
    let plan = CrossEntropy::new(&gpu.device, &batch.spec, batch.shape, &Options::default()).unwrap();
    let validation = plan.validate_blocking(&gpu.device, &gpu.queue, &batch.inputs()).unwrap();
    assert!(validation.passed(), "{}\n{validation}", gpu.describe());
}

struct Bound {
    plan: CrossEntropy,
    step: wgpu_cross_entropy::BoundStep,
    grads: Guarded,
    inputs: Vec<Guarded>,
}

fn bind(gpu: &Gpu, batch: &Batch) -> Bound {
    let plan = CrossEntropy::new(&gpu.device, &batch.spec, batch.shape, &Options::default()).unwrap();
    let inputs = vec![
        Guarded::floats(gpu, 0, &batch.logits),
        batch.targets(gpu, 0),
        Guarded::floats(gpu, 0, batch.sample_weights.as_ref().unwrap()),
    ];
    let grads = Guarded::output(gpu, 0, batch.logits.len());
    let step = plan.bind(&gpu.device, &of(&inputs, &grads)).unwrap();
    Bound { plan, step, grads, inputs }
}

fn of<'a>(inputs: &'a [Guarded], grads: &'a Guarded) -> wgpu_cross_entropy::Batch<'a> {
    wgpu_cross_entropy::Batch {
        logits: inputs[0].binding(),
        targets: inputs[1].binding(),
        sample_weights: Some(inputs[2].binding()),
        grad_out: None,
        external_denominator: None,
        logit_grads: Some(grads.binding()),
    }
}

fn submit(gpu: &Gpu, bound: &Bound) {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    bound.plan.encode(&mut encoder, &bound.step);
    gpu.queue.submit([encoder.finish()]);
}

/// The device is destroyed with a step under way: whatever is asked of it then is answered by an error.
#[test]
fn a_device_lost_in_the_middle_of_a_step() {
    for gpu in gpus() {
        let own = own_device(gpu);
        let batch = batch();
        let bound = bind(&own, &batch);
        submit(&own, &bound);
        own.device.destroy();
        // Recording and submitting go on without a word, as wgpu has it.
        submit(&own, &bound);
        let of_table = pollster::block_on(read(&own.device, &own.queue, "table", bound.plan.table(), 64));
        assert_eq!(of_table, Err(HostError::DeviceLost { name: "table" }), "{}", own.describe());
        let computed = bound.plan.compute_blocking(&own.device, &own.queue, &batch.inputs());
        let lost = |error: &HostError| {
            use HostError as E;
            matches!(
                error,
                E::DeviceLost { .. } | E::Plan(PlanError::DeviceLost) | E::Bind(BindError::DeviceLost)
            )
        };
        assert!(computed.as_ref().is_err_and(lost), "{computed:?}");
        let stats = pollster::block_on(bound.plan.save_history(&own.device, &own.queue));
        assert_eq!(stats, Ok(None));
        let rebound = bound.plan.bind(&own.device, &of(&bound.inputs, &bound.grads));
        assert_eq!(rebound.map(|_| ()), Err(BindError::DeviceLost));
        let plan = CrossEntropy::new(&own.device, &batch.spec, batch.shape, &Options::default());
        assert_eq!(plan.map(|_| ()).unwrap_err(), PlanError::DeviceLost);
        let shape = Shape::new(4, 3);
        let plan =
            BinaryCrossEntropy::new(&own.device, &BinarySpec::default(), shape, &BinaryOptions::default());
        assert_eq!(plan.map(|_| ()).unwrap_err(), PlanError::DeviceLost);
        drop(bound);
        drop(own);
        works(&own_device(gpu));
        println!("{}: lost in the middle of a step: typed errors; a new device works", gpu.describe());
    }
}

/// An adapter whose driver says that its memory is used up: wgpu's own thresholds, at 0 %.
fn without_memory(gpu: &Gpu) -> Option<Gpu> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN;
    descriptor.memory_budget_thresholds.for_resource_creation = Some(0);
    let backends = descriptor.backends;
    let adapters = pollster::block_on(wgpu::Instance::new(descriptor).enumerate_adapters(backends));
    let same = adapters.into_iter().find(|adapter| {
        let info = adapter.get_info();
        (info.name.as_str(), info.backend) == (gpu.info.name.as_str(), gpu.info.backend)
    })?;
    pollster::block_on(Gpu::open(&same)).ok()
}

#[test]
fn out_of_memory() {
    let mut seen = 0;
    for gpu in gpus() {
        let Some(poor) = without_memory(gpu) else { continue };
        let made = CrossEntropy::new(&poor.device, &Spec::default(), Shape::new(64, 8), &Options::default());
        match made {
            Err(PlanError::Allocate { name: "table", size, message }) => {
                assert_eq!(size, 64 + 8 * 8);
                assert!(message.contains("ut of memory"), "{message}");
                seen += 1;
            }
            // Some drivers say nothing of their memory, and wgpu has no threshold then.
            Ok(_) => continue,
            Err(other) => panic!("{other:?}"),
        }
        let computed = compute_blocking(
            &poor.device,
            &poor.queue,
            &Spec::default(),
            Shape::new(1, 2),
            &Inputs { logits: &[0.0, 1.0], labels: &[1], ..Inputs::default() },
        );
        assert!(matches!(computed, Err(HostError::Plan(PlanError::Allocate { .. }))), "{computed:?}");
        println!("{}: out of memory: {}", gpu.describe(), computed.unwrap_err());
        works(gpu);
    }
    // A made-up device allocates on the host, and no host has this much.
    let limits = wgpu::Limits {
        max_buffer_size: u64::MAX,
        max_storage_buffer_binding_size: u64::MAX,
        ..wgpu::Limits::defaults()
    };
    let options =
        wgpu::NoopBackendOptions { limits: Some(limits.clone()), ..wgpu::NoopBackendOptions::enabled() };
    let (device, _) = noop(options, &limits);
    let confusion = Options { confusion: true, ..Options::default() };
    let shape = Shape::new(1, wgpu_cross_entropy::MAX_CLASSES);
    match CrossEntropy::new(&device, &Spec::default(), shape, &confusion) {
        Err(PlanError::Allocate { name, size, .. }) => {
            assert!(name.starts_with("telemetry") && size > 1 << 39, "{name} of {size}");
            seen += 1;
        }
        // Linux may promise what it has not got, if it is told to.
        Ok(_) => {}
        Err(other) => panic!("{other:?}"),
    }
    assert!(seen > 0, "no device ran out of memory");
}

#[test]
fn a_shader_that_does_not_compile() {
    for gpu in gpus() {
        let batch = batch();
        let config = Config::new(&gpu.device, &batch.spec, batch.shape, &Options::default()).unwrap();
        for (broken, said) in [("fn main((", "expected"), ("fn other(", "main")] {
            let edited = config.clone().with_shaders(move |stage, text| {
                (stage.file() == "loss_total/rows.wgsl").then(|| text.replace("fn main(", broken))
            });
            match CrossEntropy::with_config(&gpu.device, edited) {
                Err(PlanError::Compile { kernel: "loss_total/rows.wgsl", message }) => {
                    assert!(message.contains(said), "{message}");
                    let first = message.lines().find(|line| line.contains(said)).unwrap_or_default();
                    println!("{}: loss_total/rows.wgsl: {}", gpu.describe(), first.trim());
                }
                other => panic!("{:?}", other.map(|_| ())),
            }
        }
        let binary =
            BinaryConfig::new(&gpu.device, &BinarySpec::default(), batch.shape, &BinaryOptions::default());
        let edited = binary.unwrap().with_shaders(|_, text| Some(text.replace("fn main(", "fn main((")));
        let made = BinaryCrossEntropy::with_config(&gpu.device, edited).map(|_| ());
        assert!(matches!(made, Err(PlanError::Compile { .. })), "{made:?}");
        works(gpu);
    }
}

/// Seconds of work: a shader that counts for a long time.
fn keep_busy(gpu: &Gpu) -> wgpu::SubmissionIndex {
    const LONG: &str = "
        @group(0) @binding(0) var<storage, read_write> out: array<u32>;
        @compute @workgroup_size(16)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            var x = id.x;
            for (var i = 0u; i < 60000u; i++) { x = x * 1664525u + 1013904223u; x ^= x >> 7u; }
            out[id.x & 15u] = x;
        }";
    let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(LONG.into()),
    });
    let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: Default::default(),
        cache: None,
    });
    let out = Guarded::output(gpu, 0, 16);
    let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(out.binding()),
        }],
    });
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        (0..4).for_each(|_| pass.dispatch_workgroups(128, 1, 1));
    }
    gpu.queue.submit([encoder.finish()])
}

/// A mapping that does not come in time is a time-out after just that time. What was on its way does no harm when it comes
/// after all, and nothing of it is left.
#[test]
fn a_device_that_does_not_answer() {
    for gpu in gpus() {
        let own = own_device(gpu);
        let batch = batch();
        let options = Options { timeout: Some(Duration::from_millis(20)), ..Options::default() };
        let plan = CrossEntropy::new(&own.device, &batch.spec, batch.shape, &options).unwrap();
        let buffer = Guarded::output(&own, 0, 64);
        own.queue.submit([]);
        own.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let buffers = || own.device.get_internal_counters().hal.buffers.read();
        let before = buffers();
        keep_busy(&own);
        let began = Instant::now();
        let short = Duration::from_millis(20);
        let got = pollster::block_on(read_within(&own.device, &own.queue, "long", &buffer.buffer, 64, short));
        let waited = began.elapsed();
        if got.is_ok() {
            // Mesa's software drivers compute within a submission, or let the next one wait: it is there that time goes by.
            let began = Instant::now();
            keep_busy(&own);
            own.queue.submit([own.device.create_command_encoder(&Default::default()).finish()]);
            assert!(began.elapsed() > short, "{}: done within {waited:?}", own.describe());
            println!("{}: time goes by in submissions: no time-out to be had", own.describe());
        } else {
            assert_eq!(got, Err(HostError::Timeout { seconds: 0.02 }));
            assert!(waited < Duration::from_secs(1), "{waited:?}");
            let computed = plan.compute_blocking(&own.device, &own.queue, &batch.inputs());
            assert_eq!(computed.map(|_| ()), Err(HostError::Timeout { seconds: 0.02 }));
            println!("{}: gave up after {waited:?}, of 20 ms", own.describe());
        }
        // The device comes round in the end, and has freed what was given up.
        own.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        own.queue.submit([]);
        own.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        assert_eq!(buffers(), before, "{}", own.describe());
        assert!(buffer.read(&own).iter().all(|word| *word == POISON));
        works(&own);
    }
}

/// A device without compute, made up with the limits of WebGL 2; and an adapter without, which is Mesa's GL held down to a
/// version that has none, in a process of its own ([`opened_with_an_old_gl`]).
#[test]
fn no_compute() {
    let limits = wgpu::Limits::downlevel_webgl2_defaults();
    let options =
        wgpu::NoopBackendOptions { limits: Some(limits.clone()), ..wgpu::NoopBackendOptions::enabled() };
    let (device, _) = noop(options, &limits);
    let shape = Shape::new(4, 3);
    let made = CrossEntropy::new(&device, &Spec::default(), shape, &Options::default()).map(|_| ());
    assert!(matches!(made, Err(PlanError::NoCompute { .. })), "{made:?}");
    assert_eq!(made.unwrap_err().to_string(), "the device has no compute shaders: it allows workgroups of 0");
    let made = BinaryCrossEntropy::new(&device, &BinarySpec::default(), shape, &BinaryOptions::default());
    assert!(matches!(made.map(|_| ()), Err(PlanError::NoCompute { .. })));

    if !gpus().any(|gpu| gpu.info.backend == wgpu::Backend::Gl && gpu.info.name.contains("llvmpipe")) {
        println!("there is no llvmpipe on GL here; the adapter without compute is left out");
        return;
    }
    let mut old = std::process::Command::new(std::env::current_exe().expect("a path"));
    old.args(["--ignored", "--exact", "faults::opened_with_an_old_gl", "--nocapture"]);
    old.envs([
        ("MESA_GLES_VERSION_OVERRIDE", "3.0"),
        ("MESA_GL_VERSION_OVERRIDE", "3.3"),
        ("MESA_EXTENSION_OVERRIDE", "-GL_ARB_compute_shader"),
        ("WGPU_BACKEND", "gl"),
    ]);
    let output = old.output().expect("the test binary runs");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("has no compute shaders"), "{said}");
}

#[test]
#[ignore = "runs in a process of its own, with an environment of its own, which no_compute gives it"]
fn opened_with_an_old_gl() {
    match Gpu::new_blocking(&DeviceOptions::default()) {
        Err(DeviceError::NoCompute { adapter }) => println!("{adapter} has no compute shaders"),
        other => println!("{:?}", other.map(|gpu| gpu.describe())),
    }
}

/// Whatever fails in here, the caller's error scope stays empty and the caller's handler is neither called nor replaced.
#[test]
fn errors_stay_out_of_the_callers_device() {
    for gpu in gpus() {
        let own = own_device(gpu);
        let (called, messages) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, list) = (called.clone(), messages.clone());
        own.device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            count.fetch_add(1, Ordering::Relaxed);
            list.lock().unwrap().push(error.to_string());
        }));
        let scope = own.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let batch = batch();
        let bound = bind(&own, &batch);
        // A shader, a shape, a buffer, a usage, a size, slices.
        let config = Config::new(&own.device, &batch.spec, batch.shape, &Options::default()).unwrap();
        let broken = config.with_shaders(|_, _| Some("not a shader".into()));
        assert!(CrossEntropy::with_config(&own.device, broken).is_err());
        let most = Shape::new(u32::MAX, 9);
        assert!(CrossEntropy::new(&own.device, &batch.spec, most, &Options::default()).is_err());
        let mut short = of(&bound.inputs, &bound.grads);
        short.logits.size = wgpu::BufferSize::new(64);
        assert!(bound.plan.bind(&own.device, &short).is_err());
        let secret = own.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 64,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        let unreadable = pollster::block_on(read(&own.device, &own.queue, "secret", &secret, 64));
        assert!(matches!(unreadable, Err(HostError::Read { name: "secret", .. })), "{unreadable:?}");
        let too_long =
            pollster::block_on(read(&own.device, &own.queue, "table", bound.plan.table(), 1 << 40));
        assert!(matches!(too_long, Err(HostError::Read { name: "table", .. })), "{too_long:?}");
        let no_slices = bound.plan.compute_blocking(&own.device, &own.queue, &Inputs::default());
        assert!(matches!(no_slices, Err(HostError::Input(_))), "{no_slices:?}");
        let caught = pollster::block_on(scope.pop());
        assert!(caught.is_none(), "{}: {caught:?}", own.describe());
        assert_eq!(called.load(Ordering::Relaxed), 0, "{:?}", messages.lock().unwrap());
        println!("{}: 6 calls failed, 0 errors reached the caller's scope or handler", own.describe());
        // The caller's own mistakes still reach the caller's own handler, from here and from another thread.
        let mistake = || {
            own.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: u64::MAX / 2,
                usage: wgpu::BufferUsages::STORAGE,
                mapped_at_creation: false,
            })
        };
        mistake();
        std::thread::scope(|scope| scope.spawn(|| drop(mistake())).join().expect("no panic"));
        assert_eq!(called.load(Ordering::Relaxed), 2);
        works(&own);
    }
}
