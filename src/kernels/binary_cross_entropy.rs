//! `binary_cross_entropy`: sigmoid losses and gradients, in three steps that meet in a table.

use super::{TOTALS_SIZE, TableLayout, TotalsWords, optional};
use crate::binary::{BinaryTotals, PosWeight};
use crate::binary_config::{BinaryConfig, ElementTile};
use crate::error::{BindError, PlanError};
use crate::inputs::Totals;
use crate::pipeline::{Bound, Planned, Program, Region};
use crate::wgsl::{ELEMENTS_PER_GROUP, Stage};

/// Words of one partial sum: `SUMS_WORDS` in `shaders/parts/binary_sums.wgsl`.
const SUMS_WORDS: u64 = 11;

/// Where things lie in the table of a sigmoid loss.
///
/// ```text
/// bytes 0..64   the totals: see `BinaryTotals`; the factor on every gradient at `TableLayout::GRAD_SCALE`
/// then          [columns, 2] (or [2]) factors of positives and negatives, f32
/// then          partial sums, scratch
/// ```
///
/// It needs usage `STORAGE`, and `COPY_SRC` to be read. A caller who all-reduces denominators does so on the word at
/// byte [`TableLayout::DENOMINATOR`], between the steps `denominator` and `elements`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BinaryTableLayout {
    pairs: u64,
    partials: u64,
}

impl BinaryTableLayout {
    /// The layout for a config.
    pub fn new(config: &BinaryConfig) -> Self {
        let partials = config.elements().div_ceil(ELEMENTS_PER_GROUP).max(1);
        Self { pairs: config.factor_pairs().into(), partials: partials.into() }
    }

    /// Byte of the first factor.
    pub fn factors(&self) -> u64 {
        TOTALS_SIZE
    }

    /// Bytes of the factors.
    pub fn factors_size(&self) -> u64 {
        self.pairs * 8
    }

    /// Bytes of the whole.
    pub fn size(&self) -> u64 {
        TOTALS_SIZE + self.factors_size() + self.partials * SUMS_WORDS * 4
    }

    /// A table as it is before the first step: the spec's own factors, a gradient scale of 1, and zeros.
    pub fn initial(&self, config: &BinaryConfig) -> Vec<u8> {
        let mut bytes = vec![0; self.size() as usize];
        let at = TableLayout::GRAD_SCALE as usize;
        bytes[at..at + 4].copy_from_slice(&1.0f32.to_ne_bytes());
        let one = [1.0];
        let positive: &[f32] = match &config.spec().pos_weight {
            PosWeight::Given(values) => values,
            _ => &one,
        };
        let mut at = self.factors() as usize;
        for value in positive.iter().cycle().take(self.pairs as usize) {
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            bytes[at + 4..at + 8].copy_from_slice(&1.0f32.to_ne_bytes());
            at += 8;
        }
        bytes
    }
}

impl BinaryTotals<f32> {
    /// Decodes the first [`TOTALS_SIZE`] bytes of a table. `None` where there are fewer.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let words: TotalsWords = bytemuck::pod_read_unaligned(bytes.get(..size_of::<TotalsWords>())?);
        let totals = Totals::from(words);
        // The words are the softmax's; rows there are elements here, and the first reserved word is taken.
        Some(Self {
            loss: totals.loss,
            loss_sum: totals.loss_sum,
            denominator: totals.denominator,
            weight_sum: totals.weight_sum,
            sample_weight_sum: totals.sample_weight_sum,
            valid: totals.valid_rows,
            ignored: totals.ignored_rows,
            nonfinite: totals.nonfinite_rows,
            first_bad: totals.first_bad_row,
            correct: totals.correct_rows,
            correct_weight: f32::from_bits(words.reserved_1),
            nonzero: totals.nonzero_rows,
        })
    }
}

/// What [`BinaryCrossEntropyKernel`] works on. Everything by element is in the layout of the logits; logits and their
/// gradients are of `BinaryOptions::dtype`, the rest `f32`.
#[derive(Clone, Debug)]
pub struct BinaryCrossEntropyBuffers<'a> {
    /// `[rows, columns]`. Read; overwritten where `BinaryOptions::in_place` is set.
    pub logits: wgpu::BufferBinding<'a>,
    /// `[rows, columns]`. Read.
    pub targets: wgpu::BufferBinding<'a>,
    /// `[rows, columns]`, as the spec says. Read.
    pub element_weights: Option<wgpu::BufferBinding<'a>>,
    /// `[rows]`, as the spec says. Read.
    pub sample_weights: Option<wgpu::BufferBinding<'a>>,
    /// `[rows, columns]`, where `BinaryOptions::grad_out` is set. Read.
    pub grad_out: Option<wgpu::BufferBinding<'a>>,
    /// One `f32`, for `BinaryDenominator::External`. Read.
    pub external_denominator: Option<wgpu::BufferBinding<'a>>,
    /// `[columns, 2]` or `[2]`, for live factors: what `binary_counts` wrote. Read.
    pub binary_counts: Option<wgpu::BufferBinding<'a>>,
    /// The gradients, unless `BinaryOptions::in_place` is set. Written.
    pub logit_grads: Option<wgpu::BufferBinding<'a>>,
    /// `[rows, columns]`, where `BinaryOptions::element_losses` is set. Written.
    pub element_losses: Option<wgpu::BufferBinding<'a>>,
    /// The table; see [`BinaryTableLayout`].
    pub table: wgpu::BufferBinding<'a>,
}

/// The steps of [`BinaryCrossEntropyKernel`], to be recorded in this order.
#[derive(Clone, Debug, Default)]
pub struct BoundBinaryCrossEntropy {
    /// Counts to factors; empty without live factors.
    pub weights: Bound,
    /// The denominator. After it, the denominator may be all-reduced.
    pub denominator: Bound,
    /// Losses, gradients and totals.
    pub elements: Bound,
}

/// Computes sigmoid losses and gradients.
#[derive(Clone, Debug)]
pub struct BinaryCrossEntropyKernel {
    config: BinaryConfig,
    weights: Option<Program>,
    sums: Option<Program>,
    denominator: Program,
    elements: Program,
    finish: Program,
}

impl BinaryCrossEntropyKernel {
    /// Compiles.
    ///
    /// # Errors
    /// [`PlanError`] where the device refuses a shader.
    pub fn new(device: &wgpu::Device, config: &BinaryConfig) -> Result<Self, PlanError> {
        let program = |stage| config.program(device, stage);
        let live = config.spec().pos_weight.needs_counts();
        Ok(Self {
            weights: live.then(|| program(Stage::BinaryWeights)).transpose()?,
            sums: config.sums_first().then(|| program(Stage::BinarySums)).transpose()?,
            denominator: program(Stage::BinaryDenominator)?,
            elements: program(Stage::BinaryElements)?,
            finish: program(Stage::BinaryFinish)?,
            config: config.clone(),
        })
    }

    /// The same programs for a config that differs in its rows.
    pub(crate) fn for_config(&self, config: &BinaryConfig) -> Self {
        Self { config: config.clone(), ..self.clone() }
    }

    /// Checks the buffers.
    ///
    /// # Errors
    /// [`BindError`] names the buffer, what was expected and what came.
    pub fn bind(
        &self,
        device: &wgpu::Device,
        buffers: &BinaryCrossEntropyBuffers<'_>,
    ) -> Result<BoundBinaryCrossEntropy, BindError> {
        let [weights, denominator, elements] = self.plan(buffers)?;
        Ok(BoundBinaryCrossEntropy {
            weights: Bound::new(device, weights)?,
            denominator: Bound::new(device, denominator)?,
            elements: Bound::new(device, elements)?,
        })
    }

    fn plan(&self, buffers: &BinaryCrossEntropyBuffers<'_>) -> Result<[Vec<Planned>; 3], BindError> {
        let config = &self.config;
        let (spec, shape, options) = (config.spec(), config.shape(), config.options());
        let stored = options.dtype.bytes();
        let by_element = |name, wanted: bool, binding, who, bytes: u64| {
            let what =
                || ((shape.logits_len() * bytes).next_multiple_of(4), super::elements_in_words(config));
            optional(name, wanted.then(what), binding, who)
        };
        let logits = super::elements_region("logits", config, &buffers.logits, stored)?;
        let targets = super::elements_region("targets", config, &buffers.targets, 4)?;
        let element_weights =
            by_element("element_weights", spec.element_weights, &buffers.element_weights, "the spec", 4)?;
        let grad_out = by_element("grad_out", options.grad_out, &buffers.grad_out, "the options", 4)?;
        let element_losses =
            by_element("element_losses", options.element_losses, &buffers.element_losses, "the options", 4)?;
        let logit_grads = match (&buffers.logit_grads, options.in_place) {
            (Some(_), true) => {
                let why = "BinaryOptions::in_place writes gradients over the logits";
                return Err(BindError::Unexpected { name: "logit_grads", why });
            }
            (None, false) => {
                let why = "BinaryOptions::in_place is not set";
                return Err(BindError::Missing { name: "logit_grads", why });
            }
            (binding, in_place) => by_element("logit_grads", !in_place, binding, "the options", stored)?,
        };
        let rows = shape.rows;
        let wanted = spec.sample_weights.then(|| (u64::from(rows) * 4, format!("{rows} rows")));
        let sample_weights = optional("sample_weights", wanted, &buffers.sample_weights, "the spec")?;
        let external = config.variant_of(Stage::BinaryDenominator).binary.external;
        let wanted = external.then(|| (4, "1 f32".to_owned()));
        let external = optional("external_denominator", wanted, &buffers.external_denominator, "the spec")?;
        let pairs = config.factor_pairs();
        let wanted = self.weights.is_some().then(|| (u64::from(pairs) * 8, format!("{pairs} pairs")));
        let counts = optional("binary_counts", wanted, &buffers.binary_counts, "the spec")?;
        let layout = BinaryTableLayout::new(config);
        let what = || format!("{} elements of {} columns", config.elements(), shape.classes);
        let table = Region::new("table", &buffers.table, layout.size(), what)?;

        let whole = ElementTile { first: 0, elements: config.elements() };
        let mut weights = Vec::new();
        if let (Some(program), Some(counts)) = (&self.weights, counts) {
            let groups = pairs.div_ceil(config.variant_of(Stage::BinaryWeights).workgroup_size);
            let regions = [("BINARY_COUNTS", counts), ("TABLE", table)];
            weights.push(program.plan(config.params(&whole), groups.into(), &regions)?);
        }

        // What a tile sees of each buffer.
        let of_tile = |tile: &ElementTile| {
            let mut regions = vec![("TABLE", table)];
            for (binding, region, bytes) in [
                ("LOGITS", Some(logits), stored),
                ("TARGETS", Some(targets), 4),
                ("ELEMENT_WEIGHTS", element_weights, 4),
                ("GRAD_OUT", grad_out, 4),
                ("LOGIT_GRADS", logit_grads, stored),
                ("ELEMENT_LOSSES", element_losses, 4),
            ] {
                let part = region.map(|region| super::elements_of_tile(config, &region, tile, bytes));
                regions.extend(part.map(|part| (binding, part)));
            }
            if let Some(region) = &sample_weights {
                let rows = config.rows_of(tile);
                let part = region.part(u64::from(rows.start) * 4, u64::from(rows.end - rows.start) * 4);
                regions.push(("SAMPLE_WEIGHTS", part));
            }
            regions
        };
        let tiles = config.tiles()?;
        let visit = |program: &Program, planned: &mut Vec<Planned>| -> Result<(), BindError> {
            for tile in &tiles {
                let mut params = config.params(tile);
                params.partials = tile.first / ELEMENTS_PER_GROUP;
                let groups = tile.elements.div_ceil(ELEMENTS_PER_GROUP);
                planned.push(program.plan(params, groups.into(), &of_tile(tile))?);
            }
            Ok(())
        };
        let groups = config.elements().div_ceil(ELEMENTS_PER_GROUP);
        let mut denominator = Vec::new();
        let mut params = config.params(&whole);
        if let Some(sums) = &self.sums {
            visit(sums, &mut denominator)?;
            params.partials = groups;
        }
        let mut regions = vec![("TABLE", table)];
        regions.extend(external.map(|external| ("EXTERNAL_DENOMINATOR", external)));
        denominator.push(self.denominator.plan(params, 1, &regions)?);

        let mut elements = Vec::new();
        visit(&self.elements, &mut elements)?;
        params.partials = groups;
        elements.push(self.finish.plan(params, 1, &[("TABLE", table)])?);
        Ok([weights, denominator, elements])
    }
}
