//! `cross_entropy_forward`: losses, and what the backward pass needs.

use super::{
    logit_groups, logits_of_tile, logits_region, per_row, row_losses_region, sample_weights_of_tile,
    sample_weights_region, table_region, targets_of_tile, targets_region,
};
use crate::config::Config;
use crate::error::{BindError, PlanError};
use crate::pipeline::{Bound, Planned, Program, Region, RowProgram, Tiling, create_buffer, tiling_of_logits};
use crate::wgsl::{Stage, Strategy};

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
    programs: Programs,
}

#[derive(Debug)]
enum Programs {
    /// A row in one place.
    One(Box<RowProgram>),
    /// Rows shared by several workgroups: what each knows, its moments, and what they make together.
    Split(Box<Split>),
}

#[derive(Debug)]
struct Split {
    shares: RowProgram,
    moments: Option<RowProgram>,
    finish: Program,
    /// What the workgroups of a row tell one another. One tile's; the next one writes over it, in order.
    row_shares: wgpu::Buffer,
    row_moments: Option<wgpu::Buffer>,
}

impl CrossEntropyForwardKernel {
    /// Bytes of a row's statistics.
    pub const ROW_STATS_SIZE: u64 = 32;

    /// Bytes of a share of a row, and of its moments: `Part` and `Moments` in the shaders.
    const SHARE_SIZE: u64 = 32;

    /// Compiles.
    ///
    /// # Errors
    /// [`PlanError`] where the device refuses the shader, or the shares of rows that several workgroups share.
    pub fn new(device: &wgpu::Device, config: &Config) -> Result<Self, PlanError> {
        let row_program = |stage| RowProgram::new(device, stage, config);
        let programs = if config.variant().strategy == Strategy::Split {
            let [shares, moments] = Self::scratch_sizes(config);
            let make = |(name, size)| create_buffer(device, name, size, wgpu::BufferUsages::STORAGE, None);
            let many = config.variant().general;
            Programs::Split(Box::new(Split {
                shares: row_program(Stage::CrossEntropyForwardShares)?,
                moments: many.then(|| row_program(Stage::CrossEntropyForwardMoments)).transpose()?,
                finish: Program::new(device, Stage::CrossEntropyForward, config)?,
                row_shares: make(shares)?,
                row_moments: many.then(|| make(moments)).transpose()?,
            }))
        } else {
            Programs::One(Box::new(row_program(Stage::CrossEntropyForward)?))
        };
        Ok(Self { config: config.clone(), programs })
    }

    /// Name and bytes of what the workgroups of a row tell one another; 0 where none share one.
    pub(crate) fn scratch_sizes(config: &Config) -> [(&'static str, u64); 2] {
        let variant = config.variant();
        let shares = match variant.strategy {
            Strategy::Split => {
                let first = Self::tiling(config).map(|tiling| tiling.iter().next());
                let rows = first.map_or(0, |tile| tile.map_or(0, |tile| tile.rows));
                u64::from(rows) * u64::from(variant.splits) * Self::SHARE_SIZE
            }
            _ => 0,
        };
        [("row_shares", shares), ("row_moments", if variant.general { shares } else { 0 })]
    }

    fn tiling(config: &Config) -> Result<Tiling, BindError> {
        tiling_of_logits(
            config.shape(),
            config.capabilities(),
            Self::row_bytes(config),
            config.rows_together(),
        )
    }

    pub(crate) fn dispatches(config: &Config) -> Result<usize, BindError> {
        let variant = config.variant();
        let of_tile = match variant.strategy {
            // The shares, their moments, what they make together.
            Strategy::Split => 2 + usize::from(variant.general),
            _ => 1,
        };
        Ok(Self::tiling(config)?.len() * of_tile)
    }

    /// Bytes of the largest thing that is kept of a row.
    pub(crate) fn row_bytes(config: &Config) -> u64 {
        let variant = config.variant();
        let shares = match variant.strategy {
            Strategy::Split => u64::from(variant.splits) * Self::SHARE_SIZE,
            _ => 0,
        };
        config.row_size().max(Self::ROW_STATS_SIZE).max(shares)
    }

    /// The same programs for a config that differs in its rows.
    pub(crate) fn for_config(&self, device: &wgpu::Device, config: &Config) -> Result<Self, PlanError> {
        let programs = match &self.programs {
            Programs::One(program) => Programs::One(program.clone()),
            Programs::Split(split) => {
                let [shares, moments] = Self::scratch_sizes(config);
                let make =
                    |(name, size)| create_buffer(device, name, size, wgpu::BufferUsages::STORAGE, None);
                Programs::Split(Box::new(Split {
                    shares: split.shares.clone(),
                    moments: split.moments.clone(),
                    finish: split.finish.clone(),
                    row_shares: make(shares)?,
                    row_moments: split.moments.is_some().then(|| make(moments)).transpose()?,
                }))
            }
        };
        Ok(Self { config: config.clone(), programs })
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
        let mut planned = Vec::new();
        for tile in Self::tiling(config)?.iter() {
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
            let mut programs = Vec::new();
            match &self.programs {
                Programs::One(program) => {
                    programs.push(program.for_tile(tile.rows, &regions)?);
                }
                Programs::Split(split) => {
                    programs.push(split.shares.for_tile(tile.rows, &regions)?);
                    if let Some(moments) = &split.moments {
                        programs.push(moments.for_tile(tile.rows, &regions)?);
                    }
                    let groups = logit_groups(config, Stage::CrossEntropyForward, tile.rows);
                    programs.push((&split.finish, groups));
                    regions.push(("ROW_SHARES", Region::whole("row_shares", &split.row_shares)));
                    if let Some(moments) = &split.row_moments {
                        regions.push(("ROW_MOMENTS", Region::whole("row_moments", moments)));
                    }
                }
            }
            for (program, groups) in programs {
                planned.push(program.plan(config.params(&tile), groups, &regions)?);
            }
        }
        Ok(planned)
    }
}
