//! `class_counts`: how many valid rows each class has, or how much mass.

use super::{
    optional, row_groups, sample_weights_of_tile, sample_weights_region, targets_of_tile, targets_region,
};
use crate::config::Config;
use crate::error::{BindError, PlanError};
use crate::pipeline::{Bound, Planned, Program, Region, Tile, Tiling, tiling_of_logits, tiling_of_rows};
use crate::spec::Targets;
use crate::wgsl::{PRIVATE_CLASSES, SOFT_MASS_ROWS, Stage};

/// What [`ClassCountsKernel`] works on.
#[derive(Clone, Debug)]
pub struct ClassCountsBuffers<'a> {
    /// `[rows]` labels, as `Options::labels` says; `[rows, 3]` words (label, label, share as `f32`) with
    /// `Targets::TwoHot`; `[rows, classes]` `f32` in the layout of the shape with `Targets::Soft`. Read.
    pub targets: wgpu::BufferBinding<'a>,
    /// As the spec says, `f32`, where `LiveCounts::sample_weighted` is set. Read.
    pub sample_weights: Option<wgpu::BufferBinding<'a>>,
    /// Scratch of [`ClassCountsKernel::mass_size`] bytes where counts are mass: exact sums, of 16 bytes a class.
    pub mass: Option<wgpu::BufferBinding<'a>>,
    /// `[classes]`: `u32` rows, or `f32` mass (`Spec::counts_are_mass`). Set, not added to: a caller's all-reduce, a
    /// plain sum, comes after.
    pub class_counts: wgpu::BufferBinding<'a>,
}

/// Counts the rows of each class, or adds up their mass.
#[derive(Clone, Debug)]
pub struct ClassCountsKernel {
    config: Config,
    clear: Program,
    count: Program,
    finish: Option<Program>,
}

impl ClassCountsKernel {
    /// Compiles.
    ///
    /// # Errors
    /// [`PlanError`] where the device refuses a shader.
    pub fn new(device: &wgpu::Device, config: &Config) -> Result<Self, PlanError> {
        let mass = config.spec().counts_are_mass();
        let count = Self::count_stage(config);
        let finish = || Program::new(device, Stage::ClassCountsMassFinish, config);
        Ok(Self {
            config: config.clone(),
            clear: Program::new(device, Stage::ClassCountsClear, config)?,
            count: Program::new(device, count, config)?,
            finish: mass.then(finish).transpose()?,
        })
    }

    /// The stage that counts.
    pub(crate) fn count_stage(config: &Config) -> Stage {
        let few = config.shape().classes <= PRIVATE_CLASSES;
        match config.spec().targets {
            Targets::Soft => Stage::ClassCountsMassSoft,
            _ if config.spec().counts_are_mass() => Stage::ClassCountsMass,
            _ if few && config.variant().count_in_workgroup => Stage::ClassCountsPrivate,
            _ => Stage::ClassCountsDirect,
        }
    }

    /// Bytes of scratch for the mass of so many classes.
    pub fn mass_size(classes: u32) -> u64 {
        u64::from(classes) * 16
    }

    /// The same programs for a config that differs in its rows.
    pub(crate) fn for_config(&self, config: &Config) -> Self {
        Self { config: config.clone(), ..self.clone() }
    }

    /// Checks the buffers.
    ///
    /// # Errors
    /// [`BindError`] names the buffer, what was expected and what came.
    pub fn bind(&self, device: &wgpu::Device, buffers: &ClassCountsBuffers<'_>) -> Result<Bound, BindError> {
        Bound::new(device, self.plan(buffers)?)
    }

    pub(crate) fn dispatches(config: &Config) -> Result<usize, BindError> {
        Ok(tiling(config)?.len() + 1 + usize::from(config.spec().counts_are_mass()))
    }

    pub(crate) fn plan(&self, buffers: &ClassCountsBuffers<'_>) -> Result<Vec<Planned>, BindError> {
        let config = &self.config;
        let (shape, spec) = (config.shape(), config.spec());
        let (classes, is_mass) = (shape.classes, spec.counts_are_mass());
        let in_words = || format!("{classes} classes");
        let targets = targets_region(config, &buffers.targets)?;
        let counts = Region::new("class_counts", &buffers.class_counts, u64::from(classes) * 4, in_words)?;
        let wanted = is_mass.then(|| (Self::mass_size(classes), in_words()));
        let mass = optional("mass", wanted, &buffers.mass, "the spec")?;
        let weights = match (spec.live_counts.sample_weighted, &buffers.sample_weights) {
            (true, weights) => sample_weights_region(config, weights)?,
            (false, None) => None,
            (false, Some(_)) => {
                let why = "the spec's counts are not sample_weighted";
                return Err(BindError::Unexpected { name: "sample_weights", why });
            }
        };

        let whole = Tile { first_row: 0, rows: shape.rows };
        let size = config.variant_of(Stage::ClassCountsClear).workgroup_size;
        let class_groups = u64::from(classes.div_ceil(size));
        let cleared = [("CLASS_COUNTS", mass.unwrap_or(counts))];
        let mut planned = vec![self.clear.plan(config.params(&whole), class_groups, &cleared)?];
        for tile in tiling(config)?.iter() {
            let mut regions = vec![targets_of_tile(config, &targets, &tile)];
            regions.push(mass.map_or(("CLASS_COUNTS", counts), |mass| ("MASS", mass)));
            if let Some(weights) = &weights {
                regions.push(("SAMPLE_WEIGHTS", sample_weights_of_tile(config, weights, &tile)));
            }
            let groups = match spec.targets {
                Targets::Soft => class_groups * u64::from(tile.rows.div_ceil(SOFT_MASS_ROWS)),
                Targets::Labels | Targets::TwoHot => row_groups(tile.rows).into(),
            };
            planned.push(self.count.plan(config.params(&tile), groups, &regions)?);
        }
        if let (Some(finish), Some(mass)) = (&self.finish, mass) {
            let regions = [("MASS", mass), ("CLASS_COUNTS", counts)];
            planned.push(finish.plan(config.params(&whole), class_groups, &regions)?);
        }
        Ok(planned)
    }
}

fn tiling(config: &Config) -> Result<Tiling, BindError> {
    let (shape, caps) = (config.shape(), config.capabilities());
    Ok(match config.spec().targets {
        Targets::Labels => tiling_of_rows(shape.rows, caps, 4),
        Targets::TwoHot => tiling_of_rows(shape.rows, caps, 12),
        Targets::Soft => tiling_of_logits(shape, caps, 4, 1)?,
    })
}
