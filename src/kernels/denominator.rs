//! `denominator`: what the mean divides by, from labels and weights alone; opens the table for a batch.

use super::{
    labels_region, optional, row_groups, sample_weights_of_tile, sample_weights_region, table_region,
};
use crate::config::Config;
use crate::error::{BindError, PlanError};
use crate::pipeline::{Bound, Planned, Program, Region, Tile, tiles_of_rows};
use crate::wgsl::Stage;

/// Bytes of one partial sum: `Sums` in `shaders/parts/sums.wgsl`.
const PARTIAL_SIZE: u64 = 32;

/// What [`DenominatorKernel`] works on.
#[derive(Clone, Debug)]
pub struct DenominatorBuffers<'a> {
    /// `[rows]`, `i32` or `u32`. Read.
    pub labels: wgpu::BufferBinding<'a>,
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
            rows: Program::new(device, Stage::DenominatorRows, config)?,
            finish: Program::new(device, Stage::DenominatorFinish, config)?,
        })
    }

    /// Bytes of scratch for so many rows.
    pub fn partials_size(rows: u32) -> u64 {
        u64::from(row_groups(rows)).max(1) * PARTIAL_SIZE
    }

    /// Checks the buffers.
    ///
    /// # Errors
    /// [`BindError`] names the buffer, what was expected and what came.
    pub fn bind(&self, device: &wgpu::Device, buffers: &DenominatorBuffers<'_>) -> Result<Bound, BindError> {
        Bound::new(device, self.plan(buffers)?)
    }

    pub(crate) fn plan(&self, buffers: &DenominatorBuffers<'_>) -> Result<Vec<Planned>, BindError> {
        let config = &self.config;
        let rows = config.shape().rows;
        let labels = labels_region(config, &buffers.labels)?;
        let weights = sample_weights_region(config, &buffers.sample_weights)?;
        let wanted = config.variant().external.then(|| (4, "one f32".to_owned()));
        let external = optional("external_denominator", wanted, &buffers.external_denominator, "the spec")?;
        let table = table_region(config, &buffers.table)?;
        let partials =
            Region::new("partials", &buffers.partials, Self::partials_size(rows), || format!("{rows} rows"))?;
        let mut planned = Vec::new();
        for tile in tiles_of_rows(rows, config.capabilities()) {
            let mut regions =
                vec![("LABELS", labels.rows(&tile, 4)), ("PARTIALS", partials), ("TABLE", table)];
            if let Some(weights) = &weights {
                regions.push(("SAMPLE_WEIGHTS", sample_weights_of_tile(config, weights, &tile)));
            }
            let mut params = config.params(&tile);
            params.partials = row_groups(tile.first_row);
            planned.push(self.rows.plan(params, row_groups(tile.rows).into(), &regions)?);
        }
        let mut params = config.params(&Tile { first_row: 0, rows });
        params.partials = row_groups(rows);
        let mut regions = vec![("PARTIALS", partials), ("TABLE", table)];
        regions.extend(external.map(|external| ("EXTERNAL_DENOMINATOR", external)));
        planned.push(self.finish.plan(params, 1, &regions)?);
        Ok(planned)
    }
}
