//! UCI red-wine quality: 11 measurements, grades 3 to 8, of which the rarest has 10 of 1,599 rows.

use burn::data::dataloader::batcher::Batcher;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Grades 3 to 8.
pub const CLASSES: usize = 6;
/// Measurements of a wine.
pub const FEATURES: usize = 11;
const LOWEST_GRADE: usize = 3;

/// One row.
#[derive(Clone, Debug)]
pub struct Wine {
    pub features: [f32; FEATURES],
    pub class: i32,
}

/// Rows to train on, and rows held out: three in ten of each class.
pub fn wines() -> (Vec<Wine>, Vec<Wine>) {
    let table = linfa_datasets::winequality();
    let mut values = table.records.iter();
    let mut seen = [0; CLASSES];
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for &grade in &table.targets {
        let features = std::array::from_fn(|_| values.next().map_or(0.0, |&value| value as f32));
        let class = grade - LOWEST_GRADE;
        let part = if seen[class] % 10 < 3 { &mut test } else { &mut train };
        part.push(Wine { features, class: class as i32 });
        seen[class] += 1;
    }
    standardize(&mut train, &mut test);
    (train, test)
}

/// Mean 0 and deviation 1 over the training rows; the held-out rows by the same numbers.
fn standardize(train: &mut [Wine], test: &mut [Wine]) {
    let rows = train.len() as f64;
    for feature in 0..FEATURES {
        let column = || train.iter().map(|wine| f64::from(wine.features[feature]));
        let mean = column().sum::<f64>() / rows;
        let deviation = (column().map(|value| (value - mean).powi(2)).sum::<f64>() / rows).sqrt();
        for wine in train.iter_mut().chain(test.iter_mut()) {
            let value = &mut wine.features[feature];
            *value = ((f64::from(*value) - mean) / deviation) as f32;
        }
    }
}

/// Rows of each class.
pub fn class_rows(wines: &[Wine]) -> [usize; CLASSES] {
    let mut rows = [0; CLASSES];
    wines.iter().for_each(|wine| rows[wine.class as usize] += 1);
    rows
}

/// `features` `[rows, FEATURES]`, `classes` `[rows]`.
#[derive(Clone, Debug)]
pub struct Batch {
    pub features: Tensor<2>,
    pub classes: Tensor<1, Int>,
}

/// Makes a batch of rows.
#[derive(Clone, Debug)]
pub struct WineBatcher;

impl Batcher<Wine, Batch> for WineBatcher {
    fn batch(&self, wines: Vec<Wine>, device: &Device) -> Batch {
        let rows = wines.len();
        let features: Vec<f32> = wines.iter().flat_map(|wine| wine.features).collect();
        let classes: Vec<i32> = wines.iter().map(|wine| wine.class).collect();
        Batch {
            features: Tensor::from_data(TensorData::new(features, [rows, FEATURES]), device),
            classes: Tensor::from_data(TensorData::new(classes, [rows]), device),
        }
    }
}
