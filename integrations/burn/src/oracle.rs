//! The CPU oracle where burn runs no WGSL: it reads the tensors, computes in `f64`, and writes the results back.

use std::sync::atomic::{AtomicU64, Ordering};

use burn::backend::tensor::{Device, FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, TensorData, read_sync};
use wgpu_cross_entropy::kernels::{TableLayout, TotalsWords};
use wgpu_cross_entropy::{
    ClassWeights, CountsOver, Inputs, LiveCounts, LogitBias, Output, Reduction, Spec, Targets, Totals, cpu,
    sample_weights_len,
};

use crate::request::{DIGITS, Request};

static READ_BACKS: AtomicU64 = AtomicU64::new(0);

/// Tensors that this package has read back from a device so far, in this process: none where its kernels run, some for
/// each call where the oracle stands in.
pub fn read_backs() -> u64 {
    READ_BACKS.load(Ordering::Relaxed)
}

/// # Panics
/// Where burn fails to read the tensor, as burn's own `into_data` does.
fn data<E>(read: impl Future<Output = Result<TensorData, E>>) -> TensorData
where
    E: std::fmt::Debug,
{
    READ_BACKS.fetch_add(1, Ordering::Relaxed);
    match read_sync(read) {
        Ok(data) => data,
        Err(error) => panic!("a tensor of the loss cannot be read: {error:?}"),
    }
}

fn floats<B: Backend>(tensor: FloatTensor<B>) -> Vec<f32> {
    data(B::float_into_data(tensor)).iter::<f32>().collect()
}

fn ints<B: Backend>(tensor: IntTensor<B>) -> Vec<i32> {
    data(B::int_into_data(tensor)).iter::<i32>().collect()
}

/// A batch in host memory.
struct Batch {
    logits: Vec<f32>,
    labels: Vec<i32>,
    probs: Vec<f32>,
    sample_weights: Vec<f32>,
    external: f32,
}

impl Batch {
    fn inputs(&self, spec: &Spec, request: &Request) -> Inputs<'_> {
        let soft = spec.targets == Targets::Soft;
        let two_hot = spec.targets == Targets::TwoHot;
        // Of two labels a row the first ones come first.
        let (labels, second) = match two_hot {
            true => self.labels.split_at(self.labels.len() / 2),
            false => (&self.labels[..], &[][..]),
        };
        let external = spec.reduction == Reduction::Mean(wgpu_cross_entropy::Denominator::External);
        Inputs {
            logits: &self.logits,
            labels: if soft { &[] } else { labels },
            second_labels: two_hot.then_some(second),
            mix: two_hot.then_some(&self.probs[..]),
            target_probs: soft.then_some(&self.probs[..]),
            sample_weights: sample_weights_len(spec, &request.shape).map(|_| &self.sample_weights[..]),
            external_denominator: external.then_some(self.external),
            ..Inputs::default()
        }
    }
}

/// The oracle's answer. The request was checked against the tensors, so that it can give one.
fn answer(spec: &Spec, request: &Request, inputs: &Inputs<'_>) -> Output<f64> {
    match cpu::compute(spec, &request.shape, inputs) {
        Ok(output) => output,
        Err(error) => panic!("a checked batch was refused: {error}"),
    }
}

pub(crate) fn forward<B: Backend>(
    logits: FloatTensor<B>,
    labels: IntTensor<B>,
    probs: FloatTensor<B>,
    sample_weights: FloatTensor<B>,
    external: FloatTensor<B>,
    counts: FloatTensor<B>,
    request: &Request,
) -> (FloatTensor<B>, IntTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let device = logits.device();
    let batch = Batch {
        logits: floats::<B>(logits),
        labels: ints::<B>(labels),
        probs: floats::<B>(probs),
        sample_weights: floats::<B>(sample_weights),
        external: floats::<B>(external).first().copied().unwrap_or(1.0),
    };
    let mut kept_counts = floats::<B>(counts);
    let mut spec = Spec::clone(&request.spec);
    if request.kept_len().is_some() {
        let of_batch = batch_counts(&spec, request, &batch);
        spec = with_counts(spec, &of_batch, &mut kept_counts);
    }
    let want = answer(&spec, request, &batch.inputs(&spec, request));
    let rows = request.shape.rows as usize;
    let losses: Vec<f32> = match request.spec.reduction {
        Reduction::None => want.row_losses.iter().map(|&loss| loss as f32).collect(),
        Reduction::Sum | Reduction::Mean(_) => vec![want.totals.loss as f32],
    };
    // What the kernels keep of a row is kept in the table here: the sample weights' words, which backward needs.
    let mut kept = vec![0.0f32; rows * 8];
    for (row, words) in kept.chunks_mut(8).enumerate() {
        words[0] = batch.sample_weights.get(row).copied().unwrap_or(0.0);
        words[1] = batch.external;
    }
    (
        float::<B>(losses, [request.losses()], &device),
        int::<B>(table(&spec, request, &want), &device),
        float::<B>(kept, [rows, 8], &device),
        float::<B>(kept_counts.clone(), [kept_counts.len()], &device),
    )
}

pub(crate) fn backward<B: Backend>(
    logits: FloatTensor<B>,
    labels: IntTensor<B>,
    probs: FloatTensor<B>,
    table: IntTensor<B>,
    row_stats: FloatTensor<B>,
    upstream: FloatTensor<B>,
    request: &Request,
) -> FloatTensor<B> {
    let (device, dims, dtype) = (logits.device(), logits.shape(), logits.dtype());
    let kept = floats::<B>(row_stats);
    let len = sample_weights_len(&request.spec, &request.shape).unwrap_or(0) as usize;
    let batch = Batch {
        logits: floats::<B>(logits),
        labels: ints::<B>(labels),
        probs: floats::<B>(probs),
        sample_weights: kept.iter().step_by(8).take(len).copied().collect(),
        external: kept.get(1).copied().unwrap_or(1.0),
    };
    // The weights and biases that forward used.
    let mut spec = Spec::clone(&request.spec);
    let words: Vec<f32> = ints::<B>(table).into_iter().map(|word| f32::from_bits(word as u32)).collect();
    let layout = TableLayout::new(&spec, &request.shape);
    let classes = request.shape.classes as usize;
    let of = |byte: u64| words[byte as usize / 4..byte as usize / 4 + classes].to_vec();
    if spec.class_weights != ClassWeights::None {
        spec.class_weights = ClassWeights::Given(of(layout.class_weights()));
    }
    if spec.logit_bias != LogitBias::None {
        spec.logit_bias = LogitBias::Given(of(layout.logit_bias()));
    }
    spec.live_counts = LiveCounts::default();
    let upstream = floats::<B>(upstream);
    let rows = request.shape.rows as usize;
    let grad_out: Vec<f32> = match upstream.len() == rows && request.spec.reduction == Reduction::None {
        true => upstream,
        false => vec![upstream.first().copied().unwrap_or(1.0); rows],
    };
    let inputs = Inputs { grad_out: Some(&grad_out), ..batch.inputs(&spec, request) };
    let grads = answer(&spec, request, &inputs).logit_grads;
    let grads: Vec<f32> = grads.into_iter().map(|grad| grad as f32).collect();
    B::float_from_data(TensorData::new(grads, dims).convert_dtype(dtype), &device)
}

/// The batch's counts, in rows or in mass.
fn batch_counts(spec: &Spec, request: &Request, batch: &Batch) -> Vec<f64> {
    let inputs = batch.inputs(spec, request);
    match spec.counts_are_mass() {
        true => cpu::class_mass(spec, &request.shape, &inputs),
        false => {
            let counts = cpu::class_counts(spec, &request.shape, inputs.labels);
            counts.into_iter().map(f64::from).collect()
        }
    }
}

/// Takes a batch's counts into the moving averages; what the weights are made of.
fn moved(counts: &[f64], momentum: f32, kept: &mut [f32]) -> Vec<f64> {
    let m = f64::from(momentum);
    let Some((last, averages)) = kept.split_last_mut() else { return Vec::new() };
    *last = (m * f64::from(*last) + (1.0 - m)) as f32;
    let weight = f64::from(*last);
    let averages = averages.iter_mut().zip(counts).map(|(average, count)| {
        *average = (m * f64::from(*average) + (1.0 - m) * count) as f32;
        f64::from(*average) / weight
    });
    averages.collect()
}

/// Takes a batch's counts into the sums over all batches, 64 bits before the point and 64 behind it.
fn summed(counts: &[f64], mass: bool, kept: &mut [f32]) -> Vec<f64> {
    let one = (1u128 << 64) as f64;
    let sums = kept.chunks_exact_mut(DIGITS).zip(counts).map(|(digits, count)| {
        let before = digits.iter().rev().fold(0u128, |sum, digit| (sum << 16) | *digit as u128);
        // A batch's mass is an `f32`.
        let count = if mass { f64::from(*count as f32) } else { *count };
        let sum = before.wrapping_add((count * one) as i128 as u128);
        for (at, digit) in digits.iter_mut().enumerate() {
            *digit = ((sum >> (16 * at)) & 0xffff) as f32;
        }
        sum as i128 as f64 / one
    });
    sums.collect()
}

/// Takes a batch's counts into those kept; the spec with what follows from them in the place of its live values.
fn with_counts(mut spec: Spec, counts: &[f64], kept: &mut [f32]) -> Spec {
    let counted = match spec.live_counts.over {
        CountsOver::Ema { momentum } => moved(counts, momentum, kept),
        CountsOver::Cumulative => summed(counts, spec.counts_are_mass(), kept),
        CountsOver::Batch => return spec,
    };
    let values = cpu::ClassValues::new(&spec, &counted);
    let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
    if let (ClassWeights::Live(_), Some(weights)) = (&spec.class_weights, values.class_weights) {
        spec.class_weights = ClassWeights::Given(narrow(weights));
    }
    if let (LogitBias::LogPrior { .. }, Some(bias)) = (&spec.logit_bias, values.logit_bias) {
        spec.logit_bias = LogitBias::Given(narrow(bias));
    }
    spec
}

/// The table as the kernels write it.
fn table(spec: &Spec, request: &Request, want: &Output<f64>) -> Vec<i32> {
    let layout = TableLayout::new(&request.spec, &request.shape);
    let mut bytes = layout.initial(spec);
    let Totals { loss, loss_sum, denominator, weight_sum, sample_weight_sum, .. } = want.totals;
    let totals = TotalsWords {
        loss: loss as f32,
        loss_sum: loss_sum as f32,
        denominator: denominator as f32,
        weight_sum: weight_sum as f32,
        sample_weight_sum: sample_weight_sum as f32,
        valid_rows: want.totals.valid_rows,
        ignored_rows: want.totals.ignored_rows,
        out_of_range_rows: want.totals.out_of_range_rows,
        nonfinite_rows: want.totals.nonfinite_rows,
        first_bad_row: want.totals.first_bad_row.unwrap_or(u32::MAX),
        correct_rows: want.totals.correct_rows,
        nonzero_rows: want.totals.nonzero_rows,
        grad_scale: 1.0,
        nonfinite_weights: want.totals.nonfinite_weights,
        ..TotalsWords::default()
    };
    bytes[..64].copy_from_slice(bytemuck::bytes_of(&totals));
    let mut put = |at: u64, values: &Option<Vec<f64>>| {
        for (class, value) in values.iter().flatten().enumerate() {
            let at = at as usize + 4 * class;
            bytes[at..at + 4].copy_from_slice(&(*value as f32).to_le_bytes());
        }
    };
    put(layout.class_weights(), &want.class_weights);
    put(layout.logit_bias(), &want.logit_bias);
    bytes.chunks_exact(4).map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

fn float<B: Backend>(
    values: Vec<f32>,
    shape: impl Into<burn::tensor::Shape>,
    device: &Device<B>,
) -> FloatTensor<B> {
    B::float_from_data(TensorData::new(values, shape.into()).convert_dtype(DType::F32), device)
}

fn int<B: Backend>(values: Vec<i32>, device: &Device<B>) -> IntTensor<B> {
    let len = values.len();
    B::int_from_data(TensorData::new(values, [len]), device)
}
