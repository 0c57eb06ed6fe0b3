//! How many valid rows each class has, or how much mass.

use super::{Label, Target, sample_weight};
use crate::inputs::Inputs;
use crate::shape::Shape;
use crate::spec::Spec;

/// Counts the labels of each class: `[classes]`. Ignored and out-of-range labels count nowhere.
pub fn class_counts(spec: &Spec, shape: &Shape, labels: &[i32]) -> Vec<u32> {
    let mut counts = vec![0; shape.classes as usize];
    for &label in labels {
        if let Label::Class(class) = Label::read(spec, shape, label) {
            counts[class as usize] += 1;
        }
    }
    counts
}

/// Sums of the targets of each class, times their rows' sample weights where [`LiveCounts`](crate::LiveCounts) says so:
/// `[classes]`. Rows that do not count, and terms that are not finite, add nothing.
pub fn class_mass(spec: &Spec, shape: &Shape, inputs: &Inputs<'_>) -> Vec<f64> {
    let mut mass = vec![0.0; shape.classes as usize];
    for row in 0..shape.rows {
        let Target::Counts { terms, .. } = Target::read(spec, shape, inputs, row) else { continue };
        let weight = match spec.live_counts.sample_weighted {
            true => sample_weight(spec, shape, inputs, row),
            false => 1.0,
        };
        for (class, target) in terms {
            let term = weight * target;
            if term.is_finite() {
                mass[class as usize] += term;
            }
        }
    }
    mass
}
