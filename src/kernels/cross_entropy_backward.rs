//! `cross_entropy_backward`: gradients from the statistics of the forward pass.

use super::{
    grad_out_region, logit_grads_region, logits_of_tile, logits_region, per_row, table_region,
    targets_of_tile, targets_region,
};
use crate::config::Config;
use crate::error::{BindError, PlanError};
use crate::pipeline::{Bound, Planned, RowProgram, Tiling, tiling_of_logits};
use crate::wgsl::Stage;

/// What [`CrossEntropyBackwardKernel`] works on.
#[derive(Debug)]
pub struct CrossEntropyBackwardBuffers<'a> {
    /// `[rows, classes]`, `f32`, in the layout of the shape. Read; overwritten where `Options::in_place` is set.
    pub logits: wgpu::BufferBinding<'a>,
    /// `[rows]` labels, as `Options::labels` says; `[rows, 3]` words (label, label, share as `f32`) with `Targets::TwoHot`;
    /// `[rows, classes]` `f32` in the layout of the shape with `Targets::Soft`. Read.
    pub targets: wgpu::BufferBinding<'a>,
    /// `[rows]`, `f32`, where `Options::grad_out` is set. Read.
    pub grad_out: Option<wgpu::BufferBinding<'a>>,
    /// Gradients in the layout of the logits, unless `Options::in_place` is set. Written; padding is not.
    pub logit_grads: Option<wgpu::BufferBinding<'a>>,
    /// `[rows, 8]`, as the forward half wrote them. Read.
    pub row_stats: wgpu::BufferBinding<'a>,
    /// The table; the denominator is read.
    pub table: wgpu::BufferBinding<'a>,
}

/// The backward half. It reads the logits that the forward half read.
#[derive(Debug)]
pub struct CrossEntropyBackwardKernel {
    config: Config,
    program: RowProgram,
}

impl CrossEntropyBackwardKernel {
    /// Compiles.
    ///
    /// # Errors
    /// [`PlanError`] where the device refuses the shader.
    pub fn new(device: &wgpu::Device, config: &Config) -> Result<Self, PlanError> {
        Ok(Self {
            config: config.clone(),
            program: RowProgram::new(device, Stage::CrossEntropyBackward, config)?,
        })
    }

    /// The same programs for a config that differs in its rows.
    pub(crate) fn for_config(&self, config: &Config) -> Self {
        Self { config: config.clone(), program: self.program.clone() }
    }

    /// Checks the buffers.
    ///
    /// # Errors
    /// [`BindError`] names the buffer, what was expected and what came.
    pub fn bind(
        &self,
        device: &wgpu::Device,
        buffers: &CrossEntropyBackwardBuffers<'_>,
    ) -> Result<Bound, BindError> {
        Bound::new(device, self.plan(buffers)?)
    }

    pub(crate) fn dispatches(config: &Config) -> Result<usize, BindError> {
        tiling(config).map(Tiling::len)
    }

    pub(crate) fn plan(&self, buffers: &CrossEntropyBackwardBuffers<'_>) -> Result<Vec<Planned>, BindError> {
        let config = &self.config;
        let bytes = config.options().dtype.bytes();
        let logits = logits_region("logits", config, &buffers.logits, bytes)?;
        let targets = targets_region(config, &buffers.targets)?;
        let table = table_region(config, &buffers.table)?;
        let grad_out = grad_out_region(config, &buffers.grad_out)?;
        let grads = logit_grads_region(config, &buffers.logit_grads)?;
        let stats = per_row("row_stats", config, &buffers.row_stats, 32)?.aligned_to(16)?;
        let mut planned = Vec::new();
        for tile in tiling(config)?.iter() {
            let mut regions = vec![
                ("LOGITS", logits_of_tile(config, &logits, &tile, bytes)),
                targets_of_tile(config, &targets, &tile),
                ("TABLE", table),
                ("ROW_STATS", stats.rows(&tile, 32)),
            ];
            if let Some(grad_out) = &grad_out {
                regions.push(("GRAD_OUT", grad_out.rows(&tile, 4)));
            }
            if let Some(grads) = &grads {
                regions.push(("LOGIT_GRADS", logits_of_tile(config, grads, &tile, bytes)));
            }
            let (program, groups) = self.program.for_tile(tile.rows, &regions)?;
            planned.push(program.plan(config.params(&tile), groups, &regions)?);
        }
        Ok(planned)
    }
}

fn tiling(config: &Config) -> Result<Tiling, BindError> {
    tiling_of_logits(config.shape(), config.capabilities(), 32, config.rows_together())
}
