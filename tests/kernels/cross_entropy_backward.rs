use super::cross_entropy_forward::forward;
use crate::support::{Batch, Guarded, full_spec, gpus, run};
use wgpu_cross_entropy::kernels::{CrossEntropyBackwardBuffers, CrossEntropyBackwardKernel, TableLayout};
use wgpu_cross_entropy::tolerance::{Worst, tolerances};
use wgpu_cross_entropy::wgsl::Strategy;
use wgpu_cross_entropy::{Config, CrossEntropy, Dtype, Gpu, LogitBias, Options, Shape, Spec, cpu};

/// Those that take any number of classes of the tests here; tiles are for `cross_entropy`'s tests.
const STRATEGIES: [Strategy; 5] =
    [Strategy::Thread, Strategy::Group, Strategy::Resident, Strategy::Streaming, Strategy::Split];

fn backward(gpu: &Gpu, batch: &Batch, config: &Config, at: usize, denominator: f32) -> Vec<f32> {
    backward_scaled(gpu, batch, config, at, denominator, 1.0)
}

fn backward_scaled(
    gpu: &Gpu,
    batch: &Batch,
    config: &Config,
    at: usize,
    denominator: f32,
    grad_scale: f32,
) -> Vec<f32> {
    let (_, stats, _) = forward(gpu, batch, config, at);
    let kernel = CrossEntropyBackwardKernel::new(&gpu.device, config).unwrap();
    let mut words = vec![0; TableLayout::new(&batch.spec, &batch.shape).size() as usize / 4];
    words[2] = denominator.to_bits();
    words[12] = grad_scale.to_bits();
    let table = Guarded::new(gpu, 64, &words);
    let (dtype, len) = (config.options().dtype, batch.logits.len());
    let logits = Guarded::elements(gpu, at, dtype, &batch.logits);
    let targets = batch.targets(gpu, at);
    let grad_out = batch.grad_out.as_ref().map(|grads| Guarded::floats(gpu, at, grads));
    let stats = Guarded::floats(gpu, 4, &stats.concat());
    let grads = (!config.options().in_place)
        .then(|| Guarded::output(gpu, at, (len * dtype.bytes() as usize).div_ceil(4)));
    let buffers = CrossEntropyBackwardBuffers {
        logits: logits.binding(),
        targets: targets.binding(),
        grad_out: grad_out.as_ref().map(Guarded::binding),
        logit_grads: grads.as_ref().map(Guarded::binding),
        row_stats: stats.binding(),
        table: table.binding(),
    };
    let bound = kernel.bind(&gpu.device, &buffers).unwrap();
    run(gpu, |pass| bound.encode(pass));
    grads.as_ref().unwrap_or(&logits).read_elements(gpu, dtype, len)
}

/// Gradients as the oracle's, with a random upstream gradient a row; the same bits over the logits; the same as the
/// fused kernel's within the same tolerance.
#[test]
fn gradients_agree() {
    for gpu in gpus() {
        for strategy in STRATEGIES {
            for (classes, at) in [(1, 0), (3, 1), (4, 4), (66, 2), (260, 0)] {
                let options = Options { strategy: Some(strategy), grad_out: true, ..Options::default() };
                agree(gpu, &options, Shape::new(45, classes), at);
            }
        }
        let cases = [(Dtype::F16, 1, 2, 1), (Dtype::Bf16, 19, 16, 0), (Dtype::F16, 66, 6, 2)];
        for (dtype, classes, inner, at) in cases {
            let options = Options { dtype, grad_out: true, ..Options::default() };
            agree(gpu, &options, Shape::class_first(3, classes, inner), at);
        }
        println!("{}: ok", gpu.describe());
    }
}

fn agree(gpu: &Gpu, options: &Options, shape: Shape, at: usize) {
    let classes = shape.classes;
    let mut batch = Batch::random(8, &full_spec(classes), shape);
    batch.logits = options.dtype.round(&batch.logits);
    let got = agrees(gpu, options, &batch, at);

    let in_place = Options { in_place: true, ..*options };
    let over = Config::new(&gpu.device, &batch.spec, batch.shape, &in_place).unwrap();
    let denominator = cpu::compute(&batch.spec, &batch.shape, &batch.inputs()).unwrap().totals.denominator;
    let over = backward(gpu, &batch, &over, at, denominator as f32);
    let bits = |floats: &[f32]| floats.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&got), bits(&over), "{}: in place", gpu.describe());
}

/// The forward and the backward half against the oracle and the fused kernel.
fn agrees(gpu: &Gpu, options: &Options, batch: &Batch, at: usize) -> Vec<f32> {
    let classes = batch.shape.classes;
    let config = Config::new(&gpu.device, &batch.spec, batch.shape, options).unwrap();
    let inputs = batch.inputs();
    let want = cpu::compute(&batch.spec, &batch.shape, &inputs).unwrap();
    let allowed = tolerances(&config, &inputs, &want);
    let got = backward(gpu, batch, &config, at, want.totals.denominator as f32);
    let worst = Worst::of("logit_grads", &got, &want.logit_grads, &allowed.logit_grads);
    assert!(worst.passed(), "{} {classes}: {worst}", gpu.describe());

    let fused = CrossEntropy::new(&gpu.device, &batch.spec, batch.shape, options).unwrap();
    let fused = fused.compute_blocking(&gpu.device, &gpu.queue, &inputs).unwrap();
    let fused: Vec<f64> = fused.logit_grads.into_iter().map(f64::from).collect();
    let worst = Worst::of("fused", &got, &fused, &allowed.logit_grads);
    assert!(worst.passed(), "{} {classes}: {worst}", gpu.describe());
    got
}

/// Rows that start and end anywhere within words of 32 bytes: one a workgroup, and two where they may meet in 64 bits.
#[test]
fn rows_anywhere_within_words() {
    for gpu in gpus() {
        for (strategy, classes) in [
            (Strategy::Streaming, 21),
            (Strategy::Streaming, 30),
            (Strategy::Thread, 77),
            (Strategy::Thread, 90),
        ] {
            let spec = Spec { logit_bias: LogitBias::None, ..full_spec(classes) };
            let batch = Batch::random(9, &spec, Shape::new(16, classes));
            let options = Options { strategy: Some(strategy), grad_out: true, ..Options::default() };
            agrees(gpu, &options, &batch, 0);
        }
    }
}

/// Rows that are not finite get NaN, rows that do not count get zeros, and no denominator gives zeros.
#[test]
fn rows_that_do_not_train() {
    for gpu in gpus() {
        let spec = wgpu_cross_entropy::Spec { ignore_index: Some(-100), ..Default::default() };
        let mut batch = Batch::random(2, &spec, Shape::new(4, 3));
        batch.logits[4] = f32::NAN;
        batch.logits[6] = f32::INFINITY;
        batch.labels = vec![1, 1, -100, 9];
        let options = Options { grad_out: true, ..Options::default() };
        let config = Config::new(&gpu.device, &spec, batch.shape, &options).unwrap();
        let got = backward(gpu, &batch, &config, 0, 2.0);
        assert!(got[0..3].iter().all(|x| x.is_finite() && *x != 0.0), "{}: {got:?}", gpu.describe());
        assert!(got[3..6].iter().all(|x| x.is_nan()), "{}: {got:?}", gpu.describe());
        assert_eq!(got[6..], [0.0; 6], "{}", gpu.describe());
        assert_eq!(backward(gpu, &batch, &config, 0, 0.0)[..3], [0.0; 3]);
    }
}

/// The gradient scale in the table multiplies every gradient, here exactly: it is a power of two. It is the caller's, who
/// writes it in the same encoder.
#[test]
fn the_callers_gradient_scale() {
    for gpu in gpus() {
        let batch = Batch::random(5, &full_spec(9), Shape::new(30, 9)).without_grad_out();
        let options = Options::default();
        let config = Config::new(&gpu.device, &batch.spec, batch.shape, &options).unwrap();
        let one = backward(gpu, &batch, &config, 0, 4.0);
        let scaled = backward_scaled(gpu, &batch, &config, 0, 4.0, 1024.0);
        for (one, scaled) in one.iter().zip(&scaled) {
            assert_eq!(one * 1024.0, *scaled, "{}", gpu.describe());
        }

        // The fused kernel, through the plan: the scale comes from a buffer, and stays for later steps.
        let plan = CrossEntropy::new(&gpu.device, &batch.spec, batch.shape, &options).unwrap();
        let before = plan.compute_blocking(&gpu.device, &gpu.queue, &batch.inputs()).unwrap();
        let scale = Guarded::floats(gpu, 0, &[0.5]);
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&scale.buffer, 0, plan.table(), TableLayout::GRAD_SCALE, 4);
        gpu.queue.submit([encoder.finish()]);
        for _ in 0..2 {
            let after = plan.compute_blocking(&gpu.device, &gpu.queue, &batch.inputs()).unwrap();
            assert_eq!(before.totals.loss, after.totals.loss, "{}", gpu.describe());
            for (before, after) in before.logit_grads.iter().zip(&after.logit_grads) {
                assert_eq!(before * 0.5, *after, "{}", gpu.describe());
            }
        }
    }
}
