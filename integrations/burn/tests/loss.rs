//! Losses and gradients inside burn: against burn's own autodiff of the composed loss, and against the oracle.

use std::sync::Arc;

use burn::backend::TensorMetadata;
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::wgpu::WgpuDevice;
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig as BurnLossConfig;
use burn::store::ModuleRecord;
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Int, Tensor, TensorData, read_sync};
use burn_cubecl::CubeBackend;
use wgpu_cross_entropy_burn::wgpu_cross_entropy::{
    Answer, ClassWeights, CostMatrix, CountsOver, Denominator, Dtype, Inputs, LiveCounts, LogitBias,
    Reduction, SampleWeights, Shape, Spec, Targets, WeightScheme, compare, cpu,
};
use wgpu_cross_entropy_burn::{
    CrossEntropyBackend, CrossEntropyLoss, CrossEntropyLossConfig, Extras, LossError, Request,
};

const ROWS: usize = 300;
const CLASSES: usize = 12;

fn wgpu() -> Device {
    Device::wgpu(Default::default()).autodiff()
}

fn devices() -> [Device; 2] {
    [wgpu(), Device::flex().autodiff()]
}

fn logits() -> Vec<f32> {
    (0..ROWS * CLASSES).map(|i| (i * 733 % 1013) as f32 / 100.0 - 5.0).collect()
}

fn labels() -> Vec<i32> {
    (0..ROWS as i32).map(|i| i * i % 11).collect()
}

fn sample_weights() -> Vec<f32> {
    (0..ROWS).map(|i| 0.5 + (i % 4) as f32).collect()
}

fn of<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn ints(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn module(spec: Spec, device: &Device) -> CrossEntropyLoss {
    CrossEntropyLossConfig::new(spec, CLASSES).init(device)
}

/// Loss and gradients beside the oracle's.
fn assert_agrees(spec: &Spec, inputs: &Inputs<'_>, loss: Tensor<1>, grads: Vec<f32>) {
    let shape = Shape::new(ROWS as u32, CLASSES as u32);
    let loss = floats(loss)[0];
    let answer = Answer { loss: Some(loss), logit_grads: Some(&grads), ..Answer::default() };
    let compared = compare(spec, shape, inputs, &answer).expect("sound inputs");
    println!("{compared}");
    assert!(compared.passed(), "{compared}");
}

#[test]
fn the_oracle_agrees() {
    let weights: Vec<f32> = (0..CLASSES).map(|class| 0.25 + class as f32).collect();
    let base = Spec { sample_weights: SampleWeights::PerRow, ..Spec::default() };
    // Errors between neighbours cost less; the diagonal is free.
    let costs = (0..CLASSES * CLASSES).map(|i| (i / CLASSES).abs_diff(i % CLASSES) as f32 / 4.0).collect();
    let costs = CostMatrix::from_true_predicted(CLASSES as u32, costs).expect("sound costs");
    let bias: Vec<f32> = (0..CLASSES).map(|class| 0.1 * class as f32 - 0.5).collect();
    let prior = LogitBias::LogPrior { tau: 1.5, smoothing: 1.0 };
    let specs = [
        base.clone(),
        Spec { class_weights: ClassWeights::Given(weights), label_smoothing: 0.1, ..base.clone() },
        Spec { class_weights: WeightScheme::Balanced.into(), ignore_index: Some(3), ..base.clone() },
        Spec { cost_matrix: Some(costs.clone()), cost_gather: false, cost_lambda: 0.5, ..base.clone() },
        Spec { cost_matrix: Some(costs), cost_gather: true, ..base.clone() },
        Spec { z_loss: 0.01, ..base.clone() },
        Spec { logit_bias: prior.clone(), ..base.clone() },
        Spec {
            logit_bias: prior,
            class_weights: WeightScheme::Balanced.into(),
            z_loss: 0.01,
            ..base.clone()
        },
        Spec { logit_bias: LogitBias::Given(bias), logit_scale: 0.5, ..base.clone() },
        Spec { focal_gamma: 2.0, reduction: Reduction::Sum, ..base },
    ];
    for device in devices() {
        for spec in &specs {
            let (x, y, s) = (logits(), labels(), sample_weights());
            let tensor = of(x.clone(), [ROWS, CLASSES], &device).require_grad();
            let extras = Extras { sample_weights: Some(of(s.clone(), [ROWS], &device)), ..Extras::default() };
            let computed =
                module(spec.clone(), &device).compute(tensor.clone(), ints(y.clone(), &device), extras);
            let loss = computed.expect("a sound batch").loss;
            let grads = loss.clone().backward();
            let grads = floats(tensor.grad(&grads).expect("tracked logits"));
            let inputs = Inputs { logits: &x, labels: &y, sample_weights: Some(&s), ..Inputs::default() };
            assert_agrees(spec, &inputs, loss, grads);
        }
    }
}

/// One line is changed: burn's module, and ours.
#[test]
fn burns_own_module_agrees() {
    let device = wgpu();
    let weights: Vec<f32> = (0..CLASSES).map(|class| 0.25 + class as f32).collect();
    let spec =
        Spec { class_weights: ClassWeights::Given(weights.clone()), label_smoothing: 0.1, ..Spec::default() };
    let own = BurnLossConfig::new().with_weights(Some(weights)).with_smoothing(Some(0.1)).init(&device);
    let ours = module(spec, &device);
    let of_loss = |loss: &dyn Fn(Tensor<2>, Tensor<1, Int>) -> Tensor<1>| {
        let x = of(logits(), [ROWS, CLASSES], &device).require_grad();
        let loss = loss(x.clone(), ints(labels(), &device));
        let grads = loss.backward();
        (floats(loss)[0], floats(x.grad(&grads).expect("tracked")))
    };
    let (loss, grads) = of_loss(&|x, y| ours.forward(x, y));
    let (own_loss, own_grads) = of_loss(&|x, y| own.forward(x, y));
    assert!((loss - own_loss).abs() < 1e-5 * own_loss.abs(), "{loss}, {own_loss}");
    let worst = grads.iter().zip(&own_grads).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("gradients differ by at most {worst:e}");
    assert!(grads.iter().any(|grad| grad.abs() > 1e-4) && worst < 1e-7, "{worst}");
}

/// Also behind another operation, with another one after the loss.
#[test]
fn burns_own_autodiff_agrees() {
    let device = wgpu();
    let weights: Vec<f32> = (0..CLASSES).map(|class| 0.25 + class as f32).collect();
    let spec = Spec { class_weights: ClassWeights::Given(weights.clone()), ..Spec::default() };
    let y = ints(labels(), &device);
    let run = |ours: bool| {
        let x = of(logits(), [ROWS, CLASSES], &device).require_grad();
        let z = x.clone().mul_scalar(0.5).transpose().transpose();
        let loss = match ours {
            true => module(spec.clone(), &device).forward(z, y.clone()),
            false => {
                let w = of(weights.clone(), [CLASSES], &device).gather(0, y.clone());
                let picked = log_softmax(z, 1).gather(1, y.clone().reshape([ROWS, 1])).reshape([ROWS]);
                (picked * w.clone()).sum().neg() / w.sum()
            }
        };
        let grads = loss.clone().mul_scalar(3.0).backward();
        (floats(loss)[0], floats(x.grad(&grads).expect("tracked")))
    };
    let ((loss, grads), (own_loss, own_grads)) = (run(true), run(false));
    assert!((loss - own_loss).abs() < 1e-5 * own_loss.abs(), "{loss}, {own_loss}");
    let worst = grads.iter().zip(&own_grads).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("gradients differ by at most {worst:e}");
    assert!(grads.iter().any(|grad| grad.abs() > 1e-4) && worst < 1e-7, "{worst}");
}

#[test]
fn class_first_and_more_dimensions() {
    for device in devices() {
        // [batch 2, classes, 10, 15] is the transpose of [2, 10, 15, classes].
        let last = of(logits(), [2, 10, 15, CLASSES], &device).require_grad();
        let y: Tensor<3, Int> = ints(labels(), &device).reshape([2, 10, 15]);
        let spec = Spec { class_weights: WeightScheme::Balanced.into(), ..Spec::default() };
        let config = CrossEntropyLossConfig::new(spec.clone(), CLASSES);
        let of_last = config.init(&device).forward(last.clone(), y.clone());
        let grads = of_last.backward();
        let of_last_grads = floats(last.grad(&grads).expect("tracked"));
        let x = logits();
        let y_slice = labels();
        let inputs = Inputs { logits: &x, labels: &y_slice, ..Inputs::default() };
        assert_agrees(&spec, &inputs, of_last, of_last_grads.clone());

        let moved = of(logits(), [2, 10, 15, CLASSES], &device).permute([0, 3, 1, 2]);
        let first = Tensor::<4>::from_data(moved.into_data(), &device).require_grad();
        let of_first = config.with_class_first(true).init(&device).forward(first.clone(), y);
        let grads = of_first.backward();
        let grads = first.grad(&grads).expect("tracked").permute([0, 2, 3, 1]);
        let worst = floats(grads).iter().zip(&of_last_grads).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-8, "{worst}");
    }
}

#[test]
fn soft_targets_and_losses_a_row() {
    for device in devices() {
        let probs: Vec<f32> = (0..ROWS * CLASSES).map(|i| (i * 31 % 17) as f32 / 100.0).collect();
        let spec = Spec { targets: Targets::Soft, reduction: Reduction::None, ..Spec::default() };
        let x = of(logits(), [ROWS, CLASSES], &device).require_grad();
        let t = of(probs.clone(), [ROWS, CLASSES], &device);
        let computed = module(spec.clone(), &device).compute_soft(x.clone(), t, Extras::default());
        let losses = computed.expect("a sound batch").loss;
        // A gradient of its own arrives at each row.
        let upstream = sample_weights();
        let grads = (losses.clone() * of(upstream.clone(), [ROWS], &device)).sum().backward();
        let grads = floats(x.grad(&grads).expect("tracked"));
        let x = logits();
        let inputs =
            Inputs { logits: &x, target_probs: Some(&probs), grad_out: Some(&upstream), ..Inputs::default() };
        let losses = floats(losses);
        let answer = Answer { row_losses: Some(&losses), logit_grads: Some(&grads), ..Answer::default() };
        let compared = compare(&spec, Shape::new(ROWS as u32, CLASSES as u32), &inputs, &answer);
        let compared = compared.expect("sound inputs");
        assert!(compared.passed(), "{compared}");
    }
}

#[test]
fn two_labels_a_row() {
    for device in devices() {
        let spec = Spec {
            targets: Targets::TwoHot,
            class_weights: WeightScheme::Balanced.into(),
            ..Spec::default()
        };
        let x = of(logits(), [2, ROWS / 2, CLASSES], &device).require_grad();
        let (first, second) = (labels(), labels().iter().rev().copied().collect::<Vec<i32>>());
        let share: Vec<f32> = (0..ROWS).map(|i| (i % 5) as f32 / 4.0).collect();
        let of_labels = |labels: &[i32]| ints(labels.to_vec(), &device).reshape([2, ROWS / 2]);
        let computed = module(spec.clone(), &device).compute_two_hot(
            x.clone(),
            of_labels(&first),
            of_labels(&second),
            of(share.clone(), [2, ROWS / 2], &device),
            Extras::default(),
        );
        let loss = computed.expect("a sound batch").loss;
        let grads = floats(x.grad(&loss.backward()).expect("tracked"));
        let x = logits();
        let inputs = Inputs {
            logits: &x,
            labels: &first,
            second_labels: Some(&second),
            mix: Some(&share),
            ..Inputs::default()
        };
        assert_agrees(&spec, &inputs, loss, grads);
    }
}

/// Three batches, a validation step and a record in between: the weights are the oracle's.
#[test]
fn counts_over_batches_are_state() {
    let averages = CountsOver::Ema { momentum: 0.75 };
    for (over, sample_weighted) in
        [(averages, false), (averages, true), (CountsOver::Cumulative, false), (CountsOver::Cumulative, true)]
    {
        let live_counts = LiveCounts { over, sample_weighted };
        let sample_weights = if sample_weighted { SampleWeights::PerRow } else { SampleWeights::None };
        let class_weights = WeightScheme::Balanced.into();
        assert_counts_are_state(&Spec { class_weights, live_counts, sample_weights, ..Spec::default() });
    }
}

fn assert_counts_are_state(spec: &Spec) {
    for device in devices() {
        let mut loss = module(spec.clone(), &device);
        let mut state = cpu::CountState::new(spec.live_counts.over, CLASSES as u32);
        for batch in 0..3 {
            let (x, y) = (logits(), labels().iter().map(|y| (y * (batch + 1)) % 12).collect::<Vec<i32>>());
            let s = (spec.sample_weights != SampleWeights::None).then(sample_weights);
            let inputs = Inputs { logits: &x, labels: &y, sample_weights: s.as_deref(), ..Inputs::default() };
            let shape = Shape::new(ROWS as u32, CLASSES as u32);
            let extras = |device: &Device| Extras {
                sample_weights: s.clone().map(|s| of(s, [ROWS], device)),
                ..Extras::default()
            };
            let want = cpu::compute_next(spec, &shape, &inputs, &mut state).expect("sound inputs");
            let tensor = of(x.clone(), [ROWS, CLASSES], &device);
            let computed =
                loss.compute(tensor, ints(y.clone(), &device), extras(&device)).expect("a sound batch");
            let weights = computed.class_weights(CLASSES);
            let want = want.class_weights.expect("live weights");
            for (got, want) in weights.iter().zip(&want) {
                assert!(
                    (f64::from(*got) - want).abs() <= 1e-5 * want,
                    "batch {batch}: {weights:?}, {want:?}"
                );
            }
            // Labels that would move the counts, were this training.
            let (validating, plain) = (loss.valid(), device.clone().without_autodiff());
            let zeros = ints(vec![0; ROWS], &plain);
            validating
                .compute(of(logits(), [ROWS, CLASSES], &plain), zeros, extras(&plain))
                .expect("a sound batch");
            let record = loss.into_record().into_bytes().expect("a record");
            let record = ModuleRecord::from_bytes(record).expect("the same record");
            assert_eq!(record.len(), 1);
            loss = module(spec.clone(), &device).load_record(record);
        }
    }
}

/// 16-bit logits, read and their gradients written as they are: 12 classes, or of two pictures class-first.
fn assert_sixteen_bits(device: &Device, dtype: DType, classes: usize, class_first: bool) {
    let spec = Spec { class_weights: WeightScheme::Balanced.into(), ..Spec::default() };
    let values = logits()[..ROWS * classes].to_vec();
    let data = TensorData::new(values, [ROWS, classes]).convert_dtype(dtype);
    // What the device has.
    let rounded: Vec<f32> = data.iter::<f32>().collect();
    let x = Tensor::<2>::from_data(data, (device, dtype)).require_grad();
    assert_eq!(x.dtype(), dtype);
    let labels: Vec<i32> = labels().iter().map(|y| y % classes as i32).collect();
    let loss = CrossEntropyLossConfig::new(spec.clone(), classes).with_class_first(class_first).init(device);
    let y = ints(labels.clone(), device);
    let (loss, shape) = match class_first {
        false => (loss.forward(x.clone(), y), Shape::new(ROWS as u32, classes as u32)),
        true => (
            loss.forward(x.clone().reshape([2, classes, ROWS / 2]), y.reshape([2, ROWS / 2])),
            Shape::class_first(2, classes as u32, ROWS as u32 / 2),
        ),
    };
    assert_eq!(loss.dtype(), DType::F32);
    let grads = x.grad(&loss.backward()).expect("tracked logits");
    assert_eq!(grads.dtype(), dtype);
    let grads = floats(grads);
    let inputs = Inputs { logits: &rounded, labels: &labels, ..Inputs::default() };
    let want = cpu::compute(&spec, &shape, &inputs).expect("sound inputs");
    let loss = f64::from(floats(loss)[0]);
    assert!((loss - want.totals.loss).abs() < 1e-5 * want.totals.loss, "{loss}");
    // Half a unit in the last place: of 10 bits, and of 7; below the smallest normal f16, of that.
    let unit = if dtype == DType::F16 { 2.0f64.powi(-11) } else { 2.0f64.powi(-8) };
    assert!(want.logit_grads.iter().any(|grad| grad.abs() > 1e-4));
    for (got, want) in grads.iter().zip(&want.logit_grads) {
        let bound = want.abs() * (unit + 1e-5) + 2.0f64.powi(-25);
        assert!((f64::from(*got) - want).abs() <= bound, "{dtype:?}: {got}, {want}");
    }
}

#[test]
fn sixteen_bits() {
    for device in devices() {
        for dtype in [DType::F16, DType::BF16] {
            for (classes, class_first) in [(CLASSES, false), (CLASSES - 1, false), (CLASSES, true)] {
                // An odd number of classes is cast, which takes a device that computes in the type: burn's WGSL has no
                // bf16, so that such tensors can be held there and no operation of burn's run on them.
                if classes % 2 == 1 && !device.supports_dtype(dtype) {
                    println!("{dtype:?}: this device computes nothing in it");
                    continue;
                }
                assert_sixteen_bits(&device, dtype, classes, class_first);
            }
        }
    }
    assert!(!wgpu().supports_dtype(DType::BF16), "burn's WGSL has bf16 now: docs/burn.md says otherwise");
}

/// The other tests run under fusion; this one calls the back end beneath it.
#[test]
fn without_fusion() {
    let device = WgpuDevice::default();
    let float = |values: Vec<f32>, shape: &[usize]| {
        CubeBackend::float_from_data(TensorData::new(values, shape.to_vec()), &device.clone().into())
    };
    let (x, y) = (logits(), labels());
    let spec = Spec { class_weights: WeightScheme::Balanced.into(), ..Spec::default() };
    let shape = Shape::new(ROWS as u32, CLASSES as u32);
    let request = Request::new(Arc::new(spec.clone()), shape, Dtype::F32).expect("a sound request");
    let logits = float(x.clone(), &[ROWS, CLASSES]);
    let labels = CubeBackend::int_from_data(TensorData::new(y.clone(), [ROWS]), &device.clone().into());
    let one = || float(vec![1.0], &[1]);
    let (loss, table, row_stats, _) = CubeBackend::cross_entropy_forward(
        logits.clone(),
        labels.clone(),
        one(),
        one(),
        one(),
        one(),
        request.clone(),
    );
    assert_eq!((&loss.shape()[..], &row_stats.shape()[..]), (&[1][..], &[ROWS, 8][..]));
    let grads = CubeBackend::cross_entropy_backward(logits, labels, one(), table, row_stats, one(), request);
    let read = |tensor| {
        let data = read_sync(CubeBackend::float_into_data(tensor)).expect("a tensor to read");
        data.iter::<f32>().collect::<Vec<f32>>()
    };
    let (loss, grads) = (read(loss)[0], read(grads));
    let inputs = Inputs { logits: &x, labels: &y, ..Inputs::default() };
    let answer = Answer { loss: Some(loss), logit_grads: Some(&grads), ..Answer::default() };
    let compared = compare(&spec, shape, &inputs, &answer).expect("sound inputs");
    assert!(compared.passed(), "{compared}");
}

#[test]
fn what_does_not_fit_is_named() {
    let device = Device::flex();
    let x = || of(logits(), [ROWS, CLASSES], &device);
    let short = ints(vec![0; 7], &device);
    let refused = module(Spec::default(), &device).compute(x(), short, Extras::default());
    let expected = LossError::Shape { name: "targets", got: vec![7], expected: vec![ROWS] };
    assert_eq!(refused.map(|_| ()), Err(expected));
    let spec = Spec { reduction: Reduction::Mean(Denominator::External), ..Spec::default() };
    let refused = module(spec, &device).compute(x(), ints(labels(), &device), Extras::default());
    assert_eq!(refused.map(|_| ()), Err(LossError::Missing { name: "external_denominator" }));
}
