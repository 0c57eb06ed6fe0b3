//! A network with one hidden layer, in `f64` on the host: what is shown here is the loss, and what passes between ranks.

/// Rows of features, and their classes.
pub struct Data {
    pub features: usize,
    pub classes: usize,
    /// `[rows, features]`, mean 0 and variance 1.
    pub x: Vec<f64>,
    pub labels: Vec<i32>,
}

impl Data {
    /// Red-wine quality: 1,599 rows of 11 features, grades 3 to 8, of which 3 and 8 are rare.
    pub fn wine() -> Self {
        let wine = linfa_datasets::winequality();
        let (rows, features) = (wine.records.nrows(), wine.records.ncols());
        let mut x = vec![0.0; rows * features];
        for (feature, column) in wine.records.columns().into_iter().enumerate() {
            let mean = column.sum() / rows as f64;
            let deviation = (column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / rows as f64).sqrt();
            for (row, value) in column.iter().enumerate() {
                x[row * features + feature] = (value - mean) / deviation;
            }
        }
        let labels = wine.targets.iter().map(|grade| *grade as i32 - 3).collect();
        Self { features, classes: 6, x, labels }
    }

    pub fn rows(&self) -> usize {
        self.labels.len()
    }
}

/// tanh between two layers.
pub struct Model {
    features: usize,
    hidden: usize,
    classes: usize,
    /// `[hidden, features + 1]`, then `[classes, hidden + 1]`: biases last.
    pub parameters: Vec<f64>,
}

impl Model {
    pub fn new(features: usize, hidden: usize, classes: usize) -> Self {
        let len = hidden * (features + 1) + classes * (hidden + 1);
        // SplitMix64: the same on every rank.
        let mut state = 7u64;
        let mut unit = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        };
        let parameters = (0..len).map(|_| 0.6 * (unit() - 0.5)).collect();
        Self { features, hidden, classes, parameters }
    }

    fn hidden_of(&self, x: &[f64]) -> Vec<f64> {
        let row = |unit: usize| &self.parameters[unit * (self.features + 1)..][..=self.features];
        let sum = |w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>() + w[self.features];
        (0..self.hidden).map(|unit| sum(row(unit)).tanh()).collect()
    }

    fn second(&self) -> usize {
        self.hidden * (self.features + 1)
    }

    /// The logits of a row.
    pub fn logits(&self, x: &[f64]) -> Vec<f32> {
        let hidden = self.hidden_of(x);
        let row =
            |class: usize| &self.parameters[self.second() + class * (self.hidden + 1)..][..=self.hidden];
        let sum = |w: &[f64]| hidden.iter().zip(w).map(|(h, w)| h * w).sum::<f64>() + w[self.hidden];
        (0..self.classes).map(|class| sum(row(class)) as f32).collect()
    }

    /// Adds a row's gradient to that of the parameters.
    pub fn backward(&self, x: &[f64], logit_grads: &[f32], gradient: &mut [f64]) {
        let hidden = self.hidden_of(x);
        let mut hidden_grads = vec![0.0; self.hidden];
        for (class, grad) in logit_grads.iter().enumerate() {
            let at = self.second() + class * (self.hidden + 1);
            for unit in 0..self.hidden {
                gradient[at + unit] += f64::from(*grad) * hidden[unit];
                hidden_grads[unit] += f64::from(*grad) * self.parameters[at + unit];
            }
            gradient[at + self.hidden] += f64::from(*grad);
        }
        for unit in 0..self.hidden {
            let grad = hidden_grads[unit] * (1.0 - hidden[unit] * hidden[unit]);
            let at = unit * (self.features + 1);
            for (feature, x) in x.iter().enumerate() {
                gradient[at + feature] += grad * x;
            }
            gradient[at + self.features] += grad;
        }
    }
}
