//! The same bits every time: 1,000 runs, after a restart, and what each adapter gave when this was written; and as much
//! memory after many plans and steps as after few.

use crate::support::{Batch, all_gpus, full_spec, gpus, record};
use std::process::Command;
use wgpu_cross_entropy::kernels::TableLayout;
use wgpu_cross_entropy::wgsl::{Stage, source};
use wgpu_cross_entropy::{BoundStep, CrossEntropy, Gpu, Options, Shape, WeightScheme};

/// Which adapter's driver gave which bits for which text of the shader. Another driver or text may give others: those are
/// printed, to be entered here.
const DIGESTS: [(&str, u64, u64); 3] = [
    (
        "SwiftShader Device (Subzero) (vulkan, SwiftShader driver)",
        0x136b_5a6c_9798_79ff,
        0x2e51_3a41_8ddd_db04,
    ),
    (
        "llvmpipe (LLVM 15.0.6, 256 bits) (vulkan, llvmpipe Mesa 22.3.6 (LLVM 15.0.6))",
        0x136b_5a6c_9798_79ff,
        0xe611_840a_4bf9_6019,
    ),
    (
        "llvmpipe (LLVM 15.0.6, 256 bits) (gl, 4.5 (Core Profile) Mesa 22.3.6)",
        0x3e07_fd1d_c9cd_0fec,
        0xe611_840a_4bf9_6019,
    ),
];

/// Of bytes, 64 bits (FNV-1a).
fn digest(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A plan with its buffers.
struct Trainer<'a> {
    gpu: &'a Gpu,
    plan: CrossEntropy,
    step: BoundStep,
    grads: wgpu::Buffer,
}

impl<'a> Trainer<'a> {
    fn new(gpu: &'a Gpu, batch: &Batch) -> Self {
        let plan = CrossEntropy::new(&gpu.device, &batch.spec, batch.shape, &Options::default()).unwrap();
        let buffer = |bytes: &[u8]| {
            let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes.len() as u64,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: true,
            });
            buffer.get_mapped_range_mut(..).unwrap().copy_from_slice(bytes);
            buffer.unmap();
            buffer
        };
        let logits = buffer(bytemuck::cast_slice(&batch.logits));
        let labels = buffer(bytemuck::cast_slice(&batch.labels));
        let weights = batch.sample_weights.as_ref().map(|weights| buffer(bytemuck::cast_slice(weights)));
        let grads = buffer(&vec![0; batch.logits.len() * 4]);
        let step = plan
            .bind(
                &gpu.device,
                &wgpu_cross_entropy::Batch {
                    logits: logits.as_entire_buffer_binding(),
                    targets: labels.as_entire_buffer_binding(),
                    sample_weights: weights.as_ref().map(wgpu::Buffer::as_entire_buffer_binding),
                    grad_out: None,
                    external_denominator: None,
                    logit_grads: Some(grads.as_entire_buffer_binding()),
                },
            )
            .unwrap();
        Self { gpu, plan, step, grads }
    }

    fn run(&self) {
        record(self.gpu, |encoder| self.plan.encode(encoder, &self.step));
    }

    fn wait(&self) {
        self.gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    }

    /// Table, row losses and gradients after a step.
    fn bytes(&self) -> Vec<u8> {
        self.run();
        let config = self.plan.config();
        let sizes = [
            (self.plan.table(), TableLayout::new(config.spec(), config.shape()).size()),
            (self.plan.row_losses(), u64::from(config.shape().rows) * 4),
            (&self.grads, self.grads.size()),
        ];
        let read = |(buffer, size)| {
            let read = wgpu_cross_entropy::read(&self.gpu.device, &self.gpu.queue, "bytes", buffer, size);
            pollster::block_on(read).unwrap()
        };
        sizes.into_iter().flat_map(read).collect()
    }
}

/// Live weights, sample weights, costs: every kernel of the flow, over a tail of a workgroup.
fn batch() -> Batch {
    let spec = wgpu_cross_entropy::Spec { class_weights: WeightScheme::Balanced.into(), ..full_spec(10) };
    Batch::random(11, &spec, Shape::new(133, 10)).without_grad_out()
}

/// One line an adapter: what a fresh process prints of itself.
fn digests() -> Vec<String> {
    let line = |gpu| {
        let trainer = Trainer::new(gpu, &batch());
        format!("digest {:016x} {}", digest(&trainer.bytes()), gpu.describe())
    };
    gpus().map(line).collect()
}

#[test]
fn a_thousand_runs() {
    for gpu in gpus() {
        let trainer = Trainer::new(gpu, &batch());
        let first = trainer.bytes();
        for run in 1..1000 {
            assert!(trainer.bytes() == first, "{}: run {run}", gpu.describe());
        }
        println!("again: {}: 1000 runs, the same {} bytes", gpu.describe(), first.len());
    }
}

#[test]
fn digests_of_adapters() {
    for gpu in gpus() {
        let trainer = Trainer::new(gpu, &batch());
        let stage = Stage::CrossEntropy;
        let text = digest(source(stage, &trainer.plan.config().variant_of(stage)).text.as_bytes());
        let (name, got) = (gpu.describe(), digest(&trainer.bytes()));
        match DIGESTS.iter().find(|(adapter, of, _)| *adapter == name && *of == text) {
            Some((.., want)) => {
                assert_eq!(got, *want, "{name}: {got:#x}");
                println!("again: {name}: {got:#018x}, as it was");
            }
            None => println!("again: not known: (\"{name}\", {text:#x}, {got:#x}),"),
        }
    }
}

/// Runs one ignored test of this file in a process of its own, and gives what it printed.
fn child(test: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("again::{test}"), "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    printed
}

#[test]
fn after_a_restart() {
    // Lines of the other process, whatever the test harness prints around them.
    let printed = child("print_digests");
    let theirs: Vec<&str> =
        printed.lines().filter_map(|line| line.find("digest ").map(|at| &line[at..])).collect();
    assert_eq!(theirs, digests());
}

#[test]
#[ignore = "what `after_a_restart` starts"]
fn print_digests() {
    digests().into_iter().for_each(|line| println!("{line}"));
}

/// Bytes of memory that this process has.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// What wgpu holds on a device: buffers, bind groups, pipelines, shaders.
fn held(gpu: &Gpu) -> [isize; 4] {
    let counters = gpu.device.get_internal_counters().hal;
    [&counters.buffers, &counters.bind_groups, &counters.compute_pipelines, &counters.shader_modules]
        .map(|counter| counter.read())
}

#[test]
fn plans_and_steps_leave_nothing_behind() {
    let printed = child("soak");
    printed.lines().filter(|line| line.contains("soak:")).for_each(|line| println!("{line}"));
    assert!(printed.contains("soak:"), "{printed}");
}

/// Many plans, then many steps of one: as many as `WGPU_CROSS_ENTROPY_SOAK_PLANS` and `WGPU_CROSS_ENTROPY_SOAK_STEPS` say.
#[test]
#[ignore = "what `plans_and_steps_leave_nothing_behind` starts: memory is a process's"]
fn soak() {
    let number = |name: &str, usual: usize| {
        std::env::var(name)
            .map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
    };
    let plans = number("WGPU_CROSS_ENTROPY_SOAK_PLANS", 100);
    let steps = number("WGPU_CROSS_ENTROPY_SOAK_STEPS", 3_000);
    let gpu =
        all_gpus().iter().find(|gpu| gpu.info.name.contains("llvmpipe")).or(all_gpus().first()).unwrap();
    let small = Batch::random(1, &wgpu_cross_entropy::Spec::default(), Shape::new(1, 2)).without_grad_out();
    let began = std::time::Instant::now();
    let make = |many: usize| {
        for _ in 0..many {
            let trainer = Trainer::new(gpu, &small);
            trainer.run();
            trainer.wait();
        }
    };
    // A tenth first: caches and arenas fill.
    make(plans / 10);
    let (memory, objects) = (resident(), held(gpu));
    make(plans);
    report(gpu, "plans made and dropped", plans, memory, objects, began);

    let trainer = Trainer::new(gpu, &small);
    let run = |many: usize| {
        for number in 0..many {
            trainer.run();
            if number % 16 == 15 {
                trainer.wait();
            }
        }
        trainer.wait();
    };
    run(steps / 10);
    let (memory, objects) = (resident(), held(gpu));
    run(steps);
    report(gpu, "steps", steps, memory, objects, began);
}

/// Memory may move by the size of an arena, not with the number of plans or steps.
fn report(
    gpu: &Gpu,
    what: &str,
    many: usize,
    before: Option<u64>,
    objects: [isize; 4],
    began: std::time::Instant,
) {
    let after = resident();
    println!(
        "soak: {many} {what} on {}: {:?} -> {:?} bytes resident; buffers, bind groups, pipelines, shaders {objects:?} -> \
         {:?}; {:.0} s",
        gpu.info.name,
        before.unwrap_or_default(),
        after.unwrap_or_default(),
        held(gpu),
        began.elapsed().as_secs_f64(),
    );
    assert_eq!(held(gpu), objects, "{what}: wgpu holds more");
    let most = before.unwrap_or_default() + (16 << 20);
    assert!(after.unwrap_or_default() <= most, "{what}: memory grew");
}
