//! Pipelines that plans share, and wgpu's cache: every adapter.

#[path = "../examples/warm_start.rs"]
#[allow(dead_code, reason = "the example's main is not called")]
mod warm_start;

use wgpu_cross_entropy::error::{HostError, PlanError};
use wgpu_cross_entropy::wgsl::Strategy;
use wgpu_cross_entropy::{
    Autotune, BinaryConfig, BinaryCrossEntropy, BinaryOptions, BinarySpec, Config, CrossEntropy, Gpu, Inputs,
    Options, Output, Pipelines, Shape, Spec, wgpu,
};

fn gpus() -> Vec<Gpu> {
    let gpus = pollster::block_on(Gpu::all(&Default::default()));
    assert!(!gpus.is_empty(), "there is no adapter, software or not");
    gpus
}

const CLASSES: u32 = 12;

fn config(gpu: &Gpu, rows: u32, strategy: Option<Strategy>) -> Config {
    let options = Options { strategy, ..Options::default() };
    Config::new(&gpu.device, &Spec::default(), Shape::new(rows, CLASSES), &options).expect("a sound config")
}

fn computed(gpu: &Gpu, config: Config) -> Output<f32> {
    let rows = config.shape().rows;
    let logits: Vec<f32> = (0..rows * CLASSES).map(|i| (i * 7919 % 101) as f32 / 10.0).collect();
    let labels: Vec<i32> = (0..rows).map(|row| (row * 5 % CLASSES) as i32).collect();
    let plan = CrossEntropy::with_config(&gpu.device, config).expect("a plan");
    let inputs = Inputs { logits: &logits, labels: &labels, ..Inputs::default() };
    plan.compute_blocking(&gpu.device, &gpu.queue, &inputs).expect("sound inputs")
}

#[test]
fn a_text_is_compiled_once() {
    for gpu in gpus() {
        let pipelines = Pipelines::new(&gpu.device);
        assert!(pipelines.is_empty());
        let alone = computed(&gpu, config(&gpu, 40, None));
        let first = computed(&gpu, config(&gpu, 40, None).with_pipelines(&pipelines));
        let compiled = pipelines.len();
        assert!(compiled >= 3, "{compiled} pipelines");
        assert_eq!(alone, first);

        // The same again, by many threads, and another number of rows: of four, for CPUs take few classes by four rows.
        std::thread::scope(|scope| {
            for rows in [40, 40, 40, 8] {
                let (gpu, pipelines, alone) = (&gpu, &pipelines, &alone);
                scope.spawn(move || {
                    let output = computed(gpu, config(gpu, rows, None).with_pipelines(pipelines));
                    assert!(rows != 40 || output == *alone);
                });
            }
        });
        assert_eq!(pipelines.len(), compiled);

        // Only the kernel that differs is new.
        computed(&gpu, config(&gpu, 40, Some(Strategy::Streaming)).with_pipelines(&pipelines));
        assert_eq!(pipelines.len(), compiled + 1);

        // The crate's own text as the caller's is compiled with checks: another pipeline each.
        let edited = config(&gpu, 40, None).with_shaders(|_, text| Some(text.to_owned()));
        assert_eq!(computed(&gpu, edited.with_pipelines(&pipelines)), alone);
        assert_eq!(pipelines.len(), 2 * compiled + 1);

        pipelines.clear();
        assert!(pipelines.is_empty());
        computed(&gpu, config(&gpu, 40, None).with_pipelines(&pipelines));
        assert_eq!(pipelines.len(), compiled);
    }
}

#[test]
fn many_threads_compile_a_text_once() {
    for gpu in gpus() {
        let pipelines = Pipelines::new(&gpu.device);
        let outputs: Vec<Output<f32>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| computed(&gpu, config(&gpu, 9, None).with_pipelines(&pipelines))))
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let alone = Pipelines::new(&gpu.device);
        computed(&gpu, config(&gpu, 9, None).with_pipelines(&alone));
        assert_eq!(pipelines.len(), alone.len());
        assert!(outputs.iter().all(|output| output == &outputs[0]));
    }
}

#[test]
fn binary_plans_and_autotune_share_them_too() {
    for gpu in gpus() {
        let pipelines = Pipelines::new(&gpu.device);
        let (spec, options) = (BinarySpec::default(), BinaryOptions::default());
        let mut compiled = Vec::new();
        for rows in [30, 30, 50] {
            let config = BinaryConfig::new(&gpu.device, &spec, Shape::new(rows, 3), &options)
                .expect("a sound config")
                .with_pipelines(&pipelines);
            BinaryCrossEntropy::with_config(&gpu.device, config).expect("a plan");
            compiled.push(pipelines.len());
        }
        assert!(compiled[0] > 0 && compiled.iter().all(|len| *len == compiled[0]), "{compiled:?}");

        let (spec, shape) = (Spec::default(), Shape::new(64, CLASSES));
        let autotune = Autotune::new().with_pipelines(&pipelines);
        let options = autotune
            .choose(&gpu.device, &gpu.queue, &spec, shape, &Options::default())
            .expect("a sound shape");
        let tuned = pipelines.len();
        let config = Config::new(&gpu.device, &spec, shape, &options).expect("a sound config");
        CrossEntropy::with_config(&gpu.device, config.with_pipelines(&pipelines)).expect("a plan");
        assert_eq!(pipelines.len(), tuned, "what was chosen is compiled already");
    }
}

#[test]
fn pipelines_of_another_device_are_refused() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let computes = wgpu::DownlevelFlags::COMPUTE_SHADERS;
    for adapter in adapters {
        if !adapter.get_downlevel_capabilities().flags.contains(computes) {
            continue;
        }
        let open = || pollster::block_on(Gpu::open(&adapter)).expect("a device");
        let (gpu, other) = (open(), open());
        let pipelines = Pipelines::new(&other.device);
        let error = CrossEntropy::with_config(&gpu.device, config(&gpu, 8, None).with_pipelines(&pipelines))
            .expect_err("another device");
        assert_eq!(error, PlanError::OtherDevice { what: "the config's pipelines" });
        assert_eq!(
            HostError::from(error).to_string(),
            "the config's pipelines belong to another device than the plan's"
        );
        assert!(pipelines.is_empty());
    }
}

#[test]
fn a_text_that_fails_is_tried_again() {
    for gpu in gpus() {
        let pipelines = Pipelines::new(&gpu.device);
        for _ in 0..2 {
            let broken = config(&gpu, 8, None).with_shaders(|_, _| Some("fn main( {}".to_owned()));
            let error = CrossEntropy::with_config(&gpu.device, broken.with_pipelines(&pipelines))
                .expect_err("no WGSL");
            assert!(matches!(error, PlanError::Compile { .. }), "{error}");
            assert!(pipelines.is_empty());
        }
        computed(&gpu, config(&gpu, 8, None).with_pipelines(&pipelines));
    }
}

/// The example, twice: the second run starts with the file of the first.
#[test]
fn a_warm_start() {
    for (number, gpu) in gpus().iter().enumerate() {
        let file = std::env::temp_dir().join(format!("warm_start_{}_{number}", std::process::id()));
        for run in ["first", "second"] {
            println!("{}, {run} run:", gpu.describe());
            for line in warm_start::start(gpu, Some(&file)).expect("a sound start") {
                println!("  {line}");
            }
        }
        let cached = gpu.device.features().contains(wgpu::Features::PIPELINE_CACHE);
        assert_eq!(file.exists(), cached, "what drivers compile is saved where they offer it");
        if cached {
            std::fs::remove_file(&file).expect("the file is ours");
        }
    }
}
