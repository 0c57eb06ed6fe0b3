//! The kernels, one a file: each checks its buffers, plans its dispatches, and meets the others in buffers only.
//!
//! All have the same three calls. `new(device, config)` compiles and may fail; `bind(device, buffers)` checks
//! every buffer and may fail; [`Bound::encode`](crate::Bound::encode) records and cannot fail. Nothing is
//! submitted, mapped or polled.
//!
//! The kernels of one step must be recorded in the order of the flow:
//!
//! ```text
//! labels -> class_counts -> [all-reduce] -> class_weights --+
//! labels, class_weights, sample_weights -> denominator -----+-> [all-reduce]
//! logits, labels, sample_weights, table --------------------+-> cross_entropy -> logit_grads, row_losses -> loss_total
//! ```
//!
//! Those of a sigmoid loss meet in a table of their own:
//!
//! ```text
//! targets -> binary_counts -> [all-reduce] -> weights, denominator -> [all-reduce] -> binary_cross_entropy -> logit_grads
//! ```

mod binary_counts;
mod binary_cross_entropy;
mod class_counts;
mod class_weights;
mod cost_gather;
mod cross_entropy;
mod cross_entropy_backward;
mod cross_entropy_forward;
mod denominator;
mod loss_total;
mod table;

pub use binary_counts::{BinaryCountsBuffers, BinaryCountsKernel};
pub use binary_cross_entropy::{
    BinaryCrossEntropyBuffers, BinaryCrossEntropyKernel, BinaryTableLayout, BoundBinaryCrossEntropy,
};
pub use class_counts::{ClassCountsBuffers, ClassCountsKernel};
pub(crate) use class_weights::HistoryProgram;
pub use class_weights::{ClassWeightsBuffers, ClassWeightsKernel};
pub use cost_gather::{CostGatherBuffers, CostGatherKernel};
pub use cross_entropy::{CrossEntropyBuffers, CrossEntropyKernel};
pub use cross_entropy_backward::{CrossEntropyBackwardBuffers, CrossEntropyBackwardKernel};
pub use cross_entropy_forward::{CrossEntropyForwardBuffers, CrossEntropyForwardKernel};
pub use denominator::{DenominatorBuffers, DenominatorKernel};
pub use loss_total::{LossTotalBuffers, LossTotalKernel};
pub use table::{TOTALS_SIZE, TableLayout, TotalsWords};

use crate::binary_config::{BinaryConfig, ElementTile};
use crate::config::Config;
use crate::error::BindError;
use crate::pipeline::{Region, Tile};
use crate::shape::Shape;
use crate::spec::{SampleWeights, Targets};
use crate::wgsl::{self, ROWS_PER_GROUP, Stage};

/// Targets as they lie in a buffer: `[rows]` labels, `[rows, 3]` of two labels and a share, or `[rows, classes]`.
fn targets_region<'a>(config: &Config, targets: &wgpu::BufferBinding<'a>) -> Result<Region<'a>, BindError> {
    match config.spec().targets {
        Targets::Soft => logits_region("target_probs", config, targets, 4),
        Targets::Labels => labels_region(config, targets),
        Targets::TwoHot => per_row("labels", config, targets, 12),
    }
}

/// The binding that targets go to, and the part of them that belongs to a tile.
fn targets_of_tile<'a>(config: &Config, targets: &Region<'a>, tile: &Tile) -> (&'static str, Region<'a>) {
    match config.spec().targets {
        Targets::Soft => ("TARGET_PROBS", logits_of_tile(config, targets, tile, 4)),
        Targets::Labels => ("LABELS", labels_of_tile(config, targets, tile)),
        Targets::TwoHot => ("LABELS", targets.rows(tile, 12)),
    }
}

/// `[rows]` labels, in whole words.
fn labels_region<'a>(config: &Config, labels: &wgpu::BufferBinding<'a>) -> Result<Region<'a>, BindError> {
    let (rows, format) = (config.shape().rows, config.options().labels);
    let region = Region::new("labels", labels, format.size(rows), || format!("{rows} rows"))?;
    Ok(region.of_unit(format.bytes()))
}

/// The labels of a tile, which may start within a word.
fn labels_of_tile<'a>(config: &Config, labels: &Region<'a>, tile: &Tile) -> Region<'a> {
    labels.rows(tile, config.options().labels.bytes())
}

/// `[rows]` of something.
fn per_row<'a>(
    name: &'static str,
    config: &Config,
    binding: &wgpu::BufferBinding<'a>,
    bytes: u64,
) -> Result<Region<'a>, BindError> {
    let rows = config.shape().rows;
    Region::new(name, binding, u64::from(rows) * bytes, || format!("{rows} rows"))
}

/// What is kept of each row: `[rows]` losses, or records, which are bound as 16-byte elements.
fn row_losses_region<'a>(
    config: &Config,
    binding: &wgpu::BufferBinding<'a>,
) -> Result<Region<'a>, BindError> {
    let size = config.row_size();
    per_row("row_losses", config, binding, size)?.aligned_to(size)
}

/// `[rows, classes]` of logits, gradients or targets of `bytes` bytes, in the layout of the shape. A 16-bit element at
/// the end shares its word with padding.
fn logits_region<'a>(
    name: &'static str,
    config: &Config,
    binding: &wgpu::BufferBinding<'a>,
    bytes: u64,
) -> Result<Region<'a>, BindError> {
    let shape = config.shape();
    Region::new(name, binding, (shape.logits_len() * bytes).next_multiple_of(4), || {
        format!("{} rows of {} classes, {} apart,", shape.rows, shape.classes, shape.row_stride)
    })
}

/// The part of logits or gradients that belongs to a tile.
fn logits_of_tile<'a>(config: &Config, logits: &Region<'a>, tile: &Tile, bytes: u64) -> Region<'a> {
    let shape = config.shape();
    let of_tile = Shape { rows: tile.rows, ..*shape };
    let size = (of_tile.logits_len() * bytes).next_multiple_of(4);
    logits.part(shape.index(tile.first_row, 0) * bytes, size)
}

/// The table, whole.
fn table_region<'a>(config: &Config, table: &wgpu::BufferBinding<'a>) -> Result<Region<'a>, BindError> {
    let layout = TableLayout::new(config.spec(), config.shape());
    Region::new("table", table, layout.size(), || format!("{} classes", config.shape().classes))
}

/// Sample weights, where the spec wants them.
fn sample_weights_region<'a>(
    config: &Config,
    binding: &Option<wgpu::BufferBinding<'a>>,
) -> Result<Option<Region<'a>>, BindError> {
    let wanted = crate::inputs::sample_weights_len(config.spec(), config.shape());
    let what = match config.spec().sample_weights {
        SampleWeights::None | SampleWeights::PerRow => "rows",
        SampleWeights::PerSample => "samples",
        SampleWeights::PerStep => "steps",
    };
    optional("sample_weights", wanted.map(|n| (u64::from(n) * 4, format!("{n} {what}"))), binding, "the spec")
}

/// The sample weights that a tile sees: its own rows', or all where they are broadcast.
fn sample_weights_of_tile<'a>(config: &Config, weights: &Region<'a>, tile: &Tile) -> Region<'a> {
    match config.spec().sample_weights {
        SampleWeights::PerRow => weights.rows(tile, 4),
        _ => *weights,
    }
}

/// The upstream gradient, where the options want it.
fn grad_out_region<'a>(
    config: &Config,
    binding: &Option<wgpu::BufferBinding<'a>>,
) -> Result<Option<Region<'a>>, BindError> {
    let rows = config.shape().rows;
    let wanted = config.options().grad_out.then(|| (u64::from(rows) * 4, format!("{rows} rows")));
    optional("grad_out", wanted, binding, "Options::grad_out")
}

/// Gradients beside the logits, or none where they go over them.
fn logit_grads_region<'a>(
    config: &Config,
    binding: &Option<wgpu::BufferBinding<'a>>,
) -> Result<Option<Region<'a>>, BindError> {
    match (binding, config.options().in_place) {
        (Some(binding), false) => {
            logits_region("logit_grads", config, binding, config.options().dtype.bytes()).map(Some)
        }
        (None, true) => Ok(None),
        (None, false) => Err(BindError::Missing { name: "logit_grads", why: "Options::in_place is not set" }),
        (Some(_), true) => Err(BindError::Unexpected {
            name: "logit_grads",
            why: "Options::in_place writes gradients over the logits",
        }),
    }
}

/// A buffer that must be there exactly if it is wanted.
fn optional<'a>(
    name: &'static str,
    wanted: Option<(u64, String)>,
    binding: &Option<wgpu::BufferBinding<'a>>,
    who: &'static str,
) -> Result<Option<Region<'a>>, BindError> {
    match (wanted, binding) {
        (Some((need, what)), Some(binding)) => Region::new(name, binding, need, || what).map(Some),
        (None, None) => Ok(None),
        (Some(_), None) if who == "the spec" => Err(BindError::Missing { name, why: "the spec asks for it" }),
        (Some(_), None) => Err(BindError::Missing { name, why: "the options ask for it" }),
        (None, Some(_)) if who == "the spec" => {
            Err(BindError::Unexpected { name, why: "the spec does not ask for it" })
        }
        (None, Some(_)) => Err(BindError::Unexpected { name, why: "the options do not ask for it" }),
    }
}

/// Workgroups of [`ROWS_PER_GROUP`] rows.
fn row_groups(rows: u32) -> u32 {
    rows.div_ceil(ROWS_PER_GROUP)
}

/// Workgroups of a stage that visits logits.
fn logit_groups(config: &Config, stage: Stage, rows: u32) -> u64 {
    let shape = Shape { rows, ..*config.shape() };
    wgsl::workgroups(stage, &config.variant_of(stage), &shape)
}

/// `[rows, columns]` of elements of a sigmoid loss, of `bytes` bytes. A 16-bit element at the end shares its word with
/// padding.
fn elements_region<'a>(
    name: &'static str,
    config: &BinaryConfig,
    binding: &wgpu::BufferBinding<'a>,
    bytes: u64,
) -> Result<Region<'a>, BindError> {
    let need = (config.shape().logits_len() * bytes).next_multiple_of(4);
    Region::new(name, binding, need, || elements_in_words(config))
}

/// The elements of a sigmoid loss, for an error.
fn elements_in_words(config: &BinaryConfig) -> String {
    let shape = config.shape();
    format!("{} rows of {} columns, {} apart,", shape.rows, shape.classes, shape.row_stride)
}

/// The part that belongs to a tile of elements of `bytes` bytes. 16-bit tiles start at a whole word.
fn elements_of_tile<'a>(
    config: &BinaryConfig,
    region: &Region<'a>,
    tile: &ElementTile,
    bytes: u64,
) -> Region<'a> {
    let first = config.word(tile.first);
    let last = config.word(tile.first + tile.elements - 1);
    region.part(first * bytes, ((last - first + 1) * bytes).next_multiple_of(4))
}
