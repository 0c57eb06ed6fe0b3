//! A step as a list of texts and dispatches: for engines that have pipelines and buffers of their own.

use crate::config::Config;
use crate::error::BindError;
use crate::history::CountHistory;
use crate::inputs::sample_weights_len;
use crate::kernels::{
    ClassCountsKernel, CrossEntropyForwardKernel, DenominatorKernel, LossTotalKernel, TableLayout,
};
use crate::pipeline::{Params, Tile, tiles_of_logits};
use crate::spec::{CountsOver, Spec, Targets};
use crate::wgsl::{self, Embedding, Source, Stage, Strategy};

/// A buffer of a step. Each is a storage buffer; nothing is read from one before a dispatch has written it, but for the
/// caller's own inputs, [`Slot::Params`], and those that have [`Slot::initial`] contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// [`FlowDispatch::params`], of this dispatch alone.
    Params,
    /// As [`Batch::logits`](crate::Batch::logits).
    Logits,
    /// As [`Batch::targets`](crate::Batch::targets).
    Targets,
    /// As [`Batch::sample_weights`](crate::Batch::sample_weights).
    SampleWeights,
    /// As [`Batch::grad_out`](crate::Batch::grad_out).
    GradOut,
    /// As [`Batch::external_denominator`](crate::Batch::external_denominator).
    ExternalDenominator,
    /// As [`Batch::logit_grads`](crate::Batch::logit_grads).
    LogitGrads,
    /// As [`CrossEntropy::table`](crate::CrossEntropy::table). It has initial contents.
    Table,
    /// As [`CrossEntropy::row_losses`](crate::CrossEntropy::row_losses).
    RowLosses,
    /// `[rows]` of [`RowStats`](crate::cpu::RowStats), between forward and backward.
    RowStats,
    /// What the workgroups that share a row know of it, with [`Strategy::Split`].
    RowShares,
    /// The same of losses of many terms.
    RowMoments,
    /// As [`CrossEntropy::class_counts`](crate::CrossEntropy::class_counts).
    ClassCounts,
    /// Sums of mass, before they are rounded to class counts.
    Mass,
    /// A [`CountHistory`], kept from step to step. It has initial contents.
    History,
    /// As [`CrossEntropy::counted`](crate::CrossEntropy::counted).
    Counted,
    /// Partial sums, of the denominator and then of the loss.
    Partials,
    /// As [`CrossEntropy::telemetry`](crate::CrossEntropy::telemetry), kept from step to step; zeros at first.
    Telemetry,
}

impl Slot {
    /// Bytes that the slot holds for a config; 0 where the config has no such buffer.
    pub fn size(self, config: &Config) -> u64 {
        let (spec, shape) = (config.spec(), config.shape());
        let (rows, classes) = (u64::from(shape.rows), u64::from(shape.classes));
        let only = |on: bool, size: u64| if on { size } else { 0 };
        let [(_, row_shares), (_, row_moments)] = CrossEntropyForwardKernel::scratch_sizes(config);
        let logits = (shape.logits_len() * config.options().dtype.bytes()).next_multiple_of(4);
        let live = spec.needs_counts();
        match self {
            Self::Params => size_of::<Params>() as u64,
            Self::Logits => logits,
            Self::LogitGrads => only(!config.options().in_place, logits),
            Self::Targets => match spec.targets {
                Targets::Labels => config.options().labels.size(shape.rows),
                Targets::TwoHot => rows * 12,
                Targets::Soft => shape.logits_len() * 4,
            },
            Self::SampleWeights => sample_weights_len(spec, shape).map_or(0, |len| u64::from(len) * 4),
            Self::GradOut => only(config.options().grad_out, rows * 4),
            Self::ExternalDenominator => only(config.variant().external, 4),
            Self::Table => TableLayout::new(spec, shape).size(),
            Self::RowLosses => (rows * config.row_size()).max(4),
            Self::RowStats => (rows * CrossEntropyForwardKernel::ROW_STATS_SIZE).max(4),
            Self::RowShares => row_shares,
            Self::RowMoments => row_moments,
            Self::ClassCounts => only(live, classes * 4),
            Self::Mass => only(live && spec.counts_are_mass(), ClassCountsKernel::mass_size(shape.classes)),
            Self::History => only(live, CountHistory::size(spec.live_counts.over, shape.classes)),
            Self::Counted => only(live && over_batches(spec), classes * 4),
            Self::Partials => DenominatorKernel::partials_size(spec.targets, shape.rows)
                .max(LossTotalKernel::partials_size(shape.rows)),
            Self::Telemetry => config.telemetry_layout().map_or(0, |layout| layout.size()),
        }
    }

    /// What it holds before the first step, where that matters and is not zeros.
    pub fn initial(self, config: &Config) -> Option<Vec<u8>> {
        let (spec, shape) = (config.spec(), config.shape());
        match self {
            Self::Table => Some(TableLayout::new(spec, shape).initial(spec)),
            Self::History => CountHistory::new(spec, shape.classes).map(|new| new.as_bytes().to_vec()),
            _ => None,
        }
    }
}

/// Whether losses and gradients come from one visit to the logits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Visits {
    /// One: losses and gradients together. (Two where workgroups share rows, one dispatch right behind the other.)
    #[default]
    Fused,
    /// Two: losses first; gradients in the last dispatch, which may come later. It is told the gradient that arrives, by
    /// `Options::grad_out` or at [`TableLayout::GRAD_SCALE`].
    Split,
}

/// One dispatch of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowDispatch {
    /// What it is.
    pub stage: Stage,
    /// Its text, as [`wgsl::embedded`] gives it. Two dispatches may have the same.
    pub source: Source,
    /// What to bind, by binding number.
    pub slots: Vec<Slot>,
    /// The contents of [`Slot::Params`]. Its bases are 0: each slot is bound from its first byte on. An engine whose
    /// data starts within a binding writes how many words come before it into the base of its name.
    pub params: Params,
    /// Workgroups to dispatch, in x and y.
    pub grid: (u32, u32),
}

/// A step in order: counts, weights, denominator, losses, gradients, totals, as [`CrossEntropy`](crate::CrossEntropy)
/// records them. With [`Visits::Split`] the gradients come last.
///
/// Each dispatch must see what those before it wrote. Counts may be all-reduced before [`Stage::ClassWeights`] (before
/// [`Stage::CountHistory`], where there is one), the denominator after [`Stage::DenominatorFinish`].
///
/// ```
/// use wgpu_cross_entropy::wgsl::Embedding;
/// use wgpu_cross_entropy::{Capabilities, Config, Options, Shape, Slot, Spec, Visits, WeightScheme, flow};
///
/// let spec = Spec { class_weights: WeightScheme::Balanced.into(), ..Spec::default() };
/// let (caps, shape) = (Capabilities::default(), Shape::new(4096, 10));
/// let config = Config::with_capabilities(caps, &spec, shape, &Options::default())?;
/// for dispatch in flow(&config, Visits::Fused, &Embedding::default())? {
///     let bytes: Vec<u64> = dispatch.slots.iter().map(|slot| slot.size(&config)).collect();
///     println!("{:?}: {:?} of {bytes:?} bytes, {:?} workgroups", dispatch.stage, dispatch.slots, dispatch.grid);
/// }
/// assert_eq!(Slot::Logits.size(&config), 4096 * 10 * 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`BindError::BindingSize`] where a batch does not fit the bindings of the config's capabilities: it would have to be
/// cut into tiles, which only [`CrossEntropy`](crate::CrossEntropy) does.
pub fn flow(config: &Config, visits: Visits, embedding: &Embedding) -> Result<Vec<FlowDispatch>, BindError> {
    let (spec, shape) = (config.spec(), config.shape());
    let whole = Tile { first_row: 0, rows: shape.rows };
    let row_bytes = CrossEntropyForwardKernel::row_bytes(config);
    if tiles_of_logits(shape, config.capabilities(), row_bytes, config.rows_together())?.len() > 1 {
        let limit = config.capabilities().max_binding_size;
        return Err(BindError::BindingSize { name: "logits", need: Slot::Logits.size(config), limit });
    }
    let mut stages = Vec::new();
    if spec.needs_counts() {
        stages.extend([Stage::ClassCountsClear, ClassCountsKernel::count_stage(config)]);
        stages.extend(spec.counts_are_mass().then_some(Stage::ClassCountsMassFinish));
        stages.extend(over_batches(spec).then_some(Stage::CountHistory));
        stages.push(Stage::ClassWeights);
    }
    stages.push(match spec.targets {
        Targets::Soft => Stage::DenominatorSoft,
        Targets::Labels | Targets::TwoHot => Stage::DenominatorRows,
    });
    stages.push(Stage::DenominatorFinish);
    let shared = config.variant().strategy == Strategy::Split;
    if visits == Visits::Fused && !shared {
        stages.push(Stage::CrossEntropy);
    } else {
        stages.extend(shared.then_some(Stage::CrossEntropyForwardShares));
        stages.extend((shared && config.variant().general).then_some(Stage::CrossEntropyForwardMoments));
        stages.push(Stage::CrossEntropyForward);
        stages.extend((visits == Visits::Fused).then_some(Stage::CrossEntropyBackward));
    }
    stages.push(Stage::LossTotalRows);
    stages.extend(config.telemetry_layout().map(|_| Stage::LossTotalClasses));
    stages.push(Stage::LossTotalFinish);
    stages.extend((visits == Visits::Split).then_some(Stage::CrossEntropyBackward));

    let dispatch = |stage: Stage| {
        let variant = config.variant_of(stage);
        let source = wgsl::embedded(stage, &variant, embedding);
        let groups = wgsl::workgroups(stage, &variant, shape);
        let grid = wgsl::grid(groups, config.capabilities().max_groups);
        let partials = match stage {
            Stage::DenominatorFinish => match spec.targets {
                Targets::Soft => shape.rows.div_ceil(wgsl::SOFT_ROWS_PER_GROUP),
                Targets::Labels | Targets::TwoHot => shape.rows.div_ceil(wgsl::ROWS_PER_GROUP),
            },
            Stage::LossTotalFinish => shape.rows.div_ceil(wgsl::ROWS_PER_GROUP),
            _ => 0,
        };
        let params = Params { groups_x: grid.0, partials, ..config.params(&whole) };
        let slots = source.bindings.iter().map(|binding| slot(stage, &binding.name, spec)).collect();
        FlowDispatch { stage, source, slots, params, grid }
    };
    Ok(stages.into_iter().map(dispatch).collect())
}

/// The slot that a binding of a stage takes.
fn slot(stage: Stage, binding: &str, spec: &Spec) -> Slot {
    match binding {
        "LOGITS" => Slot::Logits,
        "LABELS" | "TARGET_PROBS" => Slot::Targets,
        "SAMPLE_WEIGHTS" => Slot::SampleWeights,
        "GRAD_OUT" => Slot::GradOut,
        "EXTERNAL_DENOMINATOR" => Slot::ExternalDenominator,
        "LOGIT_GRADS" => Slot::LogitGrads,
        "TABLE" => Slot::Table,
        "ROW_LOSSES" => Slot::RowLosses,
        "ROW_STATS" => Slot::RowStats,
        "ROW_SHARES" => Slot::RowShares,
        "ROW_MOMENTS" => Slot::RowMoments,
        "MASS" => Slot::Mass,
        "HISTORY" => Slot::History,
        "COUNTED" => Slot::Counted,
        "PARTIALS" => Slot::Partials,
        "TELEMETRY" => Slot::Telemetry,
        "CLASS_COUNTS" => match stage {
            // What the tiles add to is what has to start as 0.
            Stage::ClassCountsClear if spec.counts_are_mass() => Slot::Mass,
            Stage::ClassWeights if over_batches(spec) => Slot::Counted,
            _ => Slot::ClassCounts,
        },
        _ => Slot::Params,
    }
}

fn over_batches(spec: &Spec) -> bool {
    spec.live_counts.over != CountsOver::Batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Capabilities;
    use crate::shape::Shape;
    use crate::spec::{ClassWeights, LiveCounts, LiveWeights, SampleWeights};
    use crate::{Options, error::BindError};

    fn config(spec: &Spec, options: &Options) -> Config {
        let shape = Shape::new(5000, 12);
        Config::with_capabilities(Capabilities::default(), spec, shape, options).expect("a sound config")
    }

    /// Every binding has a slot of its own that the config fills, and nothing is used before it is written.
    #[test]
    fn every_slot_is_filled() {
        let live = ClassWeights::Live(LiveWeights::default());
        let mut specs = vec![Spec::default(), Spec { class_weights: live, ..Spec::default() }];
        for targets in [Targets::Labels, Targets::TwoHot, Targets::Soft] {
            for over in [CountsOver::Batch, CountsOver::Ema { momentum: 0.9 }, CountsOver::Cumulative] {
                specs.push(Spec {
                    targets,
                    sample_weights: SampleWeights::PerRow,
                    live_counts: LiveCounts { sample_weighted: true, over },
                    ..specs[1].clone()
                });
            }
        }
        for spec in &specs {
            for (options, visits) in [
                (Options::default(), Visits::Fused),
                (Options { grad_out: true, class_stats: true, ..Options::default() }, Visits::Split),
                (Options { strategy: Some(Strategy::Split), ..Options::default() }, Visits::Fused),
                (Options { strategy: Some(Strategy::Split), ..Options::default() }, Visits::Split),
            ] {
                let config = config(spec, &options);
                let given = [Slot::Params, Slot::Logits, Slot::Targets, Slot::SampleWeights, Slot::GradOut];
                let mut known = Vec::from(given);
                known.extend([Slot::Table, Slot::History, Slot::Telemetry]);
                for FlowDispatch { stage, slots, source, .. } in
                    flow(&config, visits, &Embedding { read_write: false, ..Embedding::default() }).unwrap()
                {
                    let mut sorted = slots.clone();
                    sorted.sort_unstable();
                    sorted.dedup();
                    assert_eq!(sorted.len(), slots.len(), "{stage:?}: {slots:?}");
                    for (slot, binding) in slots.into_iter().zip(&source.bindings) {
                        assert!(slot.size(&config) > 0, "{stage:?}: {slot:?}");
                        assert_eq!(slot == Slot::Params, binding.name == "PARAMS", "{stage:?}: {binding:?}");
                        assert!(known.contains(&slot) || !binding.read_only, "{stage:?} reads {slot:?}");
                        known.push(slot);
                    }
                }
            }
        }
    }

    #[test]
    fn a_batch_of_many_tiles_is_refused() {
        let options = Options { max_binding_size: Some(4096), ..Options::default() };
        let refused = flow(&config(&Spec::default(), &options), Visits::Fused, &Embedding::default());
        assert!(matches!(
            refused,
            Err(BindError::BindingSize { name: "logits", need: 240_000, limit: 4096 })
        ));
    }
}
