//! An engine that owns device, queue and pooled buffers records this crate's plan between passes of its own.
//!
//! Its forward pass writes logits into the pool, the plan reads them there and writes their gradients beside them, and
//! its own next pass uses those; all in one compute pass, one submission, with no read-back but the check's. The exit code
//! is 1 where anything differs from the oracle by more than its tolerance.
//!
//! ```sh
//! cargo run --release --example embed_plan
//! ```

use std::error::Error;
use std::num::NonZeroU64;
use std::process::ExitCode;

use wgpu_cross_entropy::tolerance::{U, Worst, tolerances};
use wgpu_cross_entropy::{Batch, CrossEntropy, Inputs, Options, Shape, Spec, WeightScheme, cpu, wgpu};

const ROWS: u32 = 500;
const CLASSES: u32 = 9;

/// The engine's own layers: a forward pass that writes `2 x` as logits, and an update `x - 2 rate gradient`.
const LAYERS: &str = "
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < arrayLength(&x)) { y[id.x] = 2.0 * x[id.x]; }
}

@compute @workgroup_size(64)
fn update(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < arrayLength(&x)) { x[id.x] -= 0.5 * 2.0 * y[id.x]; }
}
";

/// A range of one of the engine's buffers. Its offsets are multiples of 4, no more: the plan takes them as they are.
#[derive(Clone, Copy)]
struct Range<'a> {
    buffer: &'a wgpu::Buffer,
    offset: u64,
    size: u64,
}

impl<'a> Range<'a> {
    fn binding(self) -> wgpu::BufferBinding<'a> {
        wgpu::BufferBinding { buffer: self.buffer, offset: self.offset, size: NonZeroU64::new(self.size) }
    }

    fn entry(self, binding: u32) -> wgpu::BindGroupEntry<'a> {
        wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(self.binding()) }
    }
}

/// One training step of the engine; each output's worst element beside the oracle.
pub async fn check(adapter: &wgpu::Adapter) -> Result<Vec<Worst>, Box<dyn Error>> {
    // The engine's device, with what the engine wants of it. Subgroups are used where they are on.
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("engine"),
        required_features: adapter.features() & wgpu::Features::SUBGROUP,
        required_limits: adapter.limits(),
        ..Default::default()
    };
    let (device, queue) = adapter.request_device(&descriptor).await?;
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let pool = |label| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: 1 << 20,
            usage,
            mapped_at_creation: false,
        })
    };
    let (activations, gradients) = (pool("activations"), pool("gradients"));
    let bytes = u64::from(ROWS * CLASSES) * 4;
    let align = u64::from(device.limits().min_storage_buffer_offset_alignment);
    // The engine's own passes bind at what the device asks for; labels lie right behind the logits.
    let x = Range { buffer: &gradients, offset: (256 << 10) / align * align, size: bytes };
    let logits = Range { buffer: &activations, offset: 4 * align, size: bytes };
    let labels = Range { offset: logits.offset + bytes, size: u64::from(ROWS) * 4, ..logits };
    let grads = Range { buffer: &gradients, offset: 8 * align, size: bytes };

    let inputs_x: Vec<f32> = (0..ROWS * CLASSES).map(|i| (i * 733 % 509) as f32 / 256.0 - 1.0).collect();
    let inputs_y: Vec<i32> = (0..ROWS as i32).map(|i| i * i % 10 % 9).collect();
    queue.write_buffer(x.buffer, x.offset, bytemuck::cast_slice(&inputs_x));
    queue.write_buffer(labels.buffer, labels.offset, bytemuck::cast_slice(&inputs_y));

    // The engine's pipelines.
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("layers"),
        source: wgpu::ShaderSource::Wgsl(LAYERS.into()),
    });
    let pipeline = |entry| {
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: None,
            module: &module,
            entry_point: Some(entry),
            compilation_options: Default::default(),
            cache: None,
        })
    };
    let (forward, update) = (pipeline("forward"), pipeline("update"));
    let bind = |pipeline: &wgpu::ComputePipeline, of: [Range<'_>; 2]| {
        device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[of[0].entry(0), of[1].entry(1)],
        })
    };
    let (forward_bound, update_bound) = (bind(&forward, [x, logits]), bind(&update, [x, grads]));

    // Ours, once: the plan and its bind groups.
    let spec = Spec { class_weights: WeightScheme::Balanced.into(), ..Spec::default() };
    let shape = Shape::new(ROWS, CLASSES);
    let plan = CrossEntropy::new(&device, &spec, shape, &Options::default())?;
    let step = plan.bind(
        &device,
        &Batch {
            logits: logits.binding(),
            targets: labels.binding(),
            sample_weights: None,
            grad_out: None,
            external_denominator: None,
            logit_grads: Some(grads.binding()),
        },
    )?;

    // One step: forward, loss and gradients, update.
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&forward);
        pass.set_bind_group(0, &forward_bound, &[]);
        pass.dispatch_workgroups((ROWS * CLASSES).div_ceil(64), 1, 1);
        plan.encode_in(&mut pass, &step);
        pass.set_pipeline(&update);
        pass.set_bind_group(0, &update_bound, &[]);
        pass.dispatch_workgroups((ROWS * CLASSES).div_ceil(64), 1, 1);
    }
    queue.submit([encoder.finish()]);

    // The check.
    let doubled: Vec<f32> = inputs_x.iter().map(|x| 2.0 * x).collect();
    let inputs = Inputs { logits: &doubled, labels: &inputs_y, ..Inputs::default() };
    let want = cpu::compute(&spec, &shape, &inputs)?;
    let allowed = tolerances(plan.config(), &inputs, &want);
    let updated: Vec<f64> =
        inputs_x.iter().zip(&want.logit_grads).map(|(x, grad)| f64::from(*x) - grad).collect();
    // The engine's own subtraction is rounded.
    let of_update: Vec<f64> =
        updated.iter().zip(&allowed.logit_grads).map(|(x, allowed)| allowed + U * x.abs()).collect();
    let floats = |bytes: Vec<u8>, range: Range<'_>| -> Vec<f32> {
        let (start, end) = (range.offset as usize, (range.offset + range.size) as usize);
        bytes[start..end].chunks_exact(4).map(bytemuck::pod_read_unaligned).collect()
    };
    let held = wgpu_cross_entropy::read(&device, &queue, "gradients", &gradients, gradients.size()).await?;
    let table = wgpu_cross_entropy::read(&device, &queue, "table", plan.table(), 64).await?;
    let loss = bytemuck::pod_read_unaligned(&table[..4]);
    Ok(vec![
        Worst::one("loss", loss, want.totals.loss, allowed.loss),
        Worst::of("logit_grads", &floats(held.clone(), grads), &want.logit_grads, &allowed.logit_grads),
        Worst::of("updated", &floats(held, x), &updated, &of_update),
    ])
}

fn main() -> ExitCode {
    let passed = pollster::block_on(async {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let adapter = wgpu::util::initialize_adapter_from_env_or_default(&instance, None).await?;
        println!("{} ({})", adapter.get_info().name, adapter.get_info().backend);
        let outputs = check(&adapter).await?;
        for worst in &outputs {
            println!("{} {worst}", if worst.passed() { "ok  " } else { "FAIL" });
        }
        Ok::<_, Box<dyn Error>>(outputs.iter().all(Worst::passed))
    });
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("embed_plan: {error}");
            ExitCode::FAILURE
        }
    }
}
