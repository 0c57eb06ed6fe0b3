//! Errors, by operation. Each message names the thing, what was expected and what came.

/// A [`Shape`](crate::Shape) that describes no layout.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// No classes, or more than the crate's limit.
    #[error("classes is {got}; it must be from 1 to {}", crate::shape::MAX_CLASSES)]
    Classes {
        /// What came.
        got: u32,
    },
    /// A field that must be at least 1.
    #[error("{name} is 0; it must be at least 1")]
    Zero {
        /// The field.
        name: &'static str,
    },
    /// Rows that would overlap.
    #[error("row_stride is {got}; {need} elements are needed (classes times inner)")]
    RowStride {
        /// What came.
        got: u32,
        /// The least possible.
        need: u64,
    },
    /// Rows that are no whole number of samples.
    #[error("rows is {rows}; with steps {steps} it must be a multiple of {steps}")]
    Steps {
        /// Rows of the shape.
        rows: u32,
        /// Steps of the shape.
        steps: u32,
    },
    /// Rows that are no whole number of class-first blocks.
    #[error("rows is {rows}; with inner {inner} it must be a multiple of {inner}")]
    Inner {
        /// Rows of the shape.
        rows: u32,
        /// Inner positions of the shape.
        inner: u32,
    },
}

/// A [`Spec`](crate::Spec) that cannot be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A list of the wrong length.
    #[error("{name} holds {got} values; {need} are needed")]
    Length {
        /// The list.
        name: &'static str,
        /// Its length.
        got: u64,
        /// The right length.
        need: u64,
    },
    /// A weight that is negative or not finite.
    #[error("{name}[{index}] is {got}; it must be finite and at least 0")]
    Weight {
        /// The list.
        name: &'static str,
        /// Where in it.
        index: usize,
        /// The value.
        got: f32,
    },
    /// A cost matrix for another number of classes.
    #[error("cost_matrix is for {got} classes; the shape has {classes}")]
    CostMatrixClasses {
        /// Classes of the matrix.
        got: u32,
        /// Classes of the shape.
        classes: u32,
    },
}

/// Host slices that do not fit the spec and the shape.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The shape itself.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The spec itself.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A slice of the wrong length.
    #[error("{name} holds {got} elements; {need} are needed")]
    Length {
        /// The slice.
        name: &'static str,
        /// Its length.
        got: u64,
        /// The right length.
        need: u64,
    },
    /// A slice that the spec asks for and the inputs lack.
    #[error("{name} is missing; the spec asks for it")]
    Missing {
        /// The slice.
        name: &'static str,
    },
    /// A slice that the inputs have and the spec does not ask for.
    #[error("{name} is given; the spec does not ask for it")]
    Unexpected {
        /// The slice.
        name: &'static str,
    },
}
