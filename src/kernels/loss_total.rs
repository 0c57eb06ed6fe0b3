//! `loss_total`: the loss as one number, in the table; and what the rows say of their classes, in the telemetry.

use super::{optional, row_groups, row_losses_region, table_region};
use crate::config::Config;
use crate::error::{BindError, PlanError};
use crate::pipeline::{Bound, Planned, Program, Region, Tile, Tiling, tiling_of_rows};
use crate::wgsl::Stage;

/// Bytes of one partial sum: `Sums` in `shaders/parts/loss_sums.wgsl`.
const PARTIAL_SIZE: u64 = 8;

/// What [`LossTotalKernel`] works on.
#[derive(Clone, Debug)]
pub struct LossTotalBuffers<'a> {
    /// `[rows]`, `f32`; of [`RowRecord`](crate::RowRecord)s where the options ask for by-products. Read.
    pub row_losses: wgpu::BufferBinding<'a>,
    /// Scratch of [`LossTotalKernel::partials_size`] bytes.
    pub partials: wgpu::BufferBinding<'a>,
    /// The table; `denominator` is read, `loss_sum` and `loss` are written.
    pub table: wgpu::BufferBinding<'a>,
    /// Where the options ask for class statistics: [`TelemetryLayout`](crate::TelemetryLayout), at the device's offset
    /// alignment. Added to; clear it to start anew.
    pub telemetry: Option<wgpu::BufferBinding<'a>>,
}

/// Sums the row losses in a fixed order and divides by the denominator; adds up what each class has.
#[derive(Clone, Debug)]
pub struct LossTotalKernel {
    config: Config,
    rows: Program,
    finish: Program,
    classes: Option<Program>,
}

impl LossTotalKernel {
    /// Compiles.
    ///
    /// # Errors
    /// [`PlanError`] where the device refuses a shader.
    pub fn new(device: &wgpu::Device, config: &Config) -> Result<Self, PlanError> {
        Ok(Self {
            config: config.clone(),
            rows: Program::new(device, Stage::LossTotalRows, config)?,
            finish: Program::new(device, Stage::LossTotalFinish, config)?,
            classes: match config.telemetry_layout() {
                Some(_) => Some(Program::new(device, Stage::LossTotalClasses, config)?),
                None => None,
            },
        })
    }

    /// Bytes of scratch for so many rows.
    pub fn partials_size(rows: u32) -> u64 {
        u64::from(row_groups(rows)).max(1) * PARTIAL_SIZE
    }

    /// The same programs for a config that differs in its rows.
    pub(crate) fn for_config(&self, config: &Config) -> Self {
        Self { config: config.clone(), ..self.clone() }
    }

    /// Checks the buffers.
    ///
    /// # Errors
    /// [`BindError`] names the buffer, what was expected and what came.
    pub fn bind(&self, device: &wgpu::Device, buffers: &LossTotalBuffers<'_>) -> Result<Bound, BindError> {
        Bound::new(device, self.plan(buffers)?)
    }

    pub(crate) fn dispatches(config: &Config) -> usize {
        tiling(config).len() * (1 + usize::from(config.telemetry_layout().is_some())) + 1
    }

    pub(crate) fn plan(&self, buffers: &LossTotalBuffers<'_>) -> Result<Vec<Planned>, BindError> {
        let config = &self.config;
        let rows = config.shape().rows;
        let losses = row_losses_region(config, &buffers.row_losses)?;
        let wanted = config
            .telemetry_layout()
            .map(|layout| (layout.size(), format!("{} classes", config.shape().classes)));
        let telemetry = optional("telemetry", wanted, &buffers.telemetry, "Options::class_stats")?;
        let table = table_region(config, &buffers.table)?;
        let partials =
            Region::new("partials", &buffers.partials, Self::partials_size(rows), || format!("{rows} rows"))?;
        let mut planned = Vec::new();
        let size = config.row_size();
        for tile in tiling(config).iter() {
            let losses = ("ROW_LOSSES", losses.rows(&tile, size));
            let groups = u64::from(row_groups(tile.rows));
            let mut params = config.params(&tile);
            params.partials = row_groups(tile.first_row);
            planned.push(self.rows.plan(params, groups, &[losses, ("PARTIALS", partials)])?);
            if let (Some(classes), Some(telemetry)) = (&self.classes, telemetry) {
                planned.push(classes.plan(params, groups, &[losses, ("TELEMETRY", telemetry)])?);
            }
        }
        let mut params = config.params(&Tile { first_row: 0, rows });
        params.partials = row_groups(rows);
        planned.push(self.finish.plan(params, 1, &[("PARTIALS", partials), ("TABLE", table)])?);
        Ok(planned)
    }
}

fn tiling(config: &Config) -> Tiling {
    tiling_of_rows(config.shape().rows, config.capabilities(), config.row_size())
}
