//! `class_weights`: from counts to weights, in the table; and from the counts of a batch to those of many.

use super::{optional, table_region};
use crate::config::Config;
use crate::error::{BindError, PlanError};
use crate::history::CountHistory;
use crate::pipeline::{Bound, Params, Planned, Program, Region, Tile};
use crate::pipelines::Shaders;
use crate::spec::CountsOver;
use crate::wgsl::{self, Stage};

/// What [`ClassWeightsKernel`] works on.
#[derive(Clone, Debug)]
pub struct ClassWeightsBuffers<'a> {
    /// `[classes]`: `u32` rows, or `f32` mass (`Spec::counts_are_mass`). Read.
    pub class_counts: wgpu::BufferBinding<'a>,
    /// A [`CountHistory`], where `LiveCounts::over` goes beyond the batch. The batch's counts are taken into it.
    pub history: Option<wgpu::BufferBinding<'a>>,
    /// `[classes]`, `f32`, where there is a history: the counts that the weights are made of. Written.
    pub counted: Option<wgpu::BufferBinding<'a>>,
    /// The table; its class weights are written.
    pub table: wgpu::BufferBinding<'a>,
}

/// Computes live class weights. The spec's `class_weights` should be `Live`; its formula is compiled in.
#[derive(Clone, Debug)]
pub struct ClassWeightsKernel {
    config: Config,
    history: Option<HistoryProgram>,
    weights: Program,
}

impl ClassWeightsKernel {
    /// Compiles.
    ///
    /// # Errors
    /// [`PlanError`] where the device refuses the shader.
    pub fn new(device: &wgpu::Device, config: &Config) -> Result<Self, PlanError> {
        let (over, mass) = (config.spec().live_counts.over, config.spec().counts_are_mass());
        Ok(Self {
            config: config.clone(),
            history: HistoryProgram::new(
                device,
                config.capabilities(),
                over,
                mass,
                config.shape().classes,
                config.shaders(),
            )?,
            weights: Program::new(device, Stage::ClassWeights, config)?,
        })
    }

    /// The same programs for a config that differs in its rows.
    pub(crate) fn for_config(&self, config: &Config) -> Self {
        Self { config: config.clone(), ..self.clone() }
    }

    /// Checks the buffers.
    ///
    /// # Errors
    /// [`BindError`] names the buffer, what was expected and what came.
    pub fn bind(&self, device: &wgpu::Device, buffers: &ClassWeightsBuffers<'_>) -> Result<Bound, BindError> {
        Bound::new(device, self.plan(buffers)?)
    }

    pub(crate) fn dispatches(config: &Config) -> usize {
        1 + usize::from(config.spec().live_counts.over != CountsOver::Batch)
    }

    pub(crate) fn plan(&self, buffers: &ClassWeightsBuffers<'_>) -> Result<Vec<Planned>, BindError> {
        let shape = self.config.shape();
        let in_words = || format!("{} classes", shape.classes);
        let size = u64::from(shape.classes) * 4;
        let counts = Region::new("class_counts", &buffers.class_counts, size, in_words)?;
        let table = table_region(&self.config, &buffers.table)?;
        let mut planned = Vec::new();
        let counts = match &self.history {
            None => {
                optional("history", None, &buffers.history, "the spec")?;
                optional("counted", None, &buffers.counted, "the spec")?;
                counts
            }
            Some(history) => {
                let (step, counted) = history.plan(counts, &buffers.history, &buffers.counted, in_words())?;
                planned.push(step);
                counted
            }
        };
        let params = self.config.params(&Tile { first_row: 0, rows: shape.rows });
        planned.push(self.weights.plan(params, 1, &[("CLASS_COUNTS", counts), ("TABLE", table)])?);
        Ok(planned)
    }
}

/// The step from a batch's counts to those of many, for any counters.
#[derive(Clone, Debug)]
pub(crate) struct HistoryProgram {
    program: Program,
    over: CountsOver,
    counters: u32,
}

impl HistoryProgram {
    /// Compiles; `None` where counts go over the batch alone.
    pub fn new(
        device: &wgpu::Device,
        caps: &crate::pipeline::Capabilities,
        over: CountsOver,
        mass: bool,
        counters: u32,
        shaders: &Shaders,
    ) -> Result<Option<Self>, PlanError> {
        if over == CountsOver::Batch {
            return Ok(None);
        }
        let variant = wgsl::Variant {
            workgroup_size: caps.max_workgroup_size.min(256),
            counts: wgsl::CountsVariant { sample_weighted: false, mass, over },
            ..wgsl::Variant::default()
        };
        let source = wgsl::source(Stage::CountHistory, &variant);
        let program = Program::from_source(
            device,
            Stage::CountHistory,
            *caps,
            variant.workgroup_size,
            source,
            shaders,
        )?;
        Ok(Some(Self { program, over, counters }))
    }

    /// Checks the buffers and makes the bind group, for counts of a name of their own.
    pub fn bind(
        &self,
        device: &wgpu::Device,
        (name, counts): (&'static str, wgpu::BufferBinding<'_>),
        history: wgpu::BufferBinding<'_>,
        counted: wgpu::BufferBinding<'_>,
    ) -> Result<Bound, BindError> {
        let in_words = || format!("{} counters", self.counters);
        let counts = Region::new(name, &counts, u64::from(self.counters) * 4, in_words)?;
        let (step, _) = self.plan(counts, &Some(history), &Some(counted), in_words())?;
        Bound::new(device, vec![step])
    }

    /// Checks the buffers; gives the step, and the counts that it writes.
    pub fn plan<'a>(
        &self,
        counts: Region<'a>,
        history: &Option<wgpu::BufferBinding<'a>>,
        counted: &Option<wgpu::BufferBinding<'a>>,
        in_words: String,
    ) -> Result<(Planned, Region<'a>), BindError> {
        let missing = |name| BindError::Missing { name, why: "the spec asks for it" };
        let history = history.as_ref().ok_or_else(|| missing("history"))?;
        let counted = counted.as_ref().ok_or_else(|| missing("counted"))?;
        let size = CountHistory::size(self.over, self.counters);
        let history = Region::new("history", history, size, || in_words.clone())?;
        let counted = Region::new("counted", counted, u64::from(self.counters) * 4, || in_words)?;
        let params = Params { classes: self.counters, ..Params::default() };
        let regions = [("CLASS_COUNTS", counts), ("HISTORY", history), ("COUNTED", counted)];
        Ok((self.program.plan(params, 1, &regions)?, counted))
    }
}
