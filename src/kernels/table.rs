//! The table: one buffer that a step's kernels meet in.
//!
//! ```text
//! bytes 0..64   the totals: 16 words, see `TotalsWords`
//! then          [classes] class weights, f32
//! then          [classes] logit biases, f32
//! then          [classes, classes] cost matrix, f32, where the spec has one
//! ```
//!
//! It needs usage `STORAGE`, and `COPY_SRC` to be read. A caller who all-reduces denominators does so on the
//! word at [`TableLayout::DENOMINATOR`], between `denominator` and `cross_entropy`.

use crate::inputs::Totals;
use crate::shape::Shape;
use crate::spec::{ClassWeights, LogitBias, Spec};

/// Bytes of the totals, at the start of the table.
pub const TOTALS_SIZE: u64 = 64;

/// The totals as the kernels write them: the head of `Table` in `shaders/parts/table.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct TotalsWords {
    /// See [`Totals::loss`].
    pub loss: f32,
    /// See [`Totals::loss_sum`].
    pub loss_sum: f32,
    /// See [`Totals::denominator`].
    pub denominator: f32,
    /// See [`Totals::weight_sum`].
    pub weight_sum: f32,
    /// See [`Totals::sample_weight_sum`].
    pub sample_weight_sum: f32,
    /// See [`Totals::valid_rows`].
    pub valid_rows: u32,
    /// See [`Totals::ignored_rows`].
    pub ignored_rows: u32,
    /// See [`Totals::out_of_range_rows`].
    pub out_of_range_rows: u32,
    /// See [`Totals::nonfinite_rows`].
    pub nonfinite_rows: u32,
    /// See [`Totals::first_bad_row`]; `u32::MAX` where there is none.
    pub first_bad_row: u32,
    /// See [`Totals::correct_rows`].
    pub correct_rows: u32,
    /// See [`Totals::nonzero_rows`].
    pub nonzero_rows: u32,
    /// The caller's factor on every gradient; no kernel writes it. See [`TableLayout::GRAD_SCALE`].
    pub grad_scale: f32,
    /// Not used.
    pub reserved_1: u32,
    /// See [`Totals::nonfinite_weights`].
    pub nonfinite_weights: u32,
    /// Not used.
    pub reserved_3: u32,
}

impl From<TotalsWords> for Totals<f32> {
    fn from(words: TotalsWords) -> Self {
        Self {
            loss: words.loss,
            loss_sum: words.loss_sum,
            denominator: words.denominator,
            weight_sum: words.weight_sum,
            sample_weight_sum: words.sample_weight_sum,
            valid_rows: words.valid_rows,
            ignored_rows: words.ignored_rows,
            out_of_range_rows: words.out_of_range_rows,
            nonfinite_rows: words.nonfinite_rows,
            first_bad_row: (words.first_bad_row != u32::MAX).then_some(words.first_bad_row),
            correct_rows: words.correct_rows,
            nonzero_rows: words.nonzero_rows,
            nonfinite_weights: words.nonfinite_weights,
        }
    }
}

impl Totals<f32> {
    /// Decodes the first [`TOTALS_SIZE`] bytes of a table. `None` where there are fewer.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..TOTALS_SIZE as usize)?;
        Some(bytemuck::pod_read_unaligned::<TotalsWords>(head).into())
    }
}

/// Where things lie in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableLayout {
    classes: u64,
    cost_matrix: bool,
}

impl TableLayout {
    /// Byte of the denominator, an `f32`.
    pub const DENOMINATOR: u64 = 8;

    /// Byte of a factor on every gradient, an `f32`: 1 until the caller writes another (loss scaling, or the gradient
    /// that arrives at a reduced loss). No kernel writes it; it is in no loss.
    pub const GRAD_SCALE: u64 = 48;

    /// The layout for a spec and a shape.
    pub fn new(spec: &Spec, shape: &Shape) -> Self {
        Self { classes: u64::from(shape.classes), cost_matrix: spec.cost_matrix.is_some() }
    }

    /// Byte of the first class weight.
    pub fn class_weights(&self) -> u64 {
        TOTALS_SIZE
    }

    /// Byte of the first logit bias.
    pub fn logit_bias(&self) -> u64 {
        TOTALS_SIZE + self.classes * 4
    }

    /// Byte of the first cost, if there are any.
    pub fn cost_matrix(&self) -> Option<u64> {
        self.cost_matrix.then_some(TOTALS_SIZE + self.classes * 8)
    }

    /// Bytes of the whole.
    pub fn size(&self) -> u64 {
        let costs = if self.cost_matrix { self.classes * self.classes * 4 } else { 0 };
        TOTALS_SIZE + self.classes * 8 + costs
    }

    /// A table as it is before the first step: the spec's own weights, biases and costs, a gradient scale of 1, and zeros.
    pub fn initial(&self, spec: &Spec) -> Vec<u8> {
        let mut bytes = vec![0; self.size() as usize];
        let at = Self::GRAD_SCALE as usize;
        bytes[at..at + 4].copy_from_slice(&1.0f32.to_le_bytes());
        if let ClassWeights::Given(weights) = &spec.class_weights {
            let at = self.class_weights() as usize;
            bytes[at..at + weights.len() * 4].copy_from_slice(bytemuck::cast_slice(weights));
        }
        if let LogitBias::Given(bias) = &spec.logit_bias {
            let at = self.logit_bias() as usize;
            bytes[at..at + bias.len() * 4].copy_from_slice(bytemuck::cast_slice(bias));
        }
        if let (Some(matrix), Some(at)) = (&spec.cost_matrix, self.cost_matrix()) {
            let values: &[u8] = bytemuck::cast_slice(matrix.values());
            bytes[at as usize..at as usize + values.len()].copy_from_slice(values);
        }
        bytes
    }
}
