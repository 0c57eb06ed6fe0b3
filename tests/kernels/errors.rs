//! What does not fit is refused with a message that names it, says what was expected and what came.

use crate::support::gpus;
use wgpu::BufferUsages;
use wgpu_cross_entropy::{
    Batch, ClassWeights, CrossEntropy, Denominator, Gpu, Options, Reduction, SampleWeights, Shape, Spec,
};

fn buffer(gpu: &Gpu, words: u64, usage: BufferUsages) -> wgpu::Buffer {
    gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: words * 4,
        usage,
        mapped_at_creation: false,
    })
}

/// The message of a bind that is refused; `change` spoils a good batch.
fn refused(
    gpu: &Gpu,
    spec: &Spec,
    options: &Options,
    change: impl for<'a> FnOnce(&mut Batch<'a>, &'a [wgpu::Buffer]),
) -> String {
    let plan = CrossEntropy::new(&gpu.device, spec, Shape::new(10, 6), options).unwrap();
    let storage = BufferUsages::STORAGE;
    let buffers = [
        buffer(gpu, 60, storage),
        buffer(gpu, 10, storage),
        buffer(gpu, 60, storage),
        buffer(gpu, 5, storage),
        buffer(gpu, 60, BufferUsages::COPY_DST),
        buffer(gpu, 200, storage),
    ];
    let mut batch = Batch {
        logits: buffers[0].as_entire_buffer_binding(),
        targets: buffers[1].as_entire_buffer_binding(),
        sample_weights: None,
        grad_out: None,
        external_denominator: None,
        logit_grads: Some(buffers[2].as_entire_buffer_binding()),
    };
    change(&mut batch, &buffers);
    plan.bind(&gpu.device, &batch).unwrap_err().to_string()
}

fn part(buffer: &wgpu::Buffer, offset: u64, size: u64) -> wgpu::BufferBinding<'_> {
    wgpu::BufferBinding { buffer, offset, size: wgpu::BufferSize::new(size) }
}

#[test]
fn buffers_that_do_not_fit() {
    let (plain, options) = (Spec::default(), Options::default());
    let weighted = Spec { sample_weights: SampleWeights::PerRow, ..Spec::default() };
    let external = Spec { reduction: Reduction::Mean(Denominator::External), ..Spec::default() };
    for gpu in gpus() {
        let small =
            refused(gpu, &plain, &options, |batch, b| batch.targets = b[3].as_entire_buffer_binding());
        assert_eq!(small, "labels holds 20 bytes; 10 rows need 40");
        let small = refused(gpu, &plain, &options, |batch, b| batch.logits = part(&b[0], 0, 200));
        assert_eq!(small, "logits holds 200 bytes; 10 rows of 6 classes, 6 apart, need 240");
        let small = refused(gpu, &plain, &options, |batch, b| batch.logit_grads = Some(part(&b[2], 8, 0)));
        assert_eq!(small, "logit_grads holds 232 bytes; 10 rows of 6 classes, 6 apart, need 240");
        let beyond = refused(gpu, &plain, &options, |batch, b| batch.logits = part(&b[0], 40, 240));
        assert_eq!(beyond, "logits ends at byte 280; its buffer has 240");
        let odd = refused(gpu, &plain, &options, |batch, b| batch.targets = part(&b[5], 6, 40));
        assert_eq!(odd, "labels starts at byte 6; the offset must be a multiple of 4");
        let usage = refused(gpu, &plain, &options, |batch, b| batch.logits = b[4].as_entire_buffer_binding());
        assert_eq!(usage, "logits lacks usage STORAGE; it has BufferUsages(COPY_DST)");
        let missing = refused(gpu, &plain, &options, |batch, _| batch.logit_grads = None);
        assert_eq!(missing, "logit_grads is missing; Options::in_place is not set");
        let in_place = Options { in_place: true, ..options };
        let unexpected = refused(gpu, &plain, &in_place, |_, _| {});
        assert_eq!(unexpected, "logit_grads is given; Options::in_place writes gradients over the logits");
        let missing = refused(gpu, &weighted, &options, |_, _| {});
        assert_eq!(missing, "sample_weights is missing; the spec asks for it");
        let unexpected = refused(gpu, &plain, &options, |batch, b| {
            batch.sample_weights = Some(b[1].as_entire_buffer_binding());
        });
        assert_eq!(unexpected, "sample_weights is given; the spec does not ask for it");
        let missing = refused(gpu, &external, &options, |_, _| {});
        assert_eq!(missing, "external_denominator is missing; the spec asks for it");
        let grad_out = Options { grad_out: true, ..options };
        let missing = refused(gpu, &plain, &grad_out, |_, _| {});
        assert_eq!(missing, "grad_out is missing; the options ask for it");
        let shared = refused(gpu, &plain, &options, |batch, b| {
            batch.logits = part(&b[5], 0, 240);
            batch.logit_grads = Some(part(&b[5], 512, 240));
        });
        assert_eq!(
            shared,
            "logits and logit_grads are in one buffer; where one of them is written they need a buffer each"
        );
        println!("{}: ok", gpu.describe());
    }
}

#[test]
fn shapes_and_specs_that_do_not_fit() {
    for gpu in gpus() {
        let refused = |spec: &Spec, shape, options: &Options| {
            CrossEntropy::new(&gpu.device, spec, shape, options).unwrap_err().to_string()
        };
        let (plain, options) = (Spec::default(), Options::default());
        assert_eq!(
            refused(&plain, Shape::new(3, 0), &options),
            "classes is 0; it must be from 1 to 16777216"
        );
        let weights = Spec { class_weights: ClassWeights::Given(vec![1.0; 2]), ..Spec::default() };
        assert_eq!(
            refused(&weights, Shape::new(3, 3), &options),
            "class_weights holds 2 values; 3 are needed"
        );
        let odd = Options { workgroup_size: Some(48), ..options };
        assert_eq!(
            refused(&plain, Shape::new(3, 3), &odd),
            "workgroup_size is 48; a power of two up to 256 is expected"
        );
        // 4 GiB of row losses: more than any buffer of these devices, and refused before anything is made.
        let huge = refused(&plain, Shape::new(u32::MAX, 1), &options);
        assert!(huge.starts_with("row_losses is 17179869180; the device allows "), "{huge}");
        // Zero rows are no error.
        assert!(CrossEntropy::new(&gpu.device, &plain, Shape::new(0, 3), &options).is_ok());
    }
}

/// A refused bind leaves the caller's own error handling alone.
#[test]
fn nothing_leaks_into_the_callers_error_scope() {
    for gpu in gpus() {
        let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        refused(gpu, &Spec::default(), &Options::default(), |batch, b| {
            batch.logits = part(&b[5], 0, 240);
            batch.logit_grads = Some(part(&b[5], 512, 240));
        });
        assert!(pollster::block_on(scope.pop()).is_none());
    }
}

/// Two tables of one plan would be the same buffer twice: the plan owns its table, so a caller cannot do it; but labels
/// and logits may share a buffer, for both are only read.
#[test]
fn inputs_may_share_a_buffer() {
    for gpu in gpus() {
        let plan =
            CrossEntropy::new(&gpu.device, &Spec::default(), Shape::new(10, 6), &Options::default()).unwrap();
        let pool = buffer(gpu, 500, BufferUsages::STORAGE);
        let grads = buffer(gpu, 60, BufferUsages::STORAGE);
        let batch = Batch {
            logits: part(&pool, 0, 240),
            targets: part(&pool, 1024, 40),
            sample_weights: None,
            grad_out: None,
            external_denominator: None,
            logit_grads: Some(grads.as_entire_buffer_binding()),
        };
        assert!(plan.bind(&gpu.device, &batch).is_ok());
    }
}

/// What shaders read four words or two at a time starts where they can.
#[test]
fn statistics_start_at_whole_elements() {
    use wgpu_cross_entropy::Config;
    use wgpu_cross_entropy::kernels::{
        CostGatherBuffers, CostGatherKernel, CrossEntropyForwardBuffers, CrossEntropyForwardKernel,
    };
    for gpu in gpus() {
        let shape = Shape::new(10, 6);
        let config = Config::new(&gpu.device, &Spec::default(), shape, &Options::default()).unwrap();
        let words = |n| buffer(gpu, n, BufferUsages::STORAGE);
        let (logits, labels, losses, table, stats) = (words(60), words(10), words(10), words(64), words(100));
        let forward = CrossEntropyForwardKernel::new(&gpu.device, &config).unwrap();
        let refused = forward.bind(
            &gpu.device,
            &CrossEntropyForwardBuffers {
                logits: logits.as_entire_buffer_binding(),
                targets: labels.as_entire_buffer_binding(),
                sample_weights: None,
                row_losses: losses.as_entire_buffer_binding(),
                row_stats: part(&stats, 8, 320),
                table: table.as_entire_buffer_binding(),
            },
        );
        assert_eq!(
            refused.unwrap_err().to_string(),
            "row_stats starts at byte 8; the offset must be a multiple of 16"
        );
        let gather = CostGatherKernel::new(&gpu.device, &config).unwrap();
        let refused = gather.bind(
            &gpu.device,
            &CostGatherBuffers {
                logits: logits.as_entire_buffer_binding(),
                labels: labels.as_entire_buffer_binding(),
                gathered: part(&stats, 4, 80),
                table: table.as_entire_buffer_binding(),
            },
        );
        assert_eq!(
            refused.unwrap_err().to_string(),
            "gathered starts at byte 4; the offset must be a multiple of 8"
        );
    }
}
