//! An engine with its own device, its own pipelines and one pool of memory takes this crate's text and dispatches alone.
//!
//! All bindings are `read_write` ranges of a single pool buffer, as in engines that bind every tensor alike. Everything
//! is checked against the oracle; the exit code is 1 where anything differs by more than its tolerance.
//!
//! ```sh
//! cargo run --release --example embed_text
//! ```

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::process::ExitCode;

use wgpu_cross_entropy::tolerance::{Worst, tolerances};
use wgpu_cross_entropy::wgsl::Embedding;
use wgpu_cross_entropy::{
    Capabilities, Config, FlowDispatch, Inputs, Options, SampleWeights, Shape, Slot, Spec, Visits,
    WeightScheme, cpu, flow, wgpu,
};

/// The engine: a device, one pool of memory, and its own cache of pipelines. It knows nothing of losses.
pub struct Engine {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pool: wgpu::Buffer,
    /// Bytes of the pool that are given away.
    used: u64,
    pipelines: HashMap<String, wgpu::ComputePipeline>,
}

/// A range of the pool.
#[derive(Clone, Copy, Debug)]
struct Range {
    offset: u64,
    size: u64,
}

impl Engine {
    /// Opens a device as an engine would, with what the adapter offers.
    pub async fn new(adapter: &wgpu::Adapter) -> Result<Self, wgpu::RequestDeviceError> {
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("engine"),
            required_features: adapter.features() & wgpu::Features::SUBGROUP,
            required_limits: adapter.limits(),
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await?;
        let pool = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("pool"),
            size: 4 << 20,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Ok(Self { device, queue, pool, used: 0, pipelines: HashMap::new() })
    }

    /// A range of the pool, at an offset that may be bound.
    fn allocate(&mut self, size: u64) -> Result<Range, String> {
        let align = u64::from(self.device.limits().min_storage_buffer_offset_alignment);
        let (offset, size) = (self.used, size.next_multiple_of(4));
        self.used = (offset + size).next_multiple_of(align);
        match self.used <= self.pool.size() {
            true => Ok(Range { offset, size }),
            false => Err(format!("the pool holds {} bytes; {} are needed", self.pool.size(), self.used)),
        }
    }

    fn upload(&mut self, bytes: &[u8]) -> Result<Range, String> {
        let range = self.allocate(bytes.len() as u64)?;
        self.queue.write_buffer(&self.pool, range.offset, bytes);
        Ok(range)
    }

    /// The engine's own pipeline for a text: as many `read_write` storage buffers as it is told.
    fn pipeline(&mut self, text: &str, buffers: u32) -> wgpu::ComputePipeline {
        if let Some(pipeline) = self.pipelines.get(text) {
            return pipeline.clone();
        }
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(text.into()),
        });
        let entries: Vec<_> = (0..buffers)
            .map(|binding| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only: false },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout = self
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        self.pipelines.insert(text.to_owned(), pipeline.clone());
        pipeline
    }

    /// Records one dispatch of a step.
    fn record(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        dispatch: &FlowDispatch,
        ranges: &BTreeMap<Slot, Range>,
    ) -> Result<(), String> {
        // The parameters are the dispatch's own; a step that is recorded again and again would keep them.
        let params = self.upload(bytemuck::bytes_of(&dispatch.params))?;
        let pipeline = self.pipeline(&dispatch.source.text, dispatch.slots.len() as u32);
        let mut entries = Vec::new();
        for (binding, slot) in (0..).zip(&dispatch.slots) {
            let range = match slot {
                Slot::Params => params,
                slot => *ranges.get(slot).ok_or_else(|| format!("{slot:?} has no memory"))?,
            };
            let size = wgpu::BufferSize::new(range.size);
            let resource = wgpu::BufferBinding { buffer: &self.pool, offset: range.offset, size };
            entries.push(wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(resource) });
        }
        let bind_group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &bind_group, &[]);
        pass.dispatch_workgroups(dispatch.grid.0, dispatch.grid.1, 1);
        Ok(())
    }

    /// The only read-back, for the check.
    async fn read<T: bytemuck::Pod>(&self, range: Range) -> Result<Vec<T>, Box<dyn Error>> {
        let name = "pool";
        let bytes =
            wgpu_cross_entropy::read(&self.device, &self.queue, name, &self.pool, self.pool.size()).await?;
        let (start, end) = (range.offset as usize, (range.offset + range.size) as usize);
        Ok(bytes[start..end].chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
    }
}

/// One training step in the engine, by text alone; each output's worst element beside the oracle.
pub async fn check(
    adapter: &wgpu::Adapter,
    visits: Visits,
    options: &Options,
) -> Result<Vec<Worst>, Box<dyn Error>> {
    let mut engine = Engine::new(adapter).await?;
    let (rows, classes) = (1000u32, 12u32);
    let shape = Shape::new(rows, classes);
    let spec = Spec {
        class_weights: WeightScheme::Balanced.into(),
        sample_weights: SampleWeights::PerRow,
        ignore_index: Some(-1),
        ..Spec::default()
    };
    let logits: Vec<f32> = (0..rows * classes).map(|i| (i * 7919 % 1009) as f32 / 100.0 - 5.0).collect();
    let labels: Vec<i32> = (0..rows as i32).map(|i| if i % 17 == 0 { -1 } else { i * i % 11 }).collect();
    let sample_weights: Vec<f32> = (0..rows).map(|i| 0.5 + (i % 3) as f32).collect();

    // What the engine is told: texts, what to bind, how much to dispatch.
    let config = Config::with_capabilities(Capabilities::of(&engine.device), &spec, shape, options)?;
    let step = flow(&config, visits, &Embedding::default())?;

    let mut ranges = BTreeMap::new();
    ranges.insert(Slot::Logits, engine.upload(bytemuck::cast_slice(&logits))?);
    ranges.insert(Slot::Targets, engine.upload(bytemuck::cast_slice(&labels))?);
    ranges.insert(Slot::SampleWeights, engine.upload(bytemuck::cast_slice(&sample_weights))?);
    for &slot in step.iter().flat_map(|dispatch| &dispatch.slots) {
        if slot != Slot::Params && !ranges.contains_key(&slot) {
            let range = match slot.initial(&config) {
                Some(bytes) => engine.upload(&bytes)?,
                None => engine.allocate(slot.size(&config))?,
            };
            ranges.insert(slot, range);
        }
    }
    let mut encoder = engine.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    for dispatch in &step {
        engine.record(&mut encoder, dispatch, &ranges)?;
    }
    engine.queue.submit([encoder.finish()]);

    let inputs = Inputs {
        logits: &logits,
        labels: &labels,
        sample_weights: Some(&sample_weights),
        ..Inputs::default()
    };
    let want = cpu::compute(&spec, &shape, &inputs)?;
    let allowed = tolerances(&config, &inputs, &want);
    let loss: Vec<f32> = engine.read(ranges[&Slot::Table]).await?;
    let counts: Vec<u32> = engine.read(ranges[&Slot::ClassCounts]).await?;
    let row_losses: Vec<f32> = engine.read(ranges[&Slot::RowLosses]).await?;
    let grads: Vec<f32> = engine.read(ranges[&Slot::LogitGrads]).await?;
    Ok(vec![
        Worst::one("loss", loss[0], want.totals.loss, allowed.loss),
        Worst::counts("class_counts", &counts, want.class_counts.as_deref().unwrap_or_default()),
        Worst::of("row_losses", &row_losses, &want.row_losses, &allowed.row_losses),
        Worst::of("logit_grads", &grads, &want.logit_grads, &allowed.logit_grads),
    ])
}

fn main() -> ExitCode {
    let passed = pollster::block_on(async {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let adapter = wgpu::util::initialize_adapter_from_env_or_default(&instance, None).await?;
        println!("{} ({})", adapter.get_info().name, adapter.get_info().backend);
        let mut passed = true;
        for visits in [Visits::Fused, Visits::Split] {
            println!("{visits:?}");
            for worst in check(&adapter, visits, &Options::default()).await? {
                println!("{} {worst}", if worst.passed() { "ok  " } else { "FAIL" });
                passed &= worst.passed();
            }
        }
        Ok::<_, Box<dyn Error>>(passed)
    });
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("embed_text: {error}");
            ExitCode::FAILURE
        }
    }
}
