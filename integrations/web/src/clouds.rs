//! The demo's data: points in the plane in four classes, of which three are rare and lie inside the common one.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// Classes.
pub const CLASSES: usize = 4;
/// Rows of each class to train on: 90, 7, 2 and 1 % of 8,192.
const TRAIN: [usize; CLASSES] = [7373, 573, 164, 82];
/// Rows of each class to judge by. As many of each, so that a rare class's recall is no matter of five points.
const HELD_OUT: usize = 400;
/// Half of the square that is drawn.
pub const EXTENT: f32 = 1.6;
/// Points along an edge of the square, for the decision regions.
pub const GRID: usize = 72;

/// The data of all trainings.
pub struct Clouds {
    /// `[rows, 2]`.
    pub x: Vec<f32>,
    /// `[rows]`.
    pub labels: Vec<i32>,
    /// `[held-out rows and then the grid, 2]`. The grid goes row by row from the top left.
    pub test_x: Vec<f32>,
    /// `[held-out rows]`.
    pub test_labels: Vec<i32>,
}

impl Clouds {
    /// The same for the same seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut draw = |counts: [usize; CLASSES]| {
            let (mut x, mut labels) = (Vec::new(), Vec::new());
            for (class, count) in counts.into_iter().enumerate() {
                (0..count).for_each(|_| x.extend(point(&mut random, class)));
                labels.extend(std::iter::repeat_n(class as i32, count));
            }
            (x, labels)
        };
        let (x, labels) = draw(TRAIN);
        let (mut test_x, test_labels) = draw([HELD_OUT; CLASSES]);
        let at = |i: usize| EXTENT * ((2 * i + 1) as f32 / GRID as f32 - 1.0);
        test_x.extend((0..GRID * GRID).flat_map(|i| [at(i % GRID), -at(i / GRID)]));
        Self { x, labels, test_x, test_labels }
    }

    /// The part of the rows that each class has.
    pub fn shares(&self) -> [f64; CLASSES] {
        TRAIN.map(|count| count as f64 / self.labels.len() as f64)
    }
}

/// A disc; an arc across it; and a larger and a smaller knot inside. Over the knots the disc has the more points per
/// area, so that a network that is asked for accuracy alone gives them up, and is right to.
fn point(random: &mut Xoshiro256PlusPlus, class: usize) -> [f32; 2] {
    let turn = |part: f32| (std::f32::consts::TAU * part).sin_cos();
    // Box and Muller.
    let radius = (-2.0 * (1.0 - random.random::<f32>()).ln()).sqrt();
    let (sin, cos) = turn(random.random());
    let (a, b) = (radius * cos, radius * sin);
    match class {
        0 => {
            let (sin, cos) = turn(random.random());
            let radius = 1.5 * random.random::<f32>().sqrt();
            [radius * cos, radius * sin]
        }
        1 => {
            let (sin, cos) = turn(0.02 + 0.46 * random.random::<f32>());
            let radius = 0.95 + 0.06 * a;
            [radius * cos, radius * sin]
        }
        2 => [0.5 + 0.17 * a, -0.45 + 0.17 * b],
        _ => [-0.55 + 0.12 * a, -0.35 + 0.12 * b],
    }
}
