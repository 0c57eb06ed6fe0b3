//! The operation: a trait over burn's back ends, differentiable, on our kernels where burn runs WGSL.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, backend_extension};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;

use crate::oracle;
use crate::recipe::Recipe;
use crate::request::Request;

/// Losses first, gradients when they are asked for. What a batch lacks is a tensor of one element.
///
/// Shapes: `logits` and `probs` in the layout of the request's shape, dense; `labels` `[rows]`, `i32`, and of two labels a row
/// `[2 rows]`, the first ones first, with their shares `[rows]` for `probs`; `sample_weights` as the spec says; `external`
/// `[1]` and `counts`, those kept from batch to batch, `f32`. Results: the loss, `[1]` or `[rows]`; the table, `[words]`,
/// `i32`; what backward needs, `[rows, 8]` words as `f32`; the new counts.
#[backend_extension(Autodiff, Cube, Fusion, Flex: cfg(feature = "flex"))]
pub trait CrossEntropyBackend: Backend {
    /// Counts, weights, denominator, losses.
    #[fusion(meta = forward_specs)]
    fn cross_entropy_forward(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        probs: FloatTensor<Self>,
        sample_weights: FloatTensor<Self>,
        external: FloatTensor<Self>,
        counts: FloatTensor<Self>,
        request: Request,
    ) -> (FloatTensor<Self>, IntTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients with respect to the logits; `upstream` is the gradient of the loss, in its shape.
    #[fusion(meta = backward_specs)]
    fn cross_entropy_backward(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        probs: FloatTensor<Self>,
        table: IntTensor<Self>,
        row_stats: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        request: Request,
    ) -> FloatTensor<Self>;
}

type Specs = (TensorSpec, TensorSpec, TensorSpec, TensorSpec);

fn forward_specs(
    _logits: &TensorSpec,
    _labels: &TensorSpec,
    _probs: &TensorSpec,
    _sample_weights: &TensorSpec,
    _external: &TensorSpec,
    counts: &TensorSpec,
    request: &Request,
) -> Specs {
    let rows = request.shape.rows as usize;
    (
        TensorSpec::new(Shape::new([request.losses()]), DType::F32),
        TensorSpec::new(Shape::new([request.table_words()]), DType::I32),
        TensorSpec::new(Shape::new([rows, 8]), DType::F32),
        counts.clone(),
    )
}

fn backward_specs(
    logits: &TensorSpec,
    _labels: &TensorSpec,
    _probs: &TensorSpec,
    _table: &TensorSpec,
    _row_stats: &TensorSpec,
    _upstream: &TensorSpec,
    _request: &Request,
) -> TensorSpec {
    logits.clone()
}

impl CrossEntropyBackend for CubeBackend {
    fn cross_entropy_forward(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        probs: FloatTensor<Self>,
        sample_weights: FloatTensor<Self>,
        external: FloatTensor<Self>,
        counts: FloatTensor<Self>,
        request: Request,
    ) -> (FloatTensor<Self>, IntTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        match Recipe::of(&logits.client, &request) {
            Some(recipe) => recipe.forward(logits, labels, probs, sample_weights, external, counts),
            None => {
                oracle::forward::<Self>(logits, labels, probs, sample_weights, external, counts, &request)
            }
        }
    }

    fn cross_entropy_backward(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        probs: FloatTensor<Self>,
        table: IntTensor<Self>,
        row_stats: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        request: Request,
    ) -> FloatTensor<Self> {
        match Recipe::of(&logits.client, &request) {
            Some(recipe) => recipe.backward(logits, labels, probs, table, row_stats, upstream),
            None => oracle::backward::<Self>(logits, labels, probs, table, row_stats, upstream, &request),
        }
    }
}

#[cfg(feature = "flex")]
impl CrossEntropyBackend for burn::backend::Flex {
    fn cross_entropy_forward(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        probs: FloatTensor<Self>,
        sample_weights: FloatTensor<Self>,
        external: FloatTensor<Self>,
        counts: FloatTensor<Self>,
        request: Request,
    ) -> (FloatTensor<Self>, IntTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        oracle::forward::<Self>(logits, labels, probs, sample_weights, external, counts, &request)
    }

    fn cross_entropy_backward(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        probs: FloatTensor<Self>,
        table: IntTensor<Self>,
        row_stats: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        request: Request,
    ) -> FloatTensor<Self> {
        oracle::backward::<Self>(logits, labels, probs, table, row_stats, upstream, &request)
    }
}

/// What backward takes from forward.
#[derive(Clone, Debug)]
struct Kept<B: Backend> {
    logits: FloatTensor<B>,
    labels: IntTensor<B>,
    probs: FloatTensor<B>,
    table: IntTensor<B>,
    row_stats: FloatTensor<B>,
    request: Request,
}

#[derive(Debug)]
struct CrossEntropyBackward;

impl<B: CrossEntropyBackend> Backward<B, 1> for CrossEntropyBackward {
    type State = Kept<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [logits] = ops.parents;
        let upstream = grads.consume::<B>(&ops.node);
        let Kept { logits: x, labels, probs, table, row_stats, request } = ops.state;
        if let Some(node) = logits {
            let grad = B::cross_entropy_backward(x, labels, probs, table, row_stats, upstream, request);
            grads.register::<B>(node.id, grad);
        }
    }
}

impl<B: CrossEntropyBackend, C: CheckpointStrategy> CrossEntropyBackend for Autodiff<B, C> {
    fn cross_entropy_forward(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        probs: FloatTensor<Self>,
        sample_weights: FloatTensor<Self>,
        external: FloatTensor<Self>,
        counts: FloatTensor<Self>,
        request: Request,
    ) -> (FloatTensor<Self>, IntTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (logits, node) = logits.into_parts();
        let probs = probs.into_primitive();
        let (loss, table, row_stats, counts) = B::cross_entropy_forward(
            logits.clone(),
            labels.clone(),
            probs.clone(),
            sample_weights.into_primitive(),
            external.into_primitive(),
            counts.into_primitive(),
            request.clone(),
        );
        let loss = match CrossEntropyBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (table, row_stats) = (table.clone(), row_stats.clone());
                prepared.finish(Kept { logits, labels, probs, table, row_stats, request }, loss)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(loss),
        };
        (loss, table, <FloatTensor<Self>>::new(row_stats), <FloatTensor<Self>>::new(counts))
    }

    /// Not itself differentiable.
    fn cross_entropy_backward(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        probs: FloatTensor<Self>,
        table: IntTensor<Self>,
        row_stats: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        request: Request,
    ) -> FloatTensor<Self> {
        <FloatTensor<Self>>::new(B::cross_entropy_backward(
            logits.into_primitive(),
            labels,
            probs.into_primitive(),
            table,
            row_stats.into_primitive(),
            upstream.into_primitive(),
            request,
        ))
    }
}
