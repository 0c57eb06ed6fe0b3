//! One rank's part of the training.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use mpi::traits::Communicator;
use serde::{Deserialize, Serialize};
use wgpu_cross_entropy::kernels::TableLayout;
use wgpu_cross_entropy::{
    Batch, Bound, BoundStep, CountsOver, CrossEntropy, DeviceOptions, Gpu, LiveCounts,
    Options as PlanOptions, Shape, Spec, Totals, WeightScheme, read, wgpu,
};

use crate::Failure;
use crate::checkpoint::Checkpoint;
use crate::comm::Ranks;
use crate::model::{Data, Model};

/// Rows of a step, all ranks together. 1, 2 and 4 ranks have whole shards of it.
const BATCH: usize = 256;
const HIDDEN: usize = 16;
const LEARNING_RATE: f64 = 0.3;
const MOMENTUM: f32 = 0.9;
/// Steps from checkpoint to checkpoint.
const CHECKPOINT_EVERY: u32 = 5;

#[derive(Default)]
pub struct Options {
    steps: u32,
    report: Option<PathBuf>,
    checkpoint: Option<PathBuf>,
    resume: Option<PathBuf>,
    /// The usual mistake: each rank makes weights of its own shard's counts.
    local_weights: bool,
    /// A rank, and the step in which it is killed or stopped by the named signal.
    fail: Option<(usize, u32, String)>,
    patience: Duration,
}

impl Options {
    pub fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut options = Self { steps: 60, patience: Duration::from_secs(20), ..Self::default() };
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            let mut value = || rest.next().cloned().ok_or_else(|| format!("{name} wants a value"));
            match name.as_str() {
                "--steps" => options.steps = value()?.parse()?,
                "--report" => options.report = Some(value()?.into()),
                "--checkpoint" => options.checkpoint = Some(value()?.into()),
                "--resume" => options.resume = Some(value()?.into()),
                "--local-weights" => options.local_weights = true,
                "--fail" => options.fail = Some((value()?.parse()?, value()?.parse()?, value()?)),
                "--patience" => options.patience = Duration::from_secs(value()?.parse()?),
                other => return Err(format!("what is {other}?").into()),
            }
        }
        Ok(options)
    }
}

/// What a run reports.
#[derive(Debug, Deserialize, Serialize)]
pub struct Report {
    pub ranks: usize,
    pub adapter: String,
    pub first_step: u32,
    /// One loss a step.
    pub losses: Vec<f64>,
    /// The counts of each step's whole batch; with local weights those of the first rank.
    pub class_counts: Vec<Vec<u32>>,
    /// The bits of the class weights of each step.
    pub class_weights: Vec<Vec<u32>>,
    pub parameters: Vec<f64>,
    /// Bytes that a rank hands to the all-reduces of a step.
    pub bytes: [usize; 3],
}

/// A rank's device, plan and buffers.
struct Rank {
    gpu: Gpu,
    plan: CrossEntropy,
    step: BoundStep,
    logits: wgpu::Buffer,
    labels: wgpu::Buffer,
    grads: wgpu::Buffer,
}

impl Rank {
    fn new(shape: Shape) -> Result<Self, Failure> {
        let gpu = Gpu::new_blocking(&DeviceOptions::default())?;
        let spec = Spec {
            class_weights: WeightScheme::Balanced.into(),
            live_counts: LiveCounts { over: CountsOver::Ema { momentum: MOMENTUM }, ..LiveCounts::default() },
            ..Spec::default()
        };
        let plan = CrossEntropy::new(&gpu.device, &spec, shape, &PlanOptions::default())?;
        let buffer = |label, size| {
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage: wgpu::BufferUsages::STORAGE
                    | wgpu::BufferUsages::COPY_SRC
                    | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        let size = shape.logits_len() * 4;
        let (logits, grads) = (buffer("logits", size), buffer("logit_grads", size));
        let labels = buffer("labels", u64::from(shape.rows) * 4);
        let step = plan.bind(
            &gpu.device,
            &Batch {
                logits: logits.as_entire_buffer_binding(),
                targets: labels.as_entire_buffer_binding(),
                sample_weights: None,
                grad_out: None,
                external_denominator: None,
                logit_grads: Some(grads.as_entire_buffer_binding()),
            },
        )?;
        Ok(Self { gpu, plan, step, logits, labels, grads })
    }

    fn submit(&self, steps: &[&Bound]) {
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            steps.iter().for_each(|step| step.encode(&mut pass));
        }
        self.gpu.queue.submit([encoder.finish()]);
    }

    fn read<T: bytemuck::AnyBitPattern>(&self, buffer: &wgpu::Buffer) -> Result<Vec<T>, Failure> {
        let read = read(&self.gpu.device, &self.gpu.queue, "result", buffer, buffer.size());
        let bytes = pollster::block_on(read)?;
        Ok(bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
    }
}

/// Which rows step `step` takes: a stride through all of them that no divisor of their number shares.
fn rows_of_step(step: u32, rows: usize) -> impl Iterator<Item = usize> {
    (0..BATCH).map(move |i| (step as usize * BATCH + i) * 757 % rows)
}

pub fn run(options: &Options) -> Result<(), Failure> {
    let universe = mpi::initialize().ok_or("MPI was started before")?;
    let ranks = Ranks { world: universe.world(), patience: options.patience };
    let result = run_on(&ranks, options);
    if let Err(error) = &result {
        // The others would wait for this rank.
        eprintln!("rank {}: {error}", ranks.rank());
        ranks.world.abort(1);
    }
    result
}

fn run_on(ranks: &Ranks, options: &Options) -> Result<(), Failure> {
    if BATCH % ranks.size() != 0 {
        return Err(format!("{BATCH} rows a step cannot be shared by {} ranks", ranks.size()).into());
    }
    let data = Data::wine();
    let shard = BATCH / ranks.size();
    let rank = Rank::new(Shape::new(shard as u32, data.classes as u32))?;
    let mut model = Model::new(data.features, HIDDEN, data.classes);
    let counts_buffer = rank.plan.class_counts().ok_or("live weights have counts")?;
    let queue = &rank.gpu.queue;
    let mut report = Report {
        ranks: ranks.size(),
        adapter: rank.gpu.describe(),
        first_step: 0,
        losses: Vec::new(),
        class_counts: Vec::new(),
        class_weights: Vec::new(),
        parameters: Vec::new(),
        bytes: [data.classes * 4, 4, model.parameters.len() * 8],
    };
    if let Some(path) = &options.resume {
        let checkpoint = Checkpoint::load(path)?;
        if checkpoint.parameters.len() != model.parameters.len() {
            return Err(format!("{} is of another model", path.display()).into());
        }
        rank.plan.load_history(queue, &checkpoint.history)?;
        model.parameters = checkpoint.parameters;
        report.first_step = checkpoint.step;
    }

    for step in report.first_step..options.steps {
        if let Some((failing, at, signal)) = &options.fail
            && (*failing, *at) == (ranks.rank(), step)
        {
            eprintln!("rank {failing}: {signal} in step {step}");
            Command::new("kill").args([format!("-{signal}"), std::process::id().to_string()]).status()?;
        }
        // This rank's shard of the batch.
        let rows: Vec<usize> =
            rows_of_step(step, data.rows()).skip(ranks.rank() * shard).take(shard).collect();
        let x = |row: usize| &data.x[row * data.features..][..data.features];
        let logits: Vec<f32> = rows.iter().flat_map(|row| model.logits(x(*row))).collect();
        let labels: Vec<i32> = rows.iter().map(|row| data.labels[*row]).collect();
        queue.write_buffer(&rank.logits, 0, bytemuck::cast_slice(&logits));
        queue.write_buffer(&rank.labels, 0, bytemuck::cast_slice(&labels));

        // 1. Counts, before any weight is made of them. Whole numbers: the same sum in any order.
        rank.submit(&[&rank.step.class_counts]);
        let mut counts: Vec<u32> = rank.read(counts_buffer)?;
        if !options.local_weights {
            counts = ranks.all_reduce("class counts", step, &counts);
            queue.write_buffer(counts_buffer, 0, bytemuck::cast_slice(&counts));
        }

        // 2. What the mean divides by, before any gradient is divided.
        rank.submit(&[&rank.step.class_weights, &rank.step.denominator]);
        let table: Vec<u32> = rank.read(rank.plan.table())?;
        let at = TableLayout::DENOMINATOR as usize / 4;
        let denominator = ranks.all_reduce("denominators", step, &[f32::from_bits(table[at])]);
        queue.write_buffer(rank.plan.table(), TableLayout::DENOMINATOR, bytemuck::cast_slice(&denominator));
        let first = TableLayout::new(rank.plan.config().spec(), rank.plan.config().shape()).class_weights()
            as usize
            / 4;
        report.class_weights.push(table[first..first + data.classes].to_vec());
        report.class_counts.push(counts);

        // 3. The parameters' gradients, which are sums over rows; and the loss, to be reported.
        rank.submit(&[&rank.step.cross_entropy, &rank.step.loss_total]);
        let grads: Vec<f32> = rank.read(&rank.grads)?;
        let totals: Vec<u8> = rank.read(rank.plan.table())?;
        let loss = Totals::from_bytes(&totals).ok_or("a table starts with its totals")?.loss;
        let mut gradient = vec![0.0; model.parameters.len() + 1];
        for (row, grads) in rows.iter().zip(grads.chunks_exact(data.classes)) {
            model.backward(x(*row), grads, &mut gradient);
        }
        gradient[model.parameters.len()] = loss.into();
        let gradient = ranks.all_reduce("gradients", step, &gradient);
        for (parameter, gradient) in model.parameters.iter_mut().zip(&gradient) {
            *parameter -= LEARNING_RATE * gradient;
        }
        report.losses.push(gradient[model.parameters.len()]);

        if let Some(path) = options.checkpoint.as_ref().filter(|_| ranks.rank() == 0)
            && (step + 1).is_multiple_of(CHECKPOINT_EVERY)
        {
            let history = pollster::block_on(rank.plan.save_history(&rank.gpu.device, queue))?;
            let history = history.ok_or("moving averages have a history")?;
            Checkpoint { step: step + 1, parameters: model.parameters.clone(), history }.save(path)?;
        }
    }
    report.parameters = model.parameters;
    if let Some(path) = options.report.as_ref().filter(|_| ranks.rank() == 0) {
        std::fs::write(path, serde_json::to_vec(&report)?)?;
    }
    Ok(())
}
