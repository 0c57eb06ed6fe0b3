//! The data sets: what is trained on and what is held out.

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use wgpu_cross_entropy::{Shape, Spec, cpu};

use crate::model::Training;

/// Which data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// UCI red-wine quality.
    Wine,
    /// Three kinds of uniform noise: the set-up of a well-known Keras tutorial on `sample_weight`.
    ThreeTypes,
}

/// Rows of features, `[rows, features]`, and their classes, `[rows]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    pub x: Vec<f32>,
    pub y: Vec<i32>,
}

impl Part {
    pub fn rows(&self) -> usize {
        self.y.len()
    }

    /// The same rows with only those of `indices`, in that order.
    pub fn select(&self, indices: &[u32]) -> Part {
        let features = self.x.len() / self.rows();
        let x = |&i: &u32| &self.x[i as usize * features..][..features];
        Part {
            x: indices.iter().flat_map(x).copied().collect(),
            y: indices.iter().map(|&i| self.y[i as usize]).collect(),
        }
    }

    /// Rows of each class.
    pub fn class_rows(&self, classes: usize) -> Vec<u32> {
        cpu::class_counts(&Spec::default(), &Shape::new(self.rows() as u32, classes as u32), &self.y)
    }
}

/// A data set, divided.
#[derive(Clone, Debug)]
pub struct Data {
    pub source: Source,
    /// One line for the head of the report.
    pub title: String,
    /// What a class is: a grade, a type.
    pub class_word: &'static str,
    pub class_names: Vec<String>,
    pub features: usize,
    /// Rows of each class before anything was held out.
    pub class_rows: Vec<u32>,
    pub train: Part,
    pub test: Part,
    /// A weight for each row of `train`, for the run with sample weights.
    pub sample_weights: Vec<f32>,
}

impl Data {
    pub fn load(source: Source, seed: u64) -> Self {
        match source {
            Source::Wine => wine(seed),
            Source::ThreeTypes => three_types(seed),
        }
    }

    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// Rows before anything was held out. The three types hold nothing out: their test set is made anew.
    pub fn rows(&self) -> u32 {
        self.class_rows.iter().sum()
    }
}

impl Training {
    /// What suits a data set.
    pub fn of(data: &Data, epochs: Option<usize>, seed: u64) -> Self {
        // A batch must be large enough that a grade with a hundredth of the rows is in it more often than not:
        // live weights know only the classes of their batch.
        let (batch, usual_epochs, rate) = match data.source {
            Source::Wine => (256, 60, 1e-3),
            Source::ThreeTypes => (50, 10, 1e-3),
        };
        let widths = vec![data.features, 64, 32, data.classes()];
        Self { widths, batch, epochs: epochs.unwrap_or(usual_epochs), rate, seed }
    }
}

/// The part of the rows of each class that is held out. The rarest grade has ten rows: a smaller part would
/// leave one or two of them to judge its recall by.
const HELD_OUT: f64 = 0.3;

/// Red-wine quality: 11 measurements, grades 3 to 8.
///
/// 240 of its rows repeat an earlier row. They are split like the others, so some held-out rows have a twin
/// among the training rows; that flatters every run alike.
fn wine(seed: u64) -> Data {
    let table = linfa_datasets::winequality();
    let lowest = 3;
    let class_names: Vec<String> = (lowest..=8).map(|grade| grade.to_string()).collect();
    let all = Part {
        x: table.records.iter().map(|&value| value as f32).collect(),
        y: table.targets.iter().map(|&grade| grade as i32 - lowest).collect(),
    };
    let features = all.x.len() / all.rows();
    let (train_rows, test_rows) = stratified(&all.y, class_names.len(), HELD_OUT, seed);
    let (mut train, mut test) = (all.select(&train_rows), all.select(&test_rows));
    let sample_weights = softened(&train, class_names.len());
    standardise(&mut train, &mut test, features);
    Data {
        source: Source::Wine,
        title: "red-wine quality".into(),
        class_word: "grade",
        features,
        class_rows: all.class_rows(class_names.len()),
        class_names,
        train,
        test,
        sample_weights,
    }
}

/// Divides the rows so that each part has every class in proportion: `(train, test)`, at least one row of
/// each class in `test`.
pub fn stratified(labels: &[i32], classes: usize, held_out: f64, seed: u64) -> (Vec<u32>, Vec<u32>) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for class in 0..classes {
        let mut rows: Vec<u32> =
            (0..labels.len() as u32).filter(|&row| labels[row as usize] == class as i32).collect();
        rows.shuffle(&mut random);
        let count = ((rows.len() as f64 * held_out).round() as usize).max(1).min(rows.len());
        test.extend_from_slice(&rows[..count]);
        train.extend_from_slice(&rows[count..]);
    }
    (train, test)
}

/// Shifts and scales each feature to mean 0 and deviation 1 over the training rows, and the held-out rows by
/// the same numbers: nothing of them may reach the training.
fn standardise(train: &mut Part, test: &mut Part, features: usize) {
    for feature in 0..features {
        let column = || train.x.iter().skip(feature).step_by(features).map(|&value| f64::from(value));
        let rows = train.rows() as f64;
        let mean = column().sum::<f64>() / rows;
        let deviation = (column().map(|value| (value - mean).powi(2)).sum::<f64>() / rows).sqrt();
        for part in [&mut train.x, &mut test.x] {
            for value in part.iter_mut().skip(feature).step_by(features) {
                *value = ((f64::from(*value) - mean) / deviation) as f32;
            }
        }
    }
}

/// Sample weights for the wines: the square root of the balanced class weight, which lifts rare grades less
/// than the full weight does, divided by how often the row occurs, so that repeated rows count as one wine.
/// The second factor is what no class weight can express.
fn softened(train: &Part, classes: usize) -> Vec<f32> {
    let balanced = cpu::class_weights(&Default::default(), &train.class_rows(classes));
    let features = train.x.len() / train.rows();
    // Bit patterns, because floats have no total equality; equal text in the table gives equal bits here.
    let key = |row: usize| -> Vec<u32> {
        let x = &train.x[row * features..][..features];
        x.iter().map(|value| value.to_bits()).chain([train.y[row] as u32]).collect()
    };
    let mut copies = std::collections::HashMap::new();
    for row in 0..train.rows() {
        *copies.entry(key(row)).or_insert(0_u32) += 1;
    }
    (0..train.rows())
        .map(|row| (balanced[train.y[row] as usize].sqrt() / f64::from(copies[&key(row)])) as f32)
        .collect()
}

/// 100, 800 and 100 rows of ten uniform numbers, scaled by 1, 10 and 20, with sample weights 0.8, 0.2 and 0.8,
/// and a test set of a tenth of the size. The features stay as they are: the tutorial does not scale them.
fn three_types(seed: u64) -> Data {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let features = 10;
    let mut part = |counts: [usize; 3]| {
        let mut part = Part::default();
        for (class, count) in counts.into_iter().enumerate() {
            let scale = [1.0, 10.0, 20.0][class];
            part.x.extend((0..count * features).map(|_| scale * random.random::<f32>()));
            part.y.extend(std::iter::repeat_n(class as i32, count));
        }
        part
    };
    let (train, test) = (part([100, 800, 100]), part([10, 80, 10]));
    Data {
        source: Source::ThreeTypes,
        title: "three types of uniform noise".into(),
        class_word: "type",
        class_names: (0..3).map(|class: i32| class.to_string()).collect(),
        features,
        class_rows: train.class_rows(3),
        sample_weights: train.y.iter().map(|&class| [0.8, 0.2, 0.8][class as usize]).collect(),
        train,
        test,
    }
}
