//! The same composition in candle, on the CPU.

use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use wgpu_cross_entropy::Spec;

use crate::data::Data;
use crate::measure::Failure;
use crate::peers::{Peer, Took, dims, given};

/// A batch in host memory.
pub struct Candle {
    logits: Var,
    labels: Tensor,
    weights: Tensor,
}

impl Candle {
    pub fn new(data: &Data, spec: &Spec) -> Result<Self, Failure> {
        let device = &Device::Cpu;
        let labels: Vec<u32> = data.labels.iter().map(|&label| label as u32).collect();
        let weights = given(spec)?;
        let (rows, classes) = (labels.len(), weights.len());
        let [outer, _, inner] = dims(&data.shape);
        Ok(Self {
            logits: Var::from_vec(data.logits(), (outer, classes, inner), device)?,
            labels: Tensor::from_vec(labels, rows, device)?,
            weights: Tensor::from_vec(weights, classes, device)?,
        })
    }

    fn run(&self) -> Result<(Tensor, Tensor), Failure> {
        let (outer, classes, inner) = self.logits.dims3()?;
        let logits = match inner {
            1 => self.logits.as_tensor().clone(),
            _ => self.logits.permute((0, 2, 1))?,
        };
        let logits = logits.reshape((outer * inner, classes))?;
        let log_probs = candle_nn::ops::log_softmax(&logits, 1)?;
        let picked = log_probs.gather(&self.labels.unsqueeze(1)?, 1)?.squeeze(1)?;
        let weights = self.weights.index_select(&self.labels, 0)?;
        let loss = ((picked * &weights)?.sum_all()?.neg()? / weights.sum_all()?)?;
        let grads = loss.backward()?;
        let grads = grads.get(&self.logits).ok_or("the logits have no gradient")?.clone();
        Ok((loss, grads))
    }
}

impl Peer for Candle {
    fn step(&mut self) -> Result<Took, Failure> {
        let began = Instant::now();
        let _both = self.run()?;
        let whole = began.elapsed();
        Ok(Took { whole, host: whole })
    }

    fn answer(&mut self) -> Result<(f64, Vec<f32>), Failure> {
        let (loss, grads) = self.run()?;
        Ok((f64::from(loss.to_scalar::<f32>()?), grads.flatten_all()?.to_vec1()?))
    }

    /// By how much the process grows.
    fn peak_bytes(&mut self) -> Result<Option<u64>, Failure> {
        // Linux alone counts it anew.
        if std::fs::write("/proc/self/clear_refs", "5").is_err() {
            return Ok(None);
        }
        let before = resident("VmRSS");
        let both = self.run()?;
        let after = resident("VmHWM");
        drop(both);
        Ok(after.zip(before).map(|(after, before)| after.saturating_sub(before)))
    }
}

/// Bytes that the process has, or had at most.
fn resident(what: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}
