//! What a run is worth on the held-out rows, as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};
use wgpu_cross_entropy::CostMatrix;

use crate::data::Data;
use crate::model::Training;

/// How one trained network does on the held-out rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    pub accuracy: f64,
    /// The mean of `recall`.
    pub balanced_accuracy: f64,
    /// The share of each class's rows that were found.
    pub recall: Vec<f64>,
    /// The mean of `cost[true][predicted]`.
    pub expected_cost: f64,
}

impl Score {
    /// Of `logits[rows, classes]`; a prediction is the class with the largest logit, the first one on ties.
    pub fn of(logits: &[f32], labels: &[i32], cost: &CostMatrix) -> Self {
        let classes = cost.classes() as usize;
        let (mut rows, mut found) = (vec![0_u32; classes], vec![0_u32; classes]);
        let mut cost_sum = 0.0;
        for (z, &label) in logits.chunks_exact(classes).zip(labels) {
            let prediction =
                (1..classes).fold(0, |best, class| if z[class] > z[best] { class } else { best });
            rows[label as usize] += 1;
            found[label as usize] += u32::from(prediction == label as usize);
            cost_sum += f64::from(cost.cost(label as u32, prediction as u32));
        }
        let recall: Vec<f64> = found.iter().zip(&rows).map(|(&f, &n)| f64::from(f) / f64::from(n)).collect();
        let total = labels.len() as f64;
        Self {
            accuracy: f64::from(found.iter().sum::<u32>()) / total,
            balanced_accuracy: recall.iter().sum::<f64>() / classes as f64,
            recall,
            expected_cost: cost_sum / total,
        }
    }
}

/// One finished run.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub name: &'static str,
    pub score: Score,
    /// The mean of the steps' losses, epoch by epoch.
    pub losses: Vec<f64>,
    /// Microseconds a step: the median over the epochs.
    pub step_us: f64,
}

impl Outcome {
    fn final_loss(&self) -> f64 {
        self.losses.last().copied().unwrap_or(f64::NAN)
    }
}

/// What computed the losses.
#[derive(Clone, Debug)]
pub struct Computer {
    pub adapter: String,
    /// `vulkan`, `gl`, `metal`, `dx12`, `webgpu` or `cpu`.
    pub backend: String,
}

impl Computer {
    pub fn cpu() -> Self {
        Self { adapter: "CPU oracle".into(), backend: "cpu".into() }
    }

    fn name(&self) -> String {
        match self.backend.as_str() {
            "cpu" => self.adapter.clone(),
            backend => format!("{} on {backend}", self.adapter),
        }
    }
}

/// What is trained, on what and where: the lines above the table.
pub fn heading(data: &Data, training: &Training, computer: &Computer) -> String {
    let (train, test) = (data.train.rows(), data.test.rows());
    let list = |items: Vec<String>| match items.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => items.join(""),
    };
    format!(
        "{}: {} rows; {} of {} {}\n{train} rows to train on, {test} held out\n{}\n{}\n",
        data.title,
        data.rows(),
        list(data.class_rows.iter().map(u32::to_string).collect()),
        data.class_word,
        list(data.class_names.clone()),
        network(training, train),
        computer.name(),
    )
}

/// The same for the picture, in one line.
pub fn subtitle(data: &Data, training: &Training, computer: &Computer) -> String {
    format!("{}; {}", network(training, data.train.rows()), computer.name())
}

fn network(training: &Training, rows: usize) -> String {
    let widths: Vec<String> = training.widths.iter().map(usize::to_string).collect();
    let Training { epochs, batch, seed, .. } = training;
    let steps = training.steps(rows);
    format!("network {}, {epochs} epochs of {steps} steps of {batch} rows, seed {seed}", widths.join("-"))
}

pub fn table(data: &Data, outcomes: &[Outcome]) -> String {
    let mut text = format!("{:<12}{:>9}{:>10} ", "", "", "balanced");
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "{:^1$}{2:>10}{3:>10}", "recall of class", 7 * data.classes(), "expected", "µs a");
    let _ = write!(text, "{:<12}{:>9}{:>10} ", "run", "accuracy", "accuracy");
    for name in &data.class_names {
        let _ = write!(text, "{name:>7}");
    }
    let _ = writeln!(text, "{:>10}{:>10}", "cost", "step");
    for Outcome { name, score, step_us, .. } in outcomes {
        let _ = write!(text, "{name:<12}{:>9.3}{:>10.3} ", score.accuracy, score.balanced_accuracy);
        for recall in &score.recall {
            let _ = write!(text, "{recall:>7.2}");
        }
        let _ = writeln!(text, "{:>10.3}{step_us:>10.0}", score.expected_cost);
    }
    text
}

/// The whole result as one object.
pub fn json(computer: &Computer, data: &Data, outcomes: &[Outcome]) -> Value {
    let run = |outcome: &Outcome| {
        json!({
            "name": outcome.name,
            "accuracy": outcome.score.accuracy,
            "balanced_accuracy": outcome.score.balanced_accuracy,
            "recall": outcome.score.recall,
            "expected_cost": outcome.score.expected_cost,
            "final_loss": outcome.final_loss(),
            "step_us": outcome.step_us,
        })
    };
    json!({
        "adapter": computer.adapter,
        "backend": computer.backend,
        "dataset": data.source.name(),
        "rows": data.rows(),
        "class_rows": data.class_rows,
        "runs": outcomes.iter().map(run).collect::<Vec<_>>(),
    })
}
