//! `cross_entropy`: losses and gradients in one visit to the logits.

use super::{
    CrossEntropyBackwardBuffers, CrossEntropyBackwardKernel, CrossEntropyForwardBuffers,
    CrossEntropyForwardKernel, grad_out_region, logit_grads_region, logits_of_tile, logits_region,
    row_losses_region, sample_weights_of_tile, sample_weights_region, table_region, targets_of_tile,
    targets_region,
};
use crate::config::Config;
use crate::error::{BindError, PlanError};
use crate::pipeline::{Bound, Planned, RowProgram, Tiling, create_buffer, tiling_of_logits};
use crate::wgsl::{Stage, Strategy};

/// What [`CrossEntropyKernel`] works on.
#[derive(Clone, Debug)]
pub struct CrossEntropyBuffers<'a> {
    /// `[rows, classes]`, `f32`, in the layout of the shape. Read; overwritten where `Options::in_place` is set.
    pub logits: wgpu::BufferBinding<'a>,
    /// `[rows]` labels, as `Options::labels` says; `[rows, 3]` words (label, label, share as `f32`) with `Targets::TwoHot`;
    /// `[rows, classes]` `f32` in the layout of the shape with `Targets::Soft`. Read.
    pub targets: wgpu::BufferBinding<'a>,
    /// As the spec says, `f32`. Read.
    pub sample_weights: Option<wgpu::BufferBinding<'a>>,
    /// `[rows]`, `f32`, where `Options::grad_out` is set. Read.
    pub grad_out: Option<wgpu::BufferBinding<'a>>,
    /// Gradients in the layout of the logits, unless `Options::in_place` is set. Written; padding is not.
    pub logit_grads: Option<wgpu::BufferBinding<'a>>,
    /// `[rows]`, `f32`; of [`RowRecord`](crate::RowRecord)s at a multiple of 16 bytes where the options ask for
    /// by-products. Written.
    pub row_losses: wgpu::BufferBinding<'a>,
    /// The table; weights, costs and the denominator are read, rows are counted.
    pub table: wgpu::BufferBinding<'a>,
}

/// The fused kernel: forward and backward.
#[derive(Debug)]
pub struct CrossEntropyKernel {
    config: Config,
    program: Programs,
}

#[derive(Debug)]
enum Programs {
    /// Both halves in one.
    One(Box<RowProgram>),
    /// One half after the other, for rows that several workgroups share.
    Halves {
        forward: Box<CrossEntropyForwardKernel>,
        backward: Box<CrossEntropyBackwardKernel>,
        row_stats: wgpu::Buffer,
    },
}

impl CrossEntropyKernel {
    /// Compiles.
    ///
    /// # Errors
    /// [`PlanError`] where the device refuses the shader, or what rows shared by several workgroups take.
    pub fn new(device: &wgpu::Device, config: &Config) -> Result<Self, PlanError> {
        let program = if config.variant().strategy == Strategy::Split {
            let (name, size) = Self::row_stats_size(config);
            Programs::Halves {
                forward: Box::new(CrossEntropyForwardKernel::new(device, config)?),
                backward: Box::new(CrossEntropyBackwardKernel::new(device, config)?),
                row_stats: create_buffer(device, name, size, wgpu::BufferUsages::STORAGE, None)?,
            }
        } else {
            Programs::One(Box::new(RowProgram::new(device, Stage::CrossEntropy, config)?))
        };
        Ok(Self { config: config.clone(), program })
    }

    /// Name and bytes of what one half tells the other; 0 where they are one.
    fn row_stats_size(config: &Config) -> (&'static str, u64) {
        let rows = match config.variant().strategy {
            Strategy::Split => u64::from(config.shape().rows),
            _ => 0,
        };
        ("row_stats", rows * CrossEntropyForwardKernel::ROW_STATS_SIZE)
    }

    /// Name and bytes of the buffers that the kernel has to itself; 0 where it needs none.
    pub(crate) fn scratch_sizes(config: &Config) -> [(&'static str, u64); 3] {
        let [shares, moments] = CrossEntropyForwardKernel::scratch_sizes(config);
        [Self::row_stats_size(config), shares, moments]
    }

    /// The same programs for a config that differs in its rows.
    pub(crate) fn for_config(&self, device: &wgpu::Device, config: &Config) -> Result<Self, PlanError> {
        let program = match &self.program {
            Programs::One(program) => Programs::One(program.clone()),
            Programs::Halves { forward, backward, .. } => {
                let (name, size) = Self::row_stats_size(config);
                Programs::Halves {
                    forward: Box::new(forward.for_config(device, config)?),
                    backward: Box::new(backward.for_config(config)),
                    row_stats: create_buffer(device, name, size, wgpu::BufferUsages::STORAGE, None)?,
                }
            }
        };
        Ok(Self { config: config.clone(), program })
    }

    /// Checks the buffers.
    ///
    /// # Errors
    /// [`BindError`] names the buffer, what was expected and what came.
    pub fn bind(&self, device: &wgpu::Device, buffers: &CrossEntropyBuffers<'_>) -> Result<Bound, BindError> {
        Bound::new(device, self.plan(buffers)?)
    }

    pub(crate) fn dispatches(config: &Config) -> Result<usize, BindError> {
        match config.variant().strategy {
            Strategy::Split => Ok(CrossEntropyForwardKernel::dispatches(config)?
                + CrossEntropyBackwardKernel::dispatches(config)?),
            _ => tiling(config).map(Tiling::len),
        }
    }

    pub(crate) fn plan(&self, buffers: &CrossEntropyBuffers<'_>) -> Result<Vec<Planned>, BindError> {
        let config = &self.config;
        let bytes = config.options().dtype.bytes();
        let logits = logits_region("logits", config, &buffers.logits, bytes)?;
        let targets = targets_region(config, &buffers.targets)?;
        let table = table_region(config, &buffers.table)?;
        let weights = sample_weights_region(config, &buffers.sample_weights)?;
        let grad_out = grad_out_region(config, &buffers.grad_out)?;
        let grads = logit_grads_region(config, &buffers.logit_grads)?;
        let losses = row_losses_region(config, &buffers.row_losses)?;
        let program = match &self.program {
            Programs::One(program) => program,
            Programs::Halves { forward, backward, row_stats } => {
                return Self::plan_halves(forward, backward, row_stats, buffers);
            }
        };
        let mut planned = Vec::new();
        for tile in tiling(config)?.iter() {
            let mut regions = vec![
                ("LOGITS", logits_of_tile(config, &logits, &tile, bytes)),
                targets_of_tile(config, &targets, &tile),
                ("TABLE", table),
                ("ROW_LOSSES", losses.rows(&tile, config.row_size())),
            ];
            if let Some(weights) = &weights {
                regions.push(("SAMPLE_WEIGHTS", sample_weights_of_tile(config, weights, &tile)));
            }
            if let Some(grad_out) = &grad_out {
                regions.push(("GRAD_OUT", grad_out.rows(&tile, 4)));
            }
            if let Some(grads) = &grads {
                regions.push(("LOGIT_GRADS", logits_of_tile(config, grads, &tile, bytes)));
            }
            let (program, groups) = program.for_tile(tile.rows, &regions)?;
            planned.push(program.plan(config.params(&tile), groups, &regions)?);
        }
        Ok(planned)
    }

    /// All tiles forward, then all of them backward: row statistics are kept of the whole batch.
    fn plan_halves(
        forward: &CrossEntropyForwardKernel,
        backward: &CrossEntropyBackwardKernel,
        row_stats: &wgpu::Buffer,
        buffers: &CrossEntropyBuffers<'_>,
    ) -> Result<Vec<Planned>, BindError> {
        let row_stats = row_stats.as_entire_buffer_binding();
        let mut planned = forward.plan(&CrossEntropyForwardBuffers {
            logits: buffers.logits.clone(),
            targets: buffers.targets.clone(),
            sample_weights: buffers.sample_weights.clone(),
            row_losses: buffers.row_losses.clone(),
            row_stats: row_stats.clone(),
            table: buffers.table.clone(),
        })?;
        planned.extend(backward.plan(&CrossEntropyBackwardBuffers {
            logits: buffers.logits.clone(),
            targets: buffers.targets.clone(),
            grad_out: buffers.grad_out.clone(),
            logit_grads: buffers.logit_grads.clone(),
            row_stats,
            table: buffers.table.clone(),
        })?);
        Ok(planned)
    }
}

fn tiling(config: &Config) -> Result<Tiling, BindError> {
    tiling_of_logits(config.shape(), config.capabilities(), config.row_size().max(12), config.rows_together())
}
