//! The module: what a burn user writes in the place of `CrossEntropyLoss`.

use std::sync::Arc;

use burn::backend::Dispatch;
use burn::config::Config;
use burn::module::{Module, RunningState};
use burn::tensor::{DType, Device, Int, Tensor};
use wgpu_cross_entropy::kernels::TOTALS_SIZE;
use wgpu_cross_entropy::{Denominator, Dtype, Reduction, Shape, Spec, Targets, Totals, sample_weights_len};

use crate::ops::CrossEntropyBackend;
use crate::request::{LossError, Request, finite, kept_len, storage};

/// Configuration of a [`CrossEntropyLoss`]; saves and loads as burn's do.
#[derive(Config, Debug)]
pub struct CrossEntropyLossConfig {
    /// What to compute; the default is burn's own loss without options.
    pub spec: Spec,
    /// How many classes there are: what live counts over many batches are kept for.
    pub classes: usize,
    /// Whether the classes are dimension 1 of the logits (`[batch, classes, ...]`, as in segmentation), not the last one.
    #[config(default = false)]
    pub class_first: bool,
}

impl CrossEntropyLossConfig {
    /// Makes the module, with no batch seen.
    pub fn init(&self, device: &Device) -> CrossEntropyLoss {
        let spec = finite(self.spec.clone());
        let counts = kept_len(&spec, self.classes)
            .map(|len| RunningState::new(Tensor::zeros([len], (device, DType::F32))));
        CrossEntropyLoss {
            counts,
            spec: Arc::new(spec),
            classes: self.classes,
            class_first: self.class_first,
        }
    }
}

/// Cross-entropy by the kernels of `wgpu-cross-entropy`, on burn's device and buffers.
///
/// Counts over many batches ([`CountsOver`](wgpu_cross_entropy::CountsOver)) are state of the module: they are in its records.
/// Each call on a device with autodiff moves them on; without autodiff, in validation, they stay as they are.
#[derive(Module, Debug)]
pub struct CrossEntropyLoss {
    /// `Ema`: `[classes + 1]`, the moving counts of each class, not bias-corrected, and the weight that they have.
    /// `Cumulative`: `[8 classes]`, each class's sum in digits of 16 bits, the lowest first, four of them behind the point.
    pub counts: Option<RunningState<Tensor<1>>>,
    /// What is computed.
    #[module(skip)]
    pub spec: Arc<Spec>,
    /// How many classes there are.
    pub classes: usize,
    /// Whether the classes are dimension 1.
    pub class_first: bool,
}

/// What comes with a batch beside logits and labels.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// `f32`, as [`Spec::sample_weights`] says, flat: `[rows]`, `[samples]` or `[steps]`.
    pub sample_weights: Option<Tensor<1>>,
    /// `[1]`, for [`Denominator::External`]: a token count over all devices, say.
    pub external_denominator: Option<Tensor<1>>,
}

/// What a batch gives.
#[derive(Clone, Debug)]
pub struct Computed {
    /// `[1]`, or `[rows]` with [`Reduction::None`]; `f32` whatever the logits are. Differentiable.
    pub loss: Tensor<1>,
    /// The table, in words: totals, class weights, biases. On the device.
    pub table: Tensor<1, Int>,
}

impl Computed {
    /// The totals of the batch. Reads them back: nothing for every step of a training loop.
    pub fn totals(&self) -> Totals<f32> {
        let words: Vec<i32> = self.table.clone().into_data().iter::<i32>().collect();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Totals::from_bytes(&bytes).unwrap_or_default()
    }

    /// `[classes]`, where the spec has class weights: those of this batch. Reads them back.
    pub fn class_weights(&self, classes: usize) -> Vec<f32> {
        let words = self.table.clone().into_data();
        // The totals come first.
        let weights = words.iter::<i32>().skip((TOTALS_SIZE / 4) as usize).take(classes);
        weights.map(|word| f32::from_bits(word as u32)).collect()
    }
}

impl CrossEntropyLoss {
    /// The loss of labels: logits `[.., classes]` (or `[batch, classes, ..]` where `class_first` is set), and targets of the
    /// same shape without the classes. `[1]`; `[rows]` with [`Reduction::None`].
    ///
    /// # Panics
    /// As burn's operations do, where shapes do not fit: [`CrossEntropyLoss::compute`] says so by an error.
    pub fn forward<const D: usize, const L: usize>(
        &self,
        logits: Tensor<D>,
        targets: Tensor<L, Int>,
    ) -> Tensor<1> {
        match self.compute(logits, targets, Extras::default()) {
            Ok(computed) => computed.loss,
            Err(error) => panic!("{error}"),
        }
    }

    /// The same with everything that comes along, in and out.
    ///
    /// # Errors
    /// [`LossError`] names what does not fit.
    pub fn compute<const D: usize, const L: usize>(
        &self,
        logits: Tensor<D>,
        targets: Tensor<L, Int>,
        extras: Extras,
    ) -> Result<Computed, LossError> {
        let labels = self.targets_shape(&logits.dims());
        if self.spec.targets != Targets::Labels {
            return Err(LossError::Unexpected { name: "targets of labels" });
        }
        check("targets", &targets.dims(), &labels)?;
        let rows = labels.iter().product::<usize>();
        let device = logits.device();
        // Kernels take 32 bits; back ends choose their own.
        let labels = targets.reshape([rows]).cast(DType::I32);
        let probs = Tensor::empty([1], (&device, DType::F32));
        self.run(logits, labels, probs, extras)
    }

    /// The same for soft targets: `[Targets::Soft]`, in the shape of the logits.
    ///
    /// # Errors
    /// [`LossError`] names what does not fit.
    pub fn compute_soft<const D: usize>(
        &self,
        logits: Tensor<D>,
        targets: Tensor<D>,
        extras: Extras,
    ) -> Result<Computed, LossError> {
        if self.spec.targets != Targets::Soft {
            return Err(LossError::Unexpected { name: "soft targets" });
        }
        check("targets", &targets.dims(), &logits.dims())?;
        let device = logits.device();
        let elements = targets.dims().iter().product::<usize>();
        let probs = targets.reshape([elements]).cast(DType::F32);
        let labels = Tensor::<1, Int>::empty([1], (&device, DType::I32));
        self.run(logits, labels, probs, extras)
    }

    /// The same for two labels a row (mixup, cutmix), in the shape of the logits without the classes, and the share of the
    /// first, from 0 to 1: `[Targets::TwoHot]`.
    ///
    /// # Errors
    /// [`LossError`] names what does not fit.
    pub fn compute_two_hot<const D: usize, const L: usize>(
        &self,
        logits: Tensor<D>,
        targets: Tensor<L, Int>,
        second_targets: Tensor<L, Int>,
        share: Tensor<L>,
        extras: Extras,
    ) -> Result<Computed, LossError> {
        if self.spec.targets != Targets::TwoHot {
            return Err(LossError::Unexpected { name: "second targets" });
        }
        let expected = self.targets_shape(&logits.dims());
        check("targets", &targets.dims(), &expected)?;
        check("second_targets", &second_targets.dims(), &expected)?;
        check("share", &share.dims(), &expected)?;
        let rows = expected.iter().product::<usize>();
        let flat = |targets: Tensor<L, Int>| targets.reshape([rows]).cast(DType::I32);
        let labels = Tensor::cat(vec![flat(targets), flat(second_targets)], 0);
        self.run(logits, labels, share.reshape([rows]).cast(DType::F32), extras)
    }

    /// The shape of logits without the classes.
    fn targets_shape(&self, dims: &[usize]) -> Vec<usize> {
        let classes_at = if self.class_first { 1 } else { dims.len() - 1 };
        dims.iter().enumerate().filter(|(at, _)| *at != classes_at).map(|(_, &dim)| dim).collect()
    }

    fn run<const D: usize>(
        &self,
        logits: Tensor<D>,
        labels: Tensor<1, Int>,
        probs: Tensor<1>,
        extras: Extras,
    ) -> Result<Computed, LossError> {
        let (dims, device) = (logits.dims(), logits.device());
        let shape = shape(&dims, self.class_first)?;
        let classes = shape.classes as usize;
        if classes != self.classes {
            return Err(LossError::Shape {
                name: "logits",
                got: dims.to_vec(),
                expected: vec![self.classes],
            });
        }
        // Two 16-bit logits share a word: of a row, or class-first of two neighbouring positions.
        let pairs = shape.row_stride.is_multiple_of(2) && (shape.inner == 1 || shape.inner.is_multiple_of(2));
        let (logits, dtype) = match storage(logits.dtype()) {
            Some(dtype) if dtype == Dtype::F32 || pairs => (logits, dtype),
            _ => (logits.cast(DType::F32), Dtype::F32),
        };
        let request = Request::new(self.spec.clone(), shape, dtype)?;
        let len = sample_weights_len(&self.spec, &shape);
        let need = len.unwrap_or(0) as usize;
        let sample_weights = given("sample_weights", len.is_some(), extras.sample_weights, need, &device)?;
        let wanted = self.spec.reduction == Reduction::Mean(Denominator::External);
        let external = given("external_denominator", wanted, extras.external_denominator, 1, &device)?;
        let counts = match &self.counts {
            Some(counts) => counts.value_sync().to_device(&device),
            None => Tensor::empty([1], (&device, DType::F32)),
        };
        let (loss, table, _, moved) = <Dispatch as CrossEntropyBackend>::cross_entropy_forward(
            logits.into_dispatch(),
            labels.into_dispatch(),
            probs.into_dispatch(),
            sample_weights.into_dispatch(),
            external.into_dispatch(),
            counts.into_dispatch(),
            request,
        );
        // As with burn's own running statistics, a validation step leaves them as they are.
        if let Some(counts) = self.counts.as_ref().filter(|_| device.is_autodiff()) {
            counts.update(Tensor::from_dispatch(moved));
            // A record takes the value, not the update that waits for it.
            counts.value_sync();
        }
        Ok(Computed { loss: Tensor::from_dispatch(loss), table: Tensor::from_dispatch(table) })
    }
}

/// A tensor that must be there exactly if it is wanted; one element in its place where it is not.
fn given(
    name: &'static str,
    wanted: bool,
    tensor: Option<Tensor<1>>,
    len: usize,
    device: &Device,
) -> Result<Tensor<1>, LossError> {
    match (wanted, tensor) {
        (true, Some(tensor)) => {
            check(name, &tensor.dims(), &[len])?;
            Ok(tensor.cast(DType::F32))
        }
        (false, None) => Ok(Tensor::empty([1], (device, DType::F32))),
        (true, None) => Err(LossError::Missing { name }),
        (false, Some(_)) => Err(LossError::Unexpected { name }),
    }
}

fn check(name: &'static str, got: &[usize], expected: &[usize]) -> Result<(), LossError> {
    match got == expected {
        true => Ok(()),
        false => Err(LossError::Shape { name, got: got.to_vec(), expected: expected.to_vec() }),
    }
}

/// The kernels' shape of a tensor.
fn shape(dims: &[usize], class_first: bool) -> Result<Shape, LossError> {
    let at = if class_first { 1 } else { dims.len() - 1 };
    let Some(&classes) = dims.get(at).filter(|_| dims.len() >= 2) else {
        let expected = vec![0, 0];
        return Err(LossError::Shape { name: "logits", got: dims.to_vec(), expected });
    };
    let size =
        |name, got: usize| u32::try_from(got).map_err(|_| LossError::Size { name, got, limit: u32::MAX });
    let product = |dims: &[usize]| dims.iter().product::<usize>();
    let (outer, inner) = (product(&dims[..at]), product(&dims[at + 1..]));
    size("logits, without the classes,", outer * inner)?;
    let (outer, classes, inner) = (size("batch", outer)?, size("classes", classes)?, size("logits", inner)?);
    Ok(match class_first && inner > 1 {
        true => Shape::class_first(outer, classes, inner),
        // The dimension before the classes is time, for sample weights that are broadcast.
        false if dims.len() > 2 && !class_first => {
            Shape::new(outer, classes).with_steps(size("steps", dims[dims.len() - 2])?)
        }
        false => Shape::new(outer * inner, classes),
    })
}
