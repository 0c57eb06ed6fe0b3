//! The demo: a small network trained in the browser on rare classes, with a loss of one's choice. The network's own
//! kernels are those of the example `train_imbalanced`; the crate's plan is recorded between them.

use std::rc::Rc;

use serde::Deserialize;
use serde_json::json;
use wasm_bindgen::prelude::*;
use wgpu_cross_entropy::kernels::TOTALS_SIZE;
use wgpu_cross_entropy::{CostMatrix, Gpu, LogitBias, Spec, Totals, WeightScheme, read};

use crate::clouds::{CLASSES, Clouds, EXTENT, GRID};
use crate::model::{Training, checked_loss};
use crate::network::{Kernels, Network, Rows};

/// What a page may choose.
#[derive(Clone, Debug, Deserialize)]
struct Settings {
    /// A key of [`SCHEMES`].
    scheme: String,
    focal_gamma: f32,
    /// True class by true class; none where all are 1.
    cost: Option<Vec<f32>>,
}

/// A choice of weights: its key, its name, and the lines that it takes in Rust.
struct Scheme {
    key: &'static str,
    name: &'static str,
    rust: Option<&'static str>,
    set: fn(&mut Spec),
}

const SCHEMES: [Scheme; 8] = [
    Scheme { key: "none", name: "None", rust: None, set: |_| {} },
    Scheme {
        key: "balanced",
        name: "Balanced",
        rust: Some("class_weights: WeightScheme::Balanced.into()"),
        set: |spec| spec.class_weights = WeightScheme::Balanced.into(),
    },
    Scheme {
        key: "inverse",
        name: "Inverse frequency",
        rust: Some("class_weights: WeightScheme::Inverse.into()"),
        set: |spec| spec.class_weights = WeightScheme::Inverse.into(),
    },
    Scheme {
        key: "inverse_root",
        name: "Inverse square root",
        rust: Some("class_weights: WeightScheme::InversePower(0.5).into()"),
        set: |spec| spec.class_weights = WeightScheme::InversePower(0.5).into(),
    },
    Scheme {
        key: "effective_number",
        name: "Effective number",
        rust: Some("class_weights: WeightScheme::EffectiveNumber(0.999).into()"),
        set: |spec| spec.class_weights = WeightScheme::EffectiveNumber(0.999).into(),
    },
    Scheme {
        key: "median_frequency",
        name: "Median frequency",
        rust: Some("class_weights: WeightScheme::MedianFrequency.into()"),
        set: |spec| spec.class_weights = WeightScheme::MedianFrequency.into(),
    },
    Scheme {
        key: "log_frequency",
        name: "Log frequency",
        rust: Some("class_weights: WeightScheme::LogFrequency(1.02).into()"),
        set: |spec| spec.class_weights = WeightScheme::LogFrequency(1.02).into(),
    },
    Scheme {
        key: "log_prior",
        name: "Log-prior (logit adjustment)",
        rust: Some("logit_bias: LogitBias::LogPrior { tau: 1.0, smoothing: 1.0 }"),
        set: |spec| spec.logit_bias = LogitBias::LogPrior { tau: 1.0, smoothing: 1.0 },
    },
];

/// The names of the classes, the common one first.
const NAMES: [&str; CLASSES] = ["A", "B", "C", "D"];

/// What all trainings share: the data, and the network's compiled kernels.
#[wasm_bindgen]
pub struct Lab {
    gpu: Gpu,
    kernels: Kernels,
    clouds: Rc<Clouds>,
}

#[wasm_bindgen]
impl Lab {
    /// Draws the data and compiles the kernels.
    #[wasm_bindgen(constructor)]
    pub fn new(device: &crate::Device) -> Self {
        let gpu = device.gpu.clone();
        Self { kernels: Kernels::new(&gpu.device), clouds: Rc::new(Clouds::new(7)), gpu }
    }

    /// The choices of weights: key and name by turns.
    pub fn schemes() -> Vec<String> {
        SCHEMES.iter().flat_map(|scheme| [scheme.key, scheme.name]).map(str::to_owned).collect()
    }

    /// What JavaScript has to know: names and shares of the classes, the square, the grid's edge.
    pub fn about(&self) -> String {
        json!({ "names": NAMES, "shares": self.clouds.shares(), "extent": EXTENT, "grid": GRID }).to_string()
    }

    /// `[rows, 2]`: the points to train on, class by class.
    pub fn points(&self) -> Vec<f32> {
        self.clouds.x.clone()
    }

    /// `[rows]`: their classes.
    pub fn labels(&self) -> Vec<i32> {
        self.clouds.labels.clone()
    }

    /// A network before its first step. Settings are JSON.
    pub fn train(&self, settings: &str) -> Result<Training2d, JsError> {
        let settings: Settings = serde_json::from_str(settings)?;
        let (spec, rust) = settings.spec()?;
        let training = Training {
            widths: vec![2, 32, 32, CLASSES],
            batch: 1024,
            epochs: usize::MAX,
            rate: 4e-3,
            seed: 3,
        };
        let Clouds { x, labels, test_x, .. } = &*self.clouds;
        let rows = Rows { x, labels, sample_weights: None };
        let network = Network::new(&self.gpu.device, &self.kernels, &training, &rows, test_x, &spec)
            .map_err(|error| JsError::new(&error.to_string()))?;
        Ok(Training2d {
            gpu: self.gpu.clone(),
            clouds: Rc::clone(&self.clouds),
            training,
            network,
            rust,
            step: 0,
            classes: Vec::new(),
            confidences: Vec::new(),
        })
    }
}

impl Settings {
    /// The spec, and the Rust that says it.
    fn spec(&self) -> Result<(Spec, String), JsError> {
        let scheme = SCHEMES.iter().find(|scheme| scheme.key == self.scheme);
        let scheme = scheme.ok_or_else(|| JsError::new(&format!("no scheme {:?}", self.scheme)))?;
        let mut spec = Spec { focal_gamma: self.focal_gamma, ..Spec::default() };
        (scheme.set)(&mut spec);
        let mut lines: Vec<String> = scheme.rust.iter().map(ToString::to_string).collect();
        if self.focal_gamma != 0.0 {
            lines.push(format!("focal_gamma: {:.1}", self.focal_gamma));
        }
        if let Some(cost) = &self.cost {
            spec.cost_matrix = Some(CostMatrix::from_true_predicted(CLASSES as u32, cost.clone())?);
            lines.push(format!("cost_matrix: Some(CostMatrix::from_true_predicted({CLASSES}, costs)?)"));
        }
        spec.check(CLASSES as u32)?;
        let rust = match lines.is_empty() {
            true => "Spec::default()".into(),
            false => {
                let fields: String = lines.iter().map(|line| format!("    {line},\n")).collect();
                format!("Spec {{\n{fields}    ..Spec::default()\n}}")
            }
        };
        Ok((spec, rust))
    }
}

/// A network that is being trained.
#[wasm_bindgen]
pub struct Training2d {
    gpu: Gpu,
    clouds: Rc<Clouds>,
    training: Training,
    network: Network,
    rust: String,
    step: usize,
    classes: Vec<u8>,
    confidences: Vec<u8>,
}

#[wasm_bindgen]
impl Training2d {
    /// The spec of its loss, in Rust.
    pub fn rust(&self) -> String {
        self.rust.clone()
    }

    /// Trains for some steps and judges: JSON of the step, the last batch's loss, each class's recall, and accuracy in
    /// the proportions of the training rows.
    pub async fn advance(&mut self, steps: usize) -> Result<String, JsError> {
        let rows = self.clouds.labels.len();
        let (device, queue) = (&self.gpu.device, &self.gpu.queue);
        let new_encoder = || device.create_command_encoder(&Default::default());
        let mut encoder = new_encoder();
        for _ in 0..steps {
            let steps_per_epoch = self.training.steps(rows);
            if self.step.is_multiple_of(steps_per_epoch) {
                // The order of the next epoch may only be written once this one's steps are on their way.
                queue.submit([std::mem::replace(&mut encoder, new_encoder()).finish()]);
                let order = self.training.order(self.step / steps_per_epoch, rows);
                queue.write_buffer(&self.network.order, 0, bytemuck::cast_slice(&order));
            }
            self.network.record_step(&mut encoder);
            self.step += 1;
        }
        self.network.record_evaluation(&mut encoder);
        queue.submit([encoder.finish()]);
        let logits = &self.network.test_logits;
        let logits = read(device, queue, "test_logits", logits, logits.size()).await?;
        let totals = read(device, queue, "totals", self.network.plan.table(), TOTALS_SIZE).await?;
        let totals = Totals::<f32>::from_bytes(&totals).unwrap_or_default();
        let loss = checked_loss(self.step, &totals).map_err(|error| JsError::new(&error))?;
        let recalls = self.judge(&bytemuck::pod_collect_to_vec(&logits));
        let shares = self.clouds.shares();
        let accuracy: f64 = recalls.iter().zip(shares).map(|(recall, share)| recall * share).sum();
        Ok(json!({ "step": self.step, "loss": loss, "recalls": recalls, "accuracy": accuracy }).to_string())
    }

    /// `[grid, grid]`: the class predicted at each point of the grid, from the top left.
    pub fn regions(&self) -> Vec<u8> {
        self.classes.clone()
    }

    /// `[grid, grid]`: its probability, of 255.
    pub fn confidences(&self) -> Vec<u8> {
        self.confidences.clone()
    }
}

impl Training2d {
    /// Keeps the decision regions; returns the recall of each class.
    fn judge(&mut self, logits: &[f32]) -> [f64; CLASSES] {
        let (held_out, grid) = logits.split_at(self.clouds.test_labels.len() * CLASSES);
        let (mut right, mut all) = ([0.0; CLASSES], [0.0; CLASSES]);
        for (row, label) in held_out.chunks_exact(CLASSES).zip(&self.clouds.test_labels) {
            let label = *label as usize;
            all[label] += 1.0;
            right[label] += f64::from(u8::from(argmax(row) == label));
        }
        let best = |row: &[f32]| {
            let class = argmax(row);
            let rest: f32 = row.iter().map(|x| (x - row[class]).exp()).sum();
            (class as u8, (255.0 / rest) as u8)
        };
        (self.classes, self.confidences) = grid.chunks_exact(CLASSES).map(best).unzip();
        std::array::from_fn(|class| right[class] / all[class])
    }
}

/// The lowest class on ties.
fn argmax(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best })
}
