//! What one call asks of a back end.

use std::sync::Arc;

use burn::tensor::DType;
use wgpu_cross_entropy::error::PlanError;
use wgpu_cross_entropy::{
    Capabilities, ClassWeights, Config, CountsOver, Dtype, Options, Reduction, Shape, Spec,
};

/// What a loss of one batch is: passed along with its tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What to compute.
    pub spec: Arc<Spec>,
    /// Rows and classes, and how they lie in memory.
    pub shape: Shape,
    /// How logits and gradients are stored.
    pub dtype: Dtype,
}

impl Request {
    /// Checks spec and shape, and that this crate serves them.
    ///
    /// # Errors
    /// [`LossError`] says what does not fit.
    pub fn new(spec: Arc<Spec>, shape: Shape, dtype: Dtype) -> Result<Self, LossError> {
        let request = Self { spec, shape, dtype };
        request.config(Capabilities::default())?;
        Ok(request)
    }

    /// The kernels' config for a device.
    pub(crate) fn config(&self, caps: Capabilities) -> Result<Config, PlanError> {
        // The gradient that arrives is one a row where the losses are.
        let grad_out = self.spec.reduction == Reduction::None;
        let options = Options { dtype: self.dtype, grad_out, ..Options::default() };
        Config::with_capabilities(caps, &self.spec, self.shape, &options)
    }

    /// Elements of the loss.
    pub(crate) fn losses(&self) -> usize {
        match self.spec.reduction {
            Reduction::None => self.shape.rows as usize,
            Reduction::Sum | Reduction::Mean(_) => 1,
        }
    }

    /// Words of the table.
    pub(crate) fn table_words(&self) -> usize {
        wgpu_cross_entropy::kernels::TableLayout::new(&self.spec, &self.shape).size() as usize / 4
    }

    /// Numbers that are kept from batch to batch, where there are any.
    pub(crate) fn kept_len(&self) -> Option<usize> {
        kept_len(&self.spec, self.shape.classes as usize)
    }
}

/// Digits of a sum over all batches, 16 bits each: what `f32` holds exactly.
pub(crate) const DIGITS: usize = 8;

/// Numbers that a spec keeps from batch to batch: moving counts and their weight, or the digits of sums.
pub(crate) fn kept_len(spec: &Spec, classes: usize) -> Option<usize> {
    match spec.live_counts.over {
        CountsOver::Ema { .. } if spec.needs_counts() => Some(classes + 1),
        CountsOver::Cumulative if spec.needs_counts() => Some(DIGITS * classes),
        _ => None,
    }
}

/// The storage of a burn dtype, where the kernels know it.
pub(crate) fn storage(dtype: DType) -> Option<Dtype> {
    match dtype {
        DType::F32 | DType::Flex32 => Some(Dtype::F32),
        DType::F16 => Some(Dtype::F16),
        DType::BF16 => Some(Dtype::Bf16),
        _ => None,
    }
}

/// The given weights of a spec, as JSON can hold them: an infinite largest weight is the largest finite one.
pub(crate) fn finite(mut spec: Spec) -> Spec {
    if let ClassWeights::Live(live) = &mut spec.class_weights {
        live.max = live.max.min(f32::MAX);
    }
    spec
}

/// A loss that cannot be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// Spec and shape.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A tensor of another shape than the logits and the spec ask for.
    #[error("{name} has shape {got:?}; {expected:?} is expected")]
    Shape {
        /// The tensor.
        name: &'static str,
        /// Its shape.
        got: Vec<usize>,
        /// The right one.
        expected: Vec<usize>,
    },
    /// A dimension that does not fit 32 bits.
    #[error("{name} has {got} elements; at most {limit} are served")]
    Size {
        /// The tensor.
        name: &'static str,
        /// Its elements.
        got: usize,
        /// The most.
        limit: u32,
    },
    /// A tensor that the spec asks for.
    #[error("{name} is missing; the spec asks for it")]
    Missing {
        /// The tensor.
        name: &'static str,
    },
    /// A tensor that the spec does not ask for.
    #[error("{name} is given; the spec does not ask for it")]
    Unexpected {
        /// The tensor.
        name: &'static str,
    },
}
