//! The example `train_imbalanced`, part by part: its data, its kernels, that both of its trainers train alike,
//! what the losses do, and its JSON.

macro_rules! example {
    ($($name:ident, $path:literal;)*) => {$(
        #[path = $path]
        #[allow(dead_code, reason = "the example uses the rest")]
        mod $name;
    )*};
}

example! {
    agreement, "../examples/train_imbalanced/agreement.rs";
    cpu_trainer, "../examples/train_imbalanced/cpu_trainer.rs";
    data, "../examples/train_imbalanced/data.rs";
    gpu_trainer, "../examples/train_imbalanced/gpu_trainer.rs";
    model, "../examples/train_imbalanced/model.rs";
    network, "../examples/train_imbalanced/network.rs";
    options, "../examples/train_imbalanced/options.rs";
    report, "../examples/train_imbalanced/report.rs";
    runs, "../examples/train_imbalanced/runs.rs";
}

use std::sync::OnceLock;

use serde_json::Value;
use wgpu_cross_entropy::{DeviceOptions, Gpu};

use cpu_trainer::CpuTrainer;
use data::{Data, Part, Source};
use gpu_trainer::GpuTrainer;
use model::{Trainer, Training};
use network::Kernels;
use options::Options;
use report::{Computer, Outcome, Score};

/// The best adapter, opened once: drivers dislike many devices in one process.
fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| Gpu::new_blocking(&DeviceOptions::default()).expect("an adapter, software or not"))
}

fn wine() -> Data {
    Data::load(Source::Wine, 2)
}

#[test]
fn the_wines_are_all_there() {
    let data = wine();
    assert_eq!(data.rows(), 1599);
    assert_eq!(data.class_rows, [10, 53, 681, 638, 199, 18]);
    assert_eq!(data.class_names, ["3", "4", "5", "6", "7", "8"]);
    assert_eq!(data.features, 11);
    assert_eq!(data.sample_weights.len(), data.train.rows());
}

#[test]
fn the_split_is_stratified() {
    let data = wine();
    assert_eq!(data.train.class_rows(6), [7, 37, 477, 447, 139, 13]);
    assert_eq!(data.test.class_rows(6), [3, 16, 204, 191, 60, 5]);

    let labels: Vec<i32> = (0..50).map(|row| i32::from(row >= 40)).collect();
    let (mut train, test) = data::stratified(&labels, 2, 0.3, 1);
    assert_eq!((train.len(), test.len()), (35, 15));
    assert_eq!((train.clone(), test.clone()), data::stratified(&labels, 2, 0.3, 1));
    assert_ne!(test, data::stratified(&labels, 2, 0.3, 2).1);
    train.extend(test);
    train.sort_unstable();
    assert_eq!(train, (0..50).collect::<Vec<u32>>(), "every row is on one side");
}

#[test]
fn features_are_standardised_by_the_training_rows() {
    let data = wine();
    let column = |part: &Part, feature: usize| -> Vec<f64> {
        part.x.iter().skip(feature).step_by(11).map(|&x| f64::from(x)).collect()
    };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    for feature in 0..11 {
        let train = column(&data.train, feature);
        let squares: Vec<f64> = train.iter().map(|x| x * x).collect();
        assert!(mean(&train).abs() < 1e-6 && (mean(&squares) - 1.0).abs() < 1e-6, "feature {feature}");
        assert!(
            mean(&column(&data.test, feature)).abs() > 1e-4,
            "feature {feature}: held-out rows were used"
        );
    }
}

#[test]
fn the_three_types() {
    let data = Data::load(Source::ThreeTypes, 2);
    assert_eq!(data.class_rows, [100, 800, 100]);
    assert_eq!(data.test.class_rows(3), [10, 80, 10]);
    for (class, scale, weight) in [(0, 1.0, 0.8), (1, 10.0, 0.2), (2, 20.0, 0.8)] {
        let rows: Vec<u32> = (0..1000).filter(|&row| data.train.y[row as usize] == class).collect();
        let x = data.train.select(&rows).x;
        assert!(x.iter().all(|&x| (0.0..scale).contains(&x)) && x.iter().any(|&x| x > 0.9 * scale));
        assert!(rows.iter().all(|&row| data.sample_weights[row as usize] == weight));
    }
}

/// Batches are whole, no row comes twice in an epoch, and what sits out changes.
#[test]
fn an_epoch_has_its_own_order() {
    let data = wine();
    let training = Training::of(&data, None, 2);
    let rows = data.train.rows();
    let orders: Vec<Vec<u32>> = (0..2).map(|epoch| training.order(epoch, rows)).collect();
    for order in &orders {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..rows as u32).collect::<Vec<u32>>());
    }
    let used = training.steps(rows) * training.batch;
    assert!(used <= rows && rows - used < training.batch);
    assert_ne!(orders[0][used..], orders[1][used..]);
}

#[test]
fn shaders_are_valid() {
    for (name, text) in network::shaders() {
        let module = naga::front::wgsl::parse_str(&text)
            .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(&text)));
        let flags = naga::valid::ValidationFlags::all();
        // No capability: the shaders must run on every device.
        let mut validator = naga::valid::Validator::new(flags, naga::valid::Capabilities::empty());
        if let Err(error) = validator.validate(&module) {
            panic!("{name}: {}", error.emit_to_string(&text));
        }
    }
}

/// Same seed, same rows, same first parameters: the losses of the first steps differ by rounding alone.
#[test]
fn gpu_and_cpu_train_alike() {
    let gpu = gpu();
    let kernels = Kernels::new(&gpu.device);
    for source in [Source::Wine, Source::ThreeTypes] {
        let data = Data::load(source, 2);
        let training = Training::of(&data, None, 2);
        for run in runs::all(&data).unwrap() {
            let weights = run.sample_weights(&data);
            let mut trainer =
                GpuTrainer::new(&gpu.device, &gpu.queue, &kernels, &data, &training, &run.spec, weights)
                    .unwrap();
            let mut losses = Vec::new();
            for epoch in 0.. {
                if losses.len() >= agreement::STEPS {
                    break;
                }
                losses.extend(trainer.epoch(&training.order(epoch, data.train.rows())).unwrap());
            }
            let steps = agreement::first_steps(&data, &training, &run, &losses).unwrap();
            assert_eq!(steps.len(), agreement::STEPS);
            for (index, step) in steps.iter().enumerate() {
                let apart = (step.gpu - step.oracle).abs();
                assert!(apart <= step.bound, "{} step {index} of {source:?}: {step:?}", run.name);
                // A bound that allows everything would prove nothing.
                assert!(step.bound < 1e-3 * step.oracle, "{} step {index} of {source:?}: {step:?}", run.name);
            }
            assert!(trainer.validate().unwrap().passed(), "{} of {source:?}", run.name);
        }
    }
}

/// The held-out logits come from the parameters that training left.
#[test]
fn gpu_and_cpu_judge_alike() {
    let gpu = gpu();
    let data = wine();
    let training = Training::of(&data, Some(2), 2);
    let run = &runs::all(&data).unwrap()[2];
    let kernels = Kernels::new(&gpu.device);
    let mut on_gpu =
        GpuTrainer::new(&gpu.device, &gpu.queue, &kernels, &data, &training, &run.spec, None).unwrap();
    let mut on_cpu = CpuTrainer::new(&data, &training, &run.spec, None);
    let logits = [&mut on_gpu as &mut dyn Trainer, &mut on_cpu].map(|trainer| {
        for epoch in 0..training.epochs {
            trainer.epoch(&training.order(epoch, data.train.rows())).unwrap();
        }
        trainer.test_logits().unwrap()
    });
    assert_eq!(logits[0].len(), data.test.rows() * 6);
    let worst = logits[0].iter().zip(&logits[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("logits differ by at most {worst:e}");
    assert!(worst < 1e-4, "{worst}");
}

/// The reason for all this: weights that follow the counts find the rare classes.
#[test]
fn balanced_weights_lift_the_balanced_accuracy() {
    let data = wine();
    let training = Training::of(&data, Some(20), 2);
    let cost = runs::cost_matrix(data.classes()).unwrap();
    let runs = runs::all(&data).unwrap();
    let score = |name: &str| {
        let run = runs.iter().find(|run| run.name == name).unwrap();
        let mut trainer = CpuTrainer::new(&data, &training, &run.spec, run.sample_weights(&data));
        for epoch in 0..training.epochs {
            trainer.epoch(&training.order(epoch, data.train.rows())).unwrap();
        }
        Score::of(&trainer.test_logits().unwrap(), &data.test.y, &cost)
    };
    let (unweighted, balanced) = (score("unweighted"), score("balanced"));
    assert!(balanced.balanced_accuracy > unweighted.balanced_accuracy + 0.03, "{unweighted:?}\n{balanced:?}");
}

#[test]
fn a_score_by_hand() {
    let cost = runs::cost_matrix(3).unwrap();
    // Predictions 0, 2, 1 (the first on ties), 2 for labels 0, 0, 1, 2.
    let logits = [1.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 5.0, 5.0, -3.0, -2.0, -1.0];
    let score = Score::of(&logits, &[0, 0, 1, 2], &cost);
    assert_eq!(score.accuracy, 0.75);
    assert_eq!(score.recall, [0.5, 1.0, 1.0]);
    assert_eq!(score.balanced_accuracy, 2.5 / 3.0);
    assert_eq!(score.expected_cost, (1.0 + 3.0 + 1.0 + 1.0) / 4.0);
}

#[test]
fn json_has_its_shape() {
    let data = wine();
    let score = Score {
        accuracy: 0.5,
        balanced_accuracy: 0.25,
        recall: vec![0.0, 0.0, 0.5, 0.5, 0.5, 0.0],
        expected_cost: 1.5,
    };
    let outcomes: Vec<Outcome> = runs::all(&data)
        .unwrap()
        .iter()
        .map(|run| Outcome { name: run.name, score: score.clone(), losses: vec![2.0, 1.0], step_us: 10.0 })
        .collect();
    let computer = Computer { adapter: "an adapter".into(), backend: "vulkan".into() };
    let line = report::json(&computer, &data, &outcomes).to_string();
    assert!(!line.contains('\n'));
    let json: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["adapter"], "an adapter");
    assert_eq!(json["backend"], "vulkan");
    assert_eq!(json["dataset"], "wine");
    assert_eq!(json["rows"], 1599);
    assert_eq!(json["class_rows"], serde_json::json!([10, 53, 681, 638, 199, 18]));
    let runs = json["runs"].as_array().unwrap();
    let names: Vec<&str> = runs.iter().map(|run| run["name"].as_str().unwrap()).collect();
    let expected = [
        "unweighted",
        "fixed",
        "balanced",
        "balanced_ema",
        "inverse",
        "effective",
        "log_prior",
        "focal",
        "cost",
        "sample",
    ];
    assert_eq!(names, expected);
    for run in runs {
        for key in ["accuracy", "balanced_accuracy", "expected_cost", "final_loss", "step_us"] {
            assert!(run[key].is_f64(), "{key}");
        }
        assert_eq!(run["recall"].as_array().unwrap().len(), 6);
        assert_eq!(run["final_loss"], 1.0);
    }
}

#[test]
fn options_are_read() {
    let options =
        Options::parse(["--data", "three-types", "--epochs=3", "--seed", "9", "--cpu", "--json"]).unwrap();
    assert_eq!((options.source, options.epochs, options.seed), (Source::ThreeTypes, Some(3), 9));
    assert!(options.cpu && options.json && !options.validate && options.adapter.is_none());
    let message = |arguments: &[&str]| Options::parse(arguments).unwrap_err().to_string();
    assert_eq!(message(&["--epoch", "3"]), "invalid option '--epoch'");
    assert!(message(&["--epochs", "0"]).contains("it must be at least 1"));
    assert!(message(&["--data", "iris"]).contains("the data sets are wine and three-types"));
    assert_eq!(message(&["wine"]), "unexpected argument \"wine\"");
}
