//! `class_weights`: from counts to weights, in the table.

use super::table_region;
use crate::config::Config;
use crate::error::{BindError, PlanError};
use crate::pipeline::{Bound, Planned, Program, Region, Tile};
use crate::wgsl::Stage;

/// What [`ClassWeightsKernel`] works on.
#[derive(Clone, Debug)]
pub struct ClassWeightsBuffers<'a> {
    /// `[classes]`, `u32`. Read.
    pub class_counts: wgpu::BufferBinding<'a>,
    /// The table; its class weights are written.
    pub table: wgpu::BufferBinding<'a>,
}

/// Computes live class weights. The spec's `class_weights` should be `Live`; its formula is compiled in.
#[derive(Clone, Debug)]
pub struct ClassWeightsKernel {
    config: Config,
    weights: Program,
}

impl ClassWeightsKernel {
    /// Compiles.
    ///
    /// # Errors
    /// [`PlanError`] where the device refuses the shader.
    pub fn new(device: &wgpu::Device, config: &Config) -> Result<Self, PlanError> {
        Ok(Self { config: config.clone(), weights: Program::new(device, Stage::ClassWeights, config)? })
    }

    /// Checks the buffers.
    ///
    /// # Errors
    /// [`BindError`] names the buffer, what was expected and what came.
    pub fn bind(&self, device: &wgpu::Device, buffers: &ClassWeightsBuffers<'_>) -> Result<Bound, BindError> {
        Bound::new(device, self.plan(buffers)?)
    }

    pub(crate) fn plan(&self, buffers: &ClassWeightsBuffers<'_>) -> Result<Vec<Planned>, BindError> {
        let shape = self.config.shape();
        let counts =
            Region::new("class_counts", &buffers.class_counts, u64::from(shape.classes) * 4, || {
                format!("{} classes", shape.classes)
            })?;
        let table = table_region(&self.config, &buffers.table)?;
        let params = self.config.params(&Tile { first_row: 0, rows: shape.rows });
        Ok(vec![self.weights.plan(params, 1, &[("CLASS_COUNTS", counts), ("TABLE", table)])?])
    }
}
