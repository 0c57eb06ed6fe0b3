//! How many valid rows each class has.

use super::Label;
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
