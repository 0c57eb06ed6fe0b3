use crate::support::{Batch, Guarded, ROWS, gpus, run};
use wgpu_cross_entropy::kernels::{ClassCountsBuffers, ClassCountsKernel};
use wgpu_cross_entropy::{Config, Options, Shape, Spec, cpu};

/// Exact, for few classes (counted in workgroup memory on GPUs), at the edge (1024), beyond, and for very many; with
/// labels ignored and out of range; over poison, at an odd offset.
#[test]
fn counts_are_exact() {
    let spec = Spec { ignore_index: Some(-100), ..Spec::default() };
    for gpu in gpus() {
        let mut checked = 0;
        let shapes = ROWS
            .iter()
            .map(|&rows| Shape::new(rows, 6))
            .chain([1, 1023, 1024, 1025, 262_144].map(|classes| Shape::new(500, classes)));
        for shape in shapes {
            // Only labels matter: one logit a row spares the memory.
            let batch = Batch::random(1, &spec, Shape { classes: 1, row_stride: 1, ..shape });
            let labels: Vec<i32> = batch
                .labels
                .iter()
                .enumerate()
                .map(|(i, &label)| match label {
                    0 => ((i * i + 3 * i) % shape.classes as usize) as i32,
                    1 => shape.classes as i32,
                    other => other,
                })
                .collect();
            let config = Config::new(&gpu.device, &spec, shape, &Options::default()).unwrap();
            let kernel = ClassCountsKernel::new(&gpu.device, &config).unwrap();
            let labels_buffer = Guarded::labels(gpu, 3, &labels);
            let counts = Guarded::output(gpu, 64, shape.classes as usize);
            let bound = kernel
                .bind(
                    &gpu.device,
                    &ClassCountsBuffers { labels: labels_buffer.binding(), class_counts: counts.binding() },
                )
                .unwrap();
            // Twice: counts are set, not added to.
            run(gpu, |pass| bound.encode(pass));
            run(gpu, |pass| bound.encode(pass));
            assert_eq!(
                counts.read(gpu),
                cpu::class_counts(&spec, &shape, &labels),
                "{}: {shape:?}",
                gpu.describe()
            );
            checked += 1;
        }
        println!("{}: {checked} shapes", gpu.describe());
    }
}

/// All labels of one class is the worst case for atomics; it must not lose a count.
#[test]
fn one_class_has_all() {
    for gpu in gpus() {
        let shape = Shape::new(20_000, 7);
        let config = Config::new(&gpu.device, &Spec::default(), shape, &Options::default()).unwrap();
        let kernel = ClassCountsKernel::new(&gpu.device, &config).unwrap();
        let labels = Guarded::labels(gpu, 0, &[4; 20_000]);
        let counts = Guarded::output(gpu, 0, 7);
        let buffers = ClassCountsBuffers { labels: labels.binding(), class_counts: counts.binding() };
        let bound = kernel.bind(&gpu.device, &buffers).unwrap();
        run(gpu, |pass| bound.encode(pass));
        assert_eq!(counts.read(gpu), [0, 0, 0, 0, 20_000, 0, 0], "{}", gpu.describe());
    }
}

/// Cut into tiles, the same counts.
#[test]
fn tiles_count_the_same() {
    for gpu in gpus() {
        let shape = Shape::new(50_000, 9);
        let labels: Vec<i32> = (0..50_000).map(|i| i * i % 11 - 1).collect();
        let small = Options { max_binding_size: Some(20_000), ..Options::default() };
        let config = Config::new(&gpu.device, &Spec::default(), shape, &small).unwrap();
        let kernel = ClassCountsKernel::new(&gpu.device, &config).unwrap();
        let buffer = Guarded::labels(gpu, 5, &labels);
        let counts = Guarded::output(gpu, 0, 9);
        let buffers = ClassCountsBuffers { labels: buffer.binding(), class_counts: counts.binding() };
        let bound = kernel.bind(&gpu.device, &buffers).unwrap();
        assert!(bound.dispatches() > 10, "{} dispatches", bound.dispatches());
        run(gpu, |pass| bound.encode(pass));
        assert_eq!(counts.read(gpu), cpu::class_counts(&Spec::default(), &shape, &labels));
    }
}
