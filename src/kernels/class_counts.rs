//! `class_counts`: how many valid rows each class has.

use super::{labels_of_tile, labels_region, row_groups};
use crate::config::Config;
use crate::error::{BindError, PlanError};
use crate::pipeline::{Bound, Planned, Program, Region, Tile, tiles_of_rows};
use crate::wgsl::{PRIVATE_CLASSES, Stage};

/// What [`ClassCountsKernel`] works on.
#[derive(Clone, Debug)]
pub struct ClassCountsBuffers<'a> {
    /// `[rows]`, as `Options::labels` says. Read.
    pub labels: wgpu::BufferBinding<'a>,
    /// `[classes]`, `u32`. Set, not added to: a caller's all-reduce comes after.
    pub class_counts: wgpu::BufferBinding<'a>,
}

/// Counts the labels of each class.
#[derive(Clone, Debug)]
pub struct ClassCountsKernel {
    config: Config,
    clear: Program,
    count: Program,
}

impl ClassCountsKernel {
    /// Compiles.
    ///
    /// # Errors
    /// [`PlanError`] where the device refuses a shader.
    pub fn new(device: &wgpu::Device, config: &Config) -> Result<Self, PlanError> {
        let few = config.shape().classes <= PRIVATE_CLASSES;
        let count = match few && config.variant().count_in_workgroup {
            true => Stage::ClassCountsPrivate,
            false => Stage::ClassCountsDirect,
        };
        Ok(Self {
            config: config.clone(),
            clear: Program::new(device, Stage::ClassCountsClear, config)?,
            count: Program::new(device, count, config)?,
        })
    }

    /// Checks the buffers.
    ///
    /// # Errors
    /// [`BindError`] names the buffer, what was expected and what came.
    pub fn bind(&self, device: &wgpu::Device, buffers: &ClassCountsBuffers<'_>) -> Result<Bound, BindError> {
        Bound::new(device, self.plan(buffers)?)
    }

    pub(crate) fn plan(&self, buffers: &ClassCountsBuffers<'_>) -> Result<Vec<Planned>, BindError> {
        let config = &self.config;
        let shape = config.shape();
        let labels = labels_region(config, &buffers.labels)?;
        let counts =
            Region::new("class_counts", &buffers.class_counts, u64::from(shape.classes) * 4, || {
                format!("{} classes", shape.classes)
            })?;
        let whole = Tile { first_row: 0, rows: shape.rows };
        let groups =
            u64::from(shape.classes.div_ceil(config.variant_of(Stage::ClassCountsClear).workgroup_size));
        let mut planned =
            vec![self.clear.plan(config.params(&whole), groups, &[("CLASS_COUNTS", counts)])?];
        for tile in tiles_of_rows(shape.rows, config.capabilities(), 4) {
            let regions = [("LABELS", labels_of_tile(config, &labels, &tile)), ("CLASS_COUNTS", counts)];
            planned.push(self.count.plan(config.params(&tile), row_groups(tile.rows).into(), &regions)?);
        }
        Ok(planned)
    }
}
