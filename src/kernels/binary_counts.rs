//! `binary_counts`: how many positives and negatives there are, in each column or in all.

use crate::binary_config::{BinaryConfig, ElementTile};
use crate::error::{BindError, PlanError};
use crate::pipeline::{Bound, Planned, Program, Region};
use crate::wgsl::{Stage, positions_per_group};

/// Bytes of one partial sum and of one pair of counts: two `f32`.
const PAIR_SIZE: u64 = 8;

/// What [`BinaryCountsKernel`] works on.
#[derive(Clone, Debug)]
pub struct BinaryCountsBuffers<'a> {
    /// `[rows, columns]`, `f32`, in the layout of the logits. Read.
    pub targets: wgpu::BufferBinding<'a>,
    /// Scratch of [`BinaryCountsKernel::partials_size`] bytes.
    pub partials: wgpu::BufferBinding<'a>,
    /// `[columns, 2]` or `[2]`, `f32`: sums of `t` and of `1 - t`. Set, not added to: a caller's all-reduce, a plain sum,
    /// comes after.
    pub binary_counts: wgpu::BufferBinding<'a>,
}

/// Sums targets in a fixed order. With targets of 0 and 1 the sums are exact up to 2^24.
#[derive(Clone, Debug)]
pub struct BinaryCountsKernel {
    config: BinaryConfig,
    rows: Program,
    finish: Program,
}

impl BinaryCountsKernel {
    /// Compiles.
    ///
    /// # Errors
    /// [`PlanError`] where the device refuses a shader.
    pub fn new(device: &wgpu::Device, config: &BinaryConfig) -> Result<Self, PlanError> {
        Ok(Self {
            config: config.clone(),
            rows: config.program(device, Stage::BinaryCountsRows)?,
            finish: config.program(device, Stage::BinaryCountsFinish)?,
        })
    }

    /// Bytes of scratch.
    pub fn partials_size(config: &BinaryConfig) -> u64 {
        u64::from(blocks(config)).max(1) * Self::counts_size(config)
    }

    /// Bytes of the counts.
    pub fn counts_size(config: &BinaryConfig) -> u64 {
        u64::from(config.factor_pairs()) * PAIR_SIZE
    }

    /// The same programs for a config that differs in its rows.
    pub(crate) fn for_config(&self, config: &BinaryConfig) -> Self {
        Self { config: config.clone(), ..self.clone() }
    }

    /// Checks the buffers.
    ///
    /// # Errors
    /// [`BindError`] names the buffer, what was expected and what came.
    pub fn bind(&self, device: &wgpu::Device, buffers: &BinaryCountsBuffers<'_>) -> Result<Bound, BindError> {
        Bound::new(device, self.plan(buffers)?)
    }

    pub(crate) fn dispatches(config: &BinaryConfig) -> Result<usize, BindError> {
        Ok(tiles(config)?.len() + 1)
    }

    pub(crate) fn plan(&self, buffers: &BinaryCountsBuffers<'_>) -> Result<Vec<Planned>, BindError> {
        let config = &self.config;
        let (columns, by_column) = (config.shape().classes, per_column(config));
        let targets = super::elements_region("targets", config, &buffers.targets, 4)?;
        let what = || format!("{} blocks of {} columns", blocks(config), config.factor_pairs());
        let partials = Region::new("partials", &buffers.partials, Self::partials_size(config), what)?;
        let what = || format!("{} pairs", config.factor_pairs());
        let counts = Region::new("binary_counts", &buffers.binary_counts, Self::counts_size(config), what)?;
        let width = config.variant_of(Stage::BinaryCountsRows).workgroup_size;
        let column_groups = config.factor_pairs().div_ceil(width);
        let positions = positions_per_group(by_column);
        let mut planned = Vec::new();
        for tile in tiles(config)? {
            let mut params = config.params(&tile);
            let per_position = if by_column { columns } else { 1 };
            params.positions = tile.elements / per_position;
            params.partials = tile.first / per_position / positions;
            params.column_groups = column_groups;
            let groups = u64::from(params.positions.div_ceil(positions)) * u64::from(column_groups);
            let regions =
                [("TARGETS", super::elements_of_tile(config, &targets, &tile, 4)), ("PARTIALS", partials)];
            planned.push(self.rows.plan(params, groups, &regions)?);
        }
        let mut params = config.params(&ElementTile { first: 0, elements: config.elements() });
        params.partials = blocks(config);
        let regions = [("PARTIALS", partials), ("BINARY_COUNTS", counts)];
        planned.push(self.finish.plan(params, column_groups.into(), &regions)?);
        Ok(planned)
    }
}

fn per_column(config: &BinaryConfig) -> bool {
    config.spec().pos_weight.per_column()
}

/// Blocks of positions that are summed on their own.
fn blocks(config: &BinaryConfig) -> u32 {
    let positions = if per_column(config) { config.shape().rows } else { config.elements() };
    positions.div_ceil(positions_per_group(per_column(config)))
}

fn tiles(config: &BinaryConfig) -> Result<Vec<ElementTile>, BindError> {
    let positions = positions_per_group(per_column(config));
    // Where counts are by column a tile is of whole rows, class-first of whole blocks of rows.
    let group = match per_column(config) {
        true => {
            config.rows_of_whole_blocks(positions).and_then(|rows| rows.checked_mul(config.shape().classes))
        }
        false => Some(positions),
    };
    config.tiles_of(group.unwrap_or(u32::MAX))
}
