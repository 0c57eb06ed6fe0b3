//! Plans go between threads, and threads change no bit.

use crate::support::{Batch, Guarded, full_spec, gpus};
use wgpu_cross_entropy::{
    BinaryConfig, BinaryCrossEntropy, Bound, BoundBinaryStep, BoundStep, Config, CountHistory, CrossEntropy,
    Gpu, Options, Output, Shape, Validation,
};

/// What must go between threads and be shared by them.
#[allow(dead_code, reason = "it is compiled, which is the test")]
const SEND_AND_SYNC: () = {
    const fn both<T: Send + Sync>() {}
    both::<CrossEntropy>();
    both::<BoundStep>();
    both::<BinaryCrossEntropy>();
    both::<BoundBinaryStep>();
    both::<Bound>();
    both::<Config>();
    both::<BinaryConfig>();
    both::<Gpu>();
    both::<CountHistory>();
    both::<Output<f32>>();
    both::<Validation>();
};

const THREADS: usize = 8;

/// A plan and a batch of each thread's own, on one device: gradients and totals after a few steps.
fn steps(gpu: &Gpu, batch: &Batch) -> (Vec<u32>, Vec<u8>) {
    let plan = CrossEntropy::new(&gpu.device, &batch.spec, batch.shape, &Options::default()).unwrap();
    let logits = Guarded::floats(gpu, 0, &batch.logits);
    let targets = batch.targets(gpu, 0);
    let weights = batch.sample_weights.as_ref().map(|weights| Guarded::floats(gpu, 0, weights));
    let grads = Guarded::output(gpu, 0, batch.logits.len());
    let step = bind(gpu, &plan, [&logits, &targets, &grads], weights.as_ref());
    for _ in 0..3 {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        plan.encode(&mut encoder, &step);
        gpu.queue.submit([encoder.finish()]);
    }
    let read = wgpu_cross_entropy::read(&gpu.device, &gpu.queue, "table", plan.table(), plan.table().size());
    (grads.read(gpu), pollster::block_on(read).unwrap())
}

fn bind(
    gpu: &Gpu,
    plan: &CrossEntropy,
    [logits, targets, grads]: [&Guarded; 3],
    weights: Option<&Guarded>,
) -> BoundStep {
    let batch = wgpu_cross_entropy::Batch {
        logits: logits.binding(),
        targets: targets.binding(),
        sample_weights: weights.map(Guarded::binding),
        grad_out: None,
        external_denominator: None,
        logit_grads: Some(grads.binding()),
    };
    plan.bind(&gpu.device, &batch).unwrap()
}

/// Eight threads make plans, bind, record, submit and read on one device at once: each has the bits that it has alone.
#[test]
fn eight_threads_on_one_device_change_no_bit() {
    for gpu in gpus() {
        let shape = Shape::new(257, 11);
        let batches: Vec<Batch> = (0..THREADS as u64)
            .map(|seed| Batch::random(seed, &full_spec(11), shape).without_grad_out())
            .collect();
        let alone: Vec<_> = batches.iter().map(|batch| steps(gpu, batch)).collect();
        let together: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                batches.iter().map(|batch| scope.spawn(move || steps(gpu, batch))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(alone == together, "{}", gpu.describe());
        println!("{}: {THREADS} threads gave the bits of one", gpu.describe());
    }
}

/// One plan, bound by eight threads to batches of their own, recorded by each into an encoder of its own. The steps share
/// the plan's buffers, so they are submitted one after the other; each gives the bits that it gives alone.
#[test]
fn eight_threads_record_one_plan() {
    for gpu in gpus() {
        let spec = full_spec(11);
        let plan = &CrossEntropy::new(&gpu.device, &spec, Shape::new(257, 11), &Options::default()).unwrap();
        let batches: Vec<Batch> = (0..THREADS as u64)
            .map(|seed| Batch::random(seed, &spec, Shape::new(257, 11)).without_grad_out())
            .collect();
        let alone: Vec<_> = batches.iter().map(|batch| steps(gpu, batch).0).collect();
        let recorded: Vec<(wgpu::CommandBuffer, Guarded, BoundStep)> = std::thread::scope(|scope| {
            let record = |batch: &Batch| {
                let logits = Guarded::floats(gpu, 0, &batch.logits);
                let targets = batch.targets(gpu, 0);
                let weights = batch.sample_weights.as_ref().map(|weights| Guarded::floats(gpu, 0, weights));
                let grads = Guarded::output(gpu, 0, batch.logits.len());
                let step = bind(gpu, plan, [&logits, &targets, &grads], weights.as_ref());
                let mut encoder =
                    gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                plan.encode(&mut encoder, &step);
                (encoder.finish(), grads, step)
            };
            let threads: Vec<_> = batches.iter().map(|batch| scope.spawn(move || record(batch))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let mut grads = Vec::new();
        for (commands, own, _step) in recorded {
            gpu.queue.submit([commands]);
            grads.push(own);
        }
        for (grads, alone) in grads.iter().zip(&alone) {
            assert!(grads.read(gpu) == *alone, "{}", gpu.describe());
        }
    }
}

/// Threads that poll one device run each other's callbacks: a read whose callback another thread is about to run waits
/// for it.
#[test]
fn threads_that_read_at_once_get_what_they_read() {
    for gpu in gpus() {
        let words: Vec<u32> = (0..64).collect();
        let buffer = Guarded::new(gpu, 0, &words);
        let binding = buffer.binding();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let bytes = pollster::block_on(wgpu_cross_entropy::read(
                            &gpu.device,
                            &gpu.queue,
                            "words",
                            binding.buffer,
                            64,
                        ));
                        assert!(bytes.is_ok(), "{}: {bytes:?}", gpu.describe());
                    }
                });
            }
        });
        println!("{}: 4 threads read 200 times each", gpu.describe());
    }
}
