//! Strategies chosen by timing: what is timed, that it is timed once, and what a file keeps.

#[path = "kernels/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the kernels, which use all of it")]
mod support;

use support::{Batch, gpus};
use wgpu_cross_entropy::wgsl::Strategy;
use wgpu_cross_entropy::{Autotune, Capabilities, Config, CrossEntropy, Gpu, Options, Shape, Spec};

fn choose(autotune: &Autotune, gpu: &Gpu, spec: &Spec, shape: Shape, options: &Options) -> Options {
    autotune.choose(&gpu.device, &gpu.queue, spec, shape, options).expect("a device that works")
}

#[test]
fn a_choice_is_timed_once_and_kept_in_a_file() {
    let folder = std::env::temp_dir().join(format!("wgpu_cross_entropy_autotune_{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (number, gpu) in gpus().enumerate() {
        let file = folder.join(number.to_string());
        let autotune = Autotune::with_file(&file).unwrap();
        let spec = Spec::default();
        let own = Options { grad_out: true, ..Options::default() };
        for (shape, lines) in [(Shape::new(400, 100), 1), (Shape::new(3, 40_000), 2)] {
            let options = choose(&autotune, gpu, &spec, shape, &own);
            assert!(options.strategy.is_some());
            // What was chosen works, and is as right as any.
            let plan = CrossEntropy::new(&gpu.device, &spec, shape, &options).unwrap();
            let batch = Batch::random(1, &spec, shape);
            let validation = plan.validate_blocking(&gpu.device, &gpu.queue, &batch.inputs()).unwrap();
            assert!(validation.passed(), "{validation}");
            let kept = std::fs::read_to_string(&file).unwrap();
            assert_eq!(kept.lines().count(), lines, "{kept}");
            // Remembered: another timing could end otherwise, and would make pipelines.
            let pipelines = || gpu.device.get_internal_counters().hal.compute_pipelines.read();
            let before = pipelines();
            assert!(before > 0, "the plan's own are counted");
            assert_eq!(choose(&autotune, gpu, &spec, shape, &own), options);
            let again = Autotune::with_file(&file).unwrap();
            assert_eq!(choose(&again, gpu, &spec, shape, &own), options);
            assert_eq!(pipelines(), before);
            // What else the caller wants stays.
            let asked = Options { strategy: Some(Strategy::Streaming), ..own };
            assert_eq!(choose(&autotune, gpu, &spec, shape, &asked), asked);
            println!("{}: {shape:?}: {:?}", gpu.describe(), options.strategy);
        }
        // A choice that this device does not take is made anew.
        let kept = std::fs::read_to_string(&file).unwrap();
        let broken: String = kept
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(key, _)| format!("{key}\tTile 3 1 1\n"))
            .collect();
        std::fs::write(&file, broken).unwrap();
        let again = Autotune::with_file(&file).unwrap();
        let options = choose(&again, gpu, &spec, Shape::new(400, 100), &own);
        assert_ne!(options.workgroup_size, Some(3));
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_broken_file_is_an_error_that_names_the_line() {
    let file = std::env::temp_dir().join(format!("wgpu_cross_entropy_broken_{}", std::process::id()));
    std::fs::write(&file, "key\tTile 64 1 2\nkey\tTile 64\n").unwrap();
    let error = Autotune::with_file(&file).unwrap_err().to_string();
    assert!(error.starts_with("line 2 of ") && error.contains("\"key\\tTile 64\""), "{error}");
    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    assert!(Autotune::with_file(&file).unwrap_err().to_string().contains("cannot be read"));
    std::fs::remove_file(&file).unwrap();
    // A file that is not there yet is no error.
    assert!(Autotune::with_file(&file).is_ok());
}

/// Two or three at every shape, the table's first, all of them different and sound.
#[test]
fn candidates_are_neighbours_in_the_table() {
    let caps = Capabilities {
        subgroups: true,
        subgroup_min_size: 8,
        subgroup_max_size: 8,
        max_workgroup_size: 1024,
        ..Capabilities::default()
    };
    for cpu in [false, true] {
        let caps = Capabilities { cpu, ..caps };
        for classes in [2, 10, 19, 64, 100, 256, 1_000, 4_096, 32_000, 262_144] {
            for rows in [1, 64, 100_000] {
                let (spec, shape) = (Spec::default(), Shape::new(rows, classes));
                let candidates = Config::candidates(caps, &spec, shape, &Options::default()).unwrap();
                assert!((2..=3).contains(&candidates.len()), "{classes}: {candidates:?}");
                assert_eq!(candidates[0], Options::default());
                let variants: Vec<_> = candidates
                    .iter()
                    .map(|options| {
                        let config = Config::with_capabilities(caps, &spec, shape, options).unwrap();
                        format!("{:?}", config.variant())
                    })
                    .collect();
                assert!((1..variants.len()).all(|n| !variants[..n].contains(&variants[n])), "{variants:?}");
            }
        }
    }
}
