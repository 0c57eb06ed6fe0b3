//! `denominator`: what the mean divides by, from labels and weights alone; opens the table for a batch.

use super::{
    optional, sample_weights_of_tile, sample_weights_region, table_region, targets_of_tile, targets_region,
};
use crate::config::Config;
use crate::error::{BindError, PlanError};
use crate::pipeline::{Bound, Planned, Program, Region, Tile, Tiling, tiling_of_logits, tiling_of_rows};
use crate::spec::Targets;
use crate::wgsl::{ROWS_PER_GROUP, SOFT_ROWS_PER_GROUP, Stage};

/// Bytes of one partial sum: `Sums` in `shaders/parts/sums.wgsl`.
const PARTIAL_SIZE: u64 = 32;

/// Rows of one partial sum: soft targets take an invocation a row.
fn rows_per_partial(targets: Targets) -> u32 {
    match targets {
        Targets::Soft => SOFT_ROWS_PER_GROUP,
        Targets::Labels | Targets::TwoHot => ROWS_PER_GROUP,
    }
}

/// Tiles of targets that cut no partial sum.
fn tiling(config: &Config) -> Result<Tiling, BindError> {
    let (shape, caps) = (config.shape(), config.capabilities());
    Ok(match config.spec().targets {
        Targets::Soft => tiling_of_logits(shape, caps, 4, SOFT_ROWS_PER_GROUP)?,
        Targets::Labels => tiling_of_rows(shape.rows, caps, 4),
        Targets::TwoHot => tiling_of_rows(shape.rows, caps, 12),
    })
}

/// What [`DenominatorKernel`] works on.
#[derive(Clone, Debug)]
pub struct DenominatorBuffers<'a> {
    /// `[rows]` labels, as `Options::labels` says; `[rows, 3]` words (label, label, share as `f32`) with `Targets::TwoHot`;
    /// `[rows, classes]` `f32` in the layout of the shape with `Targets::Soft`. Read.
    pub targets: wgpu::BufferBinding<'a>,
    /// As the spec says, `f32`. Read.
    pub sample_weights: Option<wgpu::BufferBinding<'a>>,
    /// One `f32`, for `Denominator::External`. Read.
    pub external_denominator: Option<wgpu::BufferBinding<'a>>,
    /// Scratch of [`DenominatorKernel::partials_size`] bytes.
    pub partials: wgpu::BufferBinding<'a>,
    /// The table; its totals are set.
    pub table: wgpu::BufferBinding<'a>,
}

/// Sums weights and counts rows in a fixed order.
#[derive(Clone, Debug)]
pub struct DenominatorKernel {
    config: Config,
    rows: Program,
    finish: Program,
}

impl DenominatorKernel {
    /// Compiles.
    ///
    /// # Errors
    /// [`PlanError`] where the device refuses a shader.
    pub fn new(device: &wgpu::Device, config: &Config) -> Result<Self, PlanError> {
        Ok(Self {
            config: config.clone(),
            rows: match config.spec().targets {
                Targets::Soft => Program::new(device, Stage::DenominatorSoft, config)?,
                Targets::Labels | Targets::TwoHot => Program::new(device, Stage::DenominatorRows, config)?,
            },
            finish: Program::new(device, Stage::DenominatorFinish, config)?,
        })
    }

    /// Bytes of scratch for so many rows.
    pub fn partials_size(targets: Targets, rows: u32) -> u64 {
        u64::from(rows.div_ceil(rows_per_partial(targets))).max(1) * PARTIAL_SIZE
    }

    /// The same programs for a config that differs in its rows.
    pub(crate) fn for_config(&self, config: &Config) -> Self {
        Self { config: config.clone(), ..self.clone() }
    }

    /// Checks the buffers.
    ///
    /// # Errors
    /// [`BindError`] names the buffer, what was expected and what came.
    pub fn bind(&self, device: &wgpu::Device, buffers: &DenominatorBuffers<'_>) -> Result<Bound, BindError> {
        Bound::new(device, self.plan(buffers)?)
    }

    pub(crate) fn dispatches(config: &Config) -> Result<usize, BindError> {
        Ok(tiling(config)?.len() + 1)
    }

    pub(crate) fn plan(&self, buffers: &DenominatorBuffers<'_>) -> Result<Vec<Planned>, BindError> {
        let config = &self.config;
        let rows = config.shape().rows;
        let targets = targets_region(config, &buffers.targets)?;
        let weights = sample_weights_region(config, &buffers.sample_weights)?;
        let wanted = config.variant().external.then(|| (4, "one f32".to_owned()));
        let external = optional("external_denominator", wanted, &buffers.external_denominator, "the spec")?;
        let table = table_region(config, &buffers.table)?;
        let kind = config.spec().targets;
        let need = Self::partials_size(kind, rows);
        let partials = Region::new("partials", &buffers.partials, need, || format!("{rows} rows"))?;
        let groups = |rows: u32| rows.div_ceil(rows_per_partial(kind));
        let mut planned = Vec::new();
        for tile in tiling(config)?.iter() {
            let mut regions =
                vec![targets_of_tile(config, &targets, &tile), ("PARTIALS", partials), ("TABLE", table)];
            if let Some(weights) = &weights {
                regions.push(("SAMPLE_WEIGHTS", sample_weights_of_tile(config, weights, &tile)));
            }
            let mut params = config.params(&tile);
            params.partials = groups(tile.first_row);
            planned.push(self.rows.plan(params, groups(tile.rows).into(), &regions)?);
        }
        let mut params = config.params(&Tile { first_row: 0, rows });
        params.partials = groups(rows);
        let mut regions = vec![("PARTIALS", partials), ("TABLE", table)];
        regions.extend(external.map(|external| ("EXTERNAL_DENOMINATOR", external)));
        planned.push(self.finish.plan(params, 1, &regions)?);
        Ok(planned)
    }
}
