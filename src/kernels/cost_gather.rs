//! `cost_gather`: predictions, and what they cost.

use super::{labels_of_tile, labels_region, logits_of_tile, logits_region, per_row, table_region};
use crate::config::Config;
use crate::error::{BindError, PlanError};
use crate::pipeline::{Bound, Planned, RowProgram, tiles_of_logits};
use crate::wgsl::Stage;

/// What [`CostGatherKernel`] works on.
#[derive(Clone, Debug)]
pub struct CostGatherBuffers<'a> {
    /// `[rows, classes]`, `f32`, in the layout of the shape. Read.
    pub logits: wgpu::BufferBinding<'a>,
    /// `[rows]`, as `Options::labels` says. Read.
    pub labels: wgpu::BufferBinding<'a>,
    /// `[rows, 2]`, at a multiple of 8 bytes: prediction as `u32`, cost as `f32`. Written.
    pub gathered: wgpu::BufferBinding<'a>,
    /// The table; the cost matrix is read; not used where the spec has none.
    pub table: wgpu::BufferBinding<'a>,
}

/// Takes the argmax of each row and looks up its cost.
#[derive(Debug)]
pub struct CostGatherKernel {
    config: Config,
    program: RowProgram,
}

impl CostGatherKernel {
    /// Bytes of a row's prediction and cost.
    pub const GATHERED_SIZE: u64 = 8;

    /// Compiles.
    ///
    /// # Errors
    /// [`PlanError`] where the device refuses the shader.
    pub fn new(device: &wgpu::Device, config: &Config) -> Result<Self, PlanError> {
        Ok(Self { config: config.clone(), program: RowProgram::new(device, Stage::CostGather, config)? })
    }

    /// Checks the buffers.
    ///
    /// # Errors
    /// [`BindError`] names the buffer, what was expected and what came.
    pub fn bind(&self, device: &wgpu::Device, buffers: &CostGatherBuffers<'_>) -> Result<Bound, BindError> {
        Bound::new(device, self.plan(buffers)?)
    }

    pub(crate) fn plan(&self, buffers: &CostGatherBuffers<'_>) -> Result<Vec<Planned>, BindError> {
        let config = &self.config;
        let bytes = config.options().dtype.bytes();
        let logits = logits_region("logits", config, &buffers.logits, bytes)?;
        let labels = labels_region(config, &buffers.labels)?;
        let table = table_region(config, &buffers.table)?;
        let gathered = per_row("gathered", config, &buffers.gathered, Self::GATHERED_SIZE)?.aligned_to(8)?;
        let mut planned = Vec::new();
        for tile in tiles_of_logits(config.shape(), config.capabilities(), 8, config.rows_together())? {
            let regions = vec![
                ("LOGITS", logits_of_tile(config, &logits, &tile, bytes)),
                ("LABELS", labels_of_tile(config, &labels, &tile)),
                ("TABLE", table),
                ("GATHERED", gathered.rows(&tile, 8)),
            ];
            let (program, groups) = self.program.for_tile(tile.rows, &regions)?;
            planned.push(program.plan(config.params(&tile), groups, &regions)?);
        }
        Ok(planned)
    }
}
