//! How many positives and negatives a batch of targets has.

use crate::binary::BinarySpec;
use crate::shape::Shape;

/// Sums of `t` and of `1 - t` over the targets that count and are finite: `[columns, 2]`, or `[2]` for the whole batch.
pub fn binary_counts(spec: &BinarySpec, shape: &Shape, targets: &[f32]) -> Vec<f64> {
    let per_column = spec.pos_weight.per_column();
    let mut counts = vec![0.0; if per_column { 2 * shape.classes as usize } else { 2 }];
    for row in 0..shape.rows {
        for column in 0..shape.classes {
            let t = targets[shape.index(row, column) as usize];
            if spec.ignores(t) || !t.is_finite() {
                continue;
            }
            let at = if per_column { 2 * column as usize } else { 0 };
            counts[at] += f64::from(t);
            counts[at + 1] += 1.0 - f64::from(t);
        }
    }
    counts
}
