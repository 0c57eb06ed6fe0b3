//! The shape of one batch: how many rows and classes, and where each logit lies.

use crate::error::ShapeError;

/// The shape of a batch of logits.
///
/// A *row* is one decision: a sample, a time step of a sample, a pixel. The logit of class `j` in row `i`
/// lies at element
///
/// ```text
/// (i / inner) * row_stride + (i % inner) + j * inner
/// ```
///
/// With `inner == 1` this is the class-last layout `[rows, classes]` whose rows may be padded
/// (`row_stride >= classes`). With `inner > 1` it is the class-first layout `[outer, classes, inner]` of
/// segmentation (`NCHW`: `inner = height * width`), with no transpose and no copy.
///
/// Gradients have the same layout as the logits they belong to; padding is neither read nor written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Shape {
    /// Number of rows. Zero is allowed: the loss of no rows is 0.
    pub rows: u32,
    /// Number of classes, at least 1.
    pub classes: u32,
    /// Elements from one row to the next (class-last) or from one outer block to the next (class-first).
    pub row_stride: u32,
    /// Rows that lie side by side between two classes: 1 for class-last.
    pub inner: u32,
    /// Time steps: rows are `[samples, steps]` flattened, `samples = rows / steps`. It only matters to
    /// [`SampleWeights`](crate::SampleWeights) that are broadcast. 1 where there is no time.
    pub steps: u32,
}

/// The most classes a shape may have: the prediction of a row must fit 24 bits.
pub const MAX_CLASSES: u32 = 1 << 24;

impl Shape {
    /// `[rows, classes]`, dense, class-last.
    pub const fn new(rows: u32, classes: u32) -> Self {
        Self { rows, classes, row_stride: classes, inner: 1, steps: 1 }
    }

    /// `[samples, steps, classes]`, dense, class-last: `rows = samples * steps`.
    ///
    /// The product saturates; [`Shape::check`] then refuses it, for it is no multiple of `steps`.
    pub const fn temporal(samples: u32, steps: u32, classes: u32) -> Self {
        Self { rows: samples.saturating_mul(steps), classes, row_stride: classes, inner: 1, steps }
    }

    /// `[outer, classes, inner]`, dense, class-first: `rows = outer * inner`.
    pub const fn class_first(outer: u32, classes: u32, inner: u32) -> Self {
        Self {
            rows: outer.saturating_mul(inner),
            classes,
            row_stride: classes.saturating_mul(inner),
            inner,
            steps: 1,
        }
    }

    /// The same shape with rows (or outer blocks) `row_stride` elements apart.
    pub const fn with_row_stride(self, row_stride: u32) -> Self {
        Self { row_stride, ..self }
    }

    /// The same shape with its rows read as `[rows / steps, steps]`.
    pub const fn with_steps(self, steps: u32) -> Self {
        Self { steps, ..self }
    }

    /// Number of samples: `rows / steps`.
    pub const fn samples(&self) -> u32 {
        match self.steps {
            0 => 0,
            steps => self.rows / steps,
        }
    }

    /// Element of the logit of `class` in `row`.
    pub const fn index(&self, row: u32, class: u32) -> u64 {
        let (outer, within) = (row / self.inner, row % self.inner);
        outer as u64 * self.row_stride as u64 + within as u64 + class as u64 * self.inner as u64
    }

    /// Elements from the first logit to the last, both included: the least length of a logits slice.
    pub const fn logits_len(&self) -> u64 {
        match self.rows {
            0 => 0,
            rows => self.index(rows - 1, self.classes - 1) + 1,
        }
    }

    /// Checks that the numbers describe a layout.
    ///
    /// # Errors
    /// [`ShapeError`] names the field that is wrong, what was expected and what came.
    pub fn check(&self) -> Result<(), ShapeError> {
        let Self { rows, classes, row_stride, inner, steps } = *self;
        if classes == 0 || classes > MAX_CLASSES {
            return Err(ShapeError::Classes { got: classes });
        }
        if inner == 0 {
            return Err(ShapeError::Zero { name: "inner" });
        }
        if steps == 0 {
            return Err(ShapeError::Zero { name: "steps" });
        }
        let need = u64::from(classes) * u64::from(inner);
        if u64::from(row_stride) < need {
            return Err(ShapeError::RowStride { got: row_stride, need });
        }
        if !rows.is_multiple_of(steps) {
            return Err(ShapeError::Steps { rows, steps });
        }
        if !rows.is_multiple_of(inner) {
            return Err(ShapeError::Inner { rows, inner });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_follows_the_layout() {
        let padded = Shape::new(3, 5).with_row_stride(8);
        assert_eq!(padded.index(2, 4), 20);
        assert_eq!(padded.logits_len(), 21);
        let first = Shape::class_first(2, 3, 4);
        // Block 1, position 2, class 2: 12 + 2 + 8.
        assert_eq!(first.index(6, 2), 22);
        assert_eq!(first.logits_len(), 24);
        assert_eq!(Shape::new(0, 5).logits_len(), 0);
    }

    #[test]
    fn check_names_what_is_wrong() {
        let message = |shape: Shape| shape.check().unwrap_err().to_string();
        assert_eq!(message(Shape::new(4, 0)), "classes is 0; it must be from 1 to 16777216");
        assert_eq!(
            message(Shape::new(4, 9).with_row_stride(8)),
            "row_stride is 8; 9 elements are needed (classes times inner)"
        );
        assert_eq!(
            message(Shape::new(7, 3).with_steps(2)),
            "rows is 7; with steps 2 it must be a multiple of 2"
        );
        assert_eq!(message(Shape::new(7, 3).with_steps(0)), "steps is 0; it must be at least 1");
        assert!(Shape::class_first(2, 3, 4).check().is_ok());
    }
}
