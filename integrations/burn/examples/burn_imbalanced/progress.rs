//! Burn's metrics, a line an epoch. (burn's own screen is its feature `tui`.)

use std::collections::BTreeMap;

use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::MetricDefinition;
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};

/// Prints to standard error.
#[derive(Default)]
pub struct Lines {
    label: String,
    epochs: usize,
    /// The last value of each metric, of the training rows and of those held out.
    train: BTreeMap<String, String>,
    valid: BTreeMap<String, String>,
    names: Vec<(String, String)>,
}

impl Lines {
    fn name(&self, state: &MetricState) -> (String, String) {
        let (MetricState::Generic(entry) | MetricState::Numeric(entry, _)) = state;
        let id = format!("{:?}", entry.metric_id);
        let name =
            self.names.iter().find(|(known, _)| *known == id).map_or(id.clone(), |(_, name)| name.clone());
        // "epoch 1.2 - batch 1.3": the epoch's.
        let text = &entry.serialized_entry.formatted;
        (name, text.split(" - ").next().unwrap_or(text).replace("epoch ", ""))
    }
}

impl MetricsRendererTraining for Lines {
    fn update_train(&mut self, state: MetricState) {
        let (name, value) = self.name(&state);
        self.train.insert(name, value);
    }

    fn update_valid(&mut self, state: MetricState) {
        let (name, value) = self.name(&state);
        self.valid.insert(name, value);
    }
}

impl TrainingProgressLogger for Lines {
    fn start(&mut self, epochs: usize, _first: usize, _items: Option<usize>, label: Option<&str>) {
        self.epochs = epochs;
        self.label = label.unwrap_or("training").to_owned();
    }

    fn update_epoch(&mut self, epoch: usize) {
        let list = |values: &BTreeMap<String, String>| -> String {
            let values: Vec<_> = values.iter().map(|(name, value)| format!("{name} {value}")).collect();
            values.join(", ")
        };
        eprintln!(
            "{}: epoch {epoch} of {}; training: {}; held out: {}",
            self.label,
            self.epochs,
            list(&self.train),
            list(&self.valid)
        );
    }

    fn start_split(&mut self, _split: &str, _items: usize) {}
    fn update_split(&mut self, _items: usize) {}
    fn end_split(&mut self) {}
    fn end(&mut self) {}
    fn log_event_training(&mut self, _event: String) {}
}

impl MetricsRenderer for Lines {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names.push((format!("{:?}", definition.metric_id), definition.name.to_string()));
    }
}

/// Nothing is evaluated through burn here.
impl EvaluationProgressLogger for Lines {
    fn start_global_progress(&mut self, _tests: usize) {}
    fn start_test(&mut self, _name: &str, _items: usize) {}
    fn update_test_progress(&mut self, _items: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _event: String) {}
}

impl MetricsRendererEvaluation for Lines {
    fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}
}
