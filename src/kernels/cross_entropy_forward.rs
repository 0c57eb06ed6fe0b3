//! `cross_entropy_forward`: losses, and what the backward pass needs.

use super::{
    logit_groups, logits_of_tile, logits_region, per_row, row_losses_region, sample_weights_of_tile,
    sample_weights_region, table_region, targets_of_tile, targets_region,
};
use crate::config::Config;
use crate::error::{BindError, PlanError};
use crate::pipeline::{Bound, Planned, RowProgram, tiles_of_logits};
use crate::wgsl::Stage;

/// What [`CrossEntropyForwardKernel`] works on.
#[derive(Debug)]
pub struct CrossEntropyForwardBuffers<'a> {
    /// `[rows, classes]`, `f32`, in the layout of the shape. Read.
    pub logits: wgpu::BufferBinding<'a>,
    /// `[rows]` labels, as `Options::labels` says; `[rows, 3]` words (label, label, share as `f32`) with `Targets::TwoHot`;
    /// `[rows, classes]` `f32` in the layout of the shape with `Targets::Soft`. Read.
    pub targets: wgpu::BufferBinding<'a>,
    /// As the spec says, `f32`. Read.
    pub sample_weights: Option<wgpu::BufferBinding<'a>>,
    /// `[rows]`, `f32`; of [`RowRecord`](crate::RowRecord)s at a multiple of 16 bytes where the options ask for
    /// by-products. Written.
    pub row_losses: wgpu::BufferBinding<'a>,
    /// `[rows, 8]` words, at a multiple of 16 bytes: see the shader. Written.
    pub row_stats: wgpu::BufferBinding<'a>,
    /// The table; weights and costs are read, rows are counted.
    pub table: wgpu::BufferBinding<'a>,
}

/// The forward half, for engines that call backward later.
#[derive(Debug)]
pub struct CrossEntropyForwardKernel {
    config: Config,
    program: RowProgram,
}

impl CrossEntropyForwardKernel {
    /// Bytes of a row's statistics.
    pub const ROW_STATS_SIZE: u64 = 32;

    /// Compiles.
    ///
    /// # Errors
    /// [`PlanError`] where the device refuses the shader.
    pub fn new(device: &wgpu::Device, config: &Config) -> Result<Self, PlanError> {
        Ok(Self {
            config: config.clone(),
            program: RowProgram::new(device, Stage::CrossEntropyForward, config)?,
        })
    }

    /// Checks the buffers.
    ///
    /// # Errors
    /// [`BindError`] names the buffer, what was expected and what came.
    pub fn bind(
        &self,
        device: &wgpu::Device,
        buffers: &CrossEntropyForwardBuffers<'_>,
    ) -> Result<Bound, BindError> {
        Bound::new(device, self.plan(buffers)?)
    }

    pub(crate) fn plan(&self, buffers: &CrossEntropyForwardBuffers<'_>) -> Result<Vec<Planned>, BindError> {
        let config = &self.config;
        let bytes = config.options().dtype.bytes();
        let logits = logits_region("logits", config, &buffers.logits, bytes)?;
        let targets = targets_region(config, &buffers.targets)?;
        let table = table_region(config, &buffers.table)?;
        let weights = sample_weights_region(config, &buffers.sample_weights)?;
        let losses = row_losses_region(config, &buffers.row_losses)?;
        let stats = per_row("row_stats", config, &buffers.row_stats, Self::ROW_STATS_SIZE)?.aligned_to(16)?;
        let program = self.program.for_regions(&[Some(&logits)])?;
        let mut planned = Vec::new();
        for tile in tiles_of_logits(config.shape(), config.capabilities(), 32, 1)? {
            let mut regions = vec![
                ("LOGITS", logits_of_tile(config, &logits, &tile, bytes)),
                targets_of_tile(config, &targets, &tile),
                ("TABLE", table),
                ("ROW_LOSSES", losses.rows(&tile, config.row_size())),
                ("ROW_STATS", stats.rows(&tile, 32)),
            ];
            if let Some(weights) = &weights {
                regions.push(("SAMPLE_WEIGHTS", sample_weights_of_tile(config, weights, &tile)));
            }
            let groups = logit_groups(config, tile.rows);
            planned.push(program.plan(config.params(&tile), groups, &regions)?);
        }
        Ok(planned)
    }
}
