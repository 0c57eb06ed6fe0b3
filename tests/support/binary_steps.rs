//! Batches and plans of sigmoid losses on poisoned buffers.

#![allow(dead_code, reason = "each binary that includes this file uses a part of it")]

use crate::support::{Guarded, POISON, record};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wgpu_cross_entropy::kernels::{BinaryCountsKernel, BinaryTableLayout};
use wgpu_cross_entropy::{
    BinaryBatch, BinaryCrossEntropy, BinaryDenominator, BinaryInputs, BinaryOptions, BinaryOutput,
    BinaryReduction, BinaryScores, BinarySpec, BinaryTotals, Gpu, PosWeight, Shape,
};

/// A batch that the spec and shape fit.
#[derive(Clone, Debug)]
pub struct Batch {
    pub spec: BinarySpec,
    pub shape: Shape,
    pub logits: Vec<f32>,
    pub targets: Vec<f32>,
    pub element_weights: Option<Vec<f32>>,
    pub sample_weights: Option<Vec<f32>>,
    pub grad_out: Option<Vec<f32>>,
    pub external: Option<f32>,
}

impl Batch {
    /// Unsure, confident (right and wrong) and saturated elements; hard, soft and ignored targets; some weights 0.
    /// Probabilities also at and beyond their ends, and at the ends of the clip. Padding is NaN.
    pub fn random(seed: u64, spec: &BinarySpec, shape: Shape) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let len = shape.logits_len() as usize;
        let mut logits = vec![f32::from_bits(POISON); len];
        let mut targets = logits.clone();
        let mut weights = logits.clone();
        let mut upstream = logits.clone();
        for row in 0..shape.rows {
            for column in 0..shape.classes {
                let at = shape.index(row, column) as usize;
                let scale = [1.0, 4.0, 20.0, 120.0][rng.random_range(0..4)];
                logits[at] = (rng.random::<f32>() - 0.5) * 2.0 * scale;
                if let BinaryScores::Probs(clip) = spec.scores {
                    let near = clip.eps as f32 * (0.5 + rng.random::<f32>());
                    let given = [0.0, 1.0, -0.25, 1.5, near, 1.0 - near, clip.eps as f32, 1e-20];
                    let kind = rng.random_range(0..24);
                    logits[at] = given.get(kind).copied().unwrap_or_else(|| rng.random());
                }
                targets[at] = match rng.random_range(0..12) {
                    0..=1 => 1.0,
                    2 => rng.random(),
                    3 => spec.ignore_value.unwrap_or(1.0),
                    _ => 0.0,
                };
                weights[at] = if rng.random_range(0..9) == 0 { 0.0 } else { 0.25 + rng.random::<f32>() };
                upstream[at] = rng.random::<f32>() - 0.3;
            }
        }
        let external = spec.reduction == BinaryReduction::Mean(BinaryDenominator::External);
        Self {
            spec: spec.clone(),
            shape,
            logits,
            targets,
            element_weights: spec.element_weights.then_some(weights),
            sample_weights: spec
                .sample_weights
                .then(|| (0..shape.rows).map(|row| row as f32 % 5.0 / 2.0).collect()),
            grad_out: Some(upstream),
            external: external.then_some(37.5),
        }
    }

    pub fn inputs(&self) -> BinaryInputs<'_> {
        BinaryInputs {
            logits: &self.logits,
            targets: &self.targets,
            element_weights: self.element_weights.as_deref(),
            sample_weights: self.sample_weights.as_deref(),
            grad_out: self.grad_out.as_deref(),
            external_denominator: self.external,
        }
    }
}

/// Runs a plan on buffers with poison around every one, each starting `at` words into its buffer. Upstream gradients and
/// element losses as the options say.
pub fn run_plan(gpu: &Gpu, batch: &Batch, options: &BinaryOptions, at: usize) -> BinaryOutput<f32> {
    let plan = BinaryCrossEntropy::new(&gpu.device, &batch.spec, batch.shape, options).unwrap();
    let (output, dispatches) = run_step(gpu, &plan, batch, at);
    assert!(dispatches > 2 || options.max_binding_size.is_none(), "{dispatches} dispatches");
    output
}

/// One step of a plan whose history starts anew, and how many dispatches the elements take.
pub fn run_step(
    gpu: &Gpu,
    plan: &BinaryCrossEntropy,
    batch: &Batch,
    at: usize,
) -> (BinaryOutput<f32>, usize) {
    let Batch { spec, shape, .. } = batch;
    let options = plan.config().options();
    let stored: Vec<u32> = bytemuck::pod_collect_to_vec(&options.dtype.encode(&batch.logits));
    let logits = Guarded::new(gpu, at, &stored);
    let targets = Guarded::floats(gpu, at, &batch.targets);
    let optional = |slice: &Option<Vec<f32>>| slice.as_ref().map(|slice| Guarded::floats(gpu, at, slice));
    let element_weights = optional(&batch.element_weights);
    let sample_weights = optional(&batch.sample_weights);
    let grad_out = if options.grad_out { optional(&batch.grad_out) } else { None };
    let external = batch.external.map(|value| Guarded::floats(gpu, at, &[value]));
    let output = |wanted: bool, words: usize| wanted.then(|| Guarded::output(gpu, at, words));
    let grads = output(!options.in_place, stored.len());
    let losses = output(options.element_losses, batch.logits.len());
    let step = plan
        .bind(
            &gpu.device,
            &BinaryBatch {
                logits: logits.binding(),
                targets: targets.binding(),
                element_weights: element_weights.as_ref().map(Guarded::binding),
                sample_weights: sample_weights.as_ref().map(Guarded::binding),
                grad_out: grad_out.as_ref().map(Guarded::binding),
                external_denominator: external.as_ref().map(Guarded::binding),
                logit_grads: grads.as_ref().map(Guarded::binding),
                element_losses: losses.as_ref().map(Guarded::binding),
            },
        )
        .unwrap();
    record(gpu, |encoder| {
        plan.encode_reset(encoder);
        plan.encode(encoder, &step);
    });

    // What lies between the rows, and in half a word behind the last, must be as it was. Then it is 0, as the oracle has it.
    let unpadded = |mut values: Vec<f32>, before: Vec<f32>| {
        let mut used = vec![false; values.len()];
        for row in 0..shape.rows {
            (0..shape.classes).for_each(|column| used[shape.index(row, column) as usize] = true);
        }
        for ((value, before), _) in values.iter_mut().zip(before).zip(used).filter(|(_, used)| !used) {
            assert_eq!(value.to_bits(), before.to_bits(), "padding was written");
            *value = 0.0;
        }
        values.truncate(batch.logits.len());
        values
    };
    if grads.is_some() {
        assert_eq!(logits.read(gpu), stored, "logits were written");
    }
    let decode = |words: &[u32]| options.dtype.decode(bytemuck::cast_slice(words));
    let poison = |words: usize| vec![POISON; words];
    let grads_before = if grads.is_some() { poison(stored.len()) } else { stored.clone() };
    let grads = decode(&grads.as_ref().unwrap_or(&logits).read(gpu));
    let read = |name, buffer, size| -> Vec<u8> {
        pollster::block_on(wgpu_cross_entropy::read(&gpu.device, &gpu.queue, name, buffer, size)).unwrap()
    };
    let layout = BinaryTableLayout::new(plan.config());
    let table = read("table", plan.table(), layout.factors() + layout.factors_size());
    let floats = |bytes: &[u8]| bytemuck::pod_collect_to_vec::<u8, f32>(bytes);
    let output = BinaryOutput {
        totals: BinaryTotals::from_bytes(&table).unwrap(),
        element_losses: losses.map(|losses| {
            let before = poison(batch.logits.len()).into_iter().map(f32::from_bits).collect();
            unpadded(losses.read_floats(gpu), before)
        }),
        logit_grads: unpadded(grads, decode(&grads_before)),
        binary_counts: plan
            .binary_counts()
            .map(|counts| floats(&read("counts", counts, BinaryCountsKernel::counts_size(plan.config())))),
        factors: (spec.pos_weight != PosWeight::None).then(|| floats(&table[layout.factors() as usize..])),
    };
    (output, step.binary_cross_entropy.dispatches())
}
