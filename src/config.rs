//! From spec, shape and device to the variant of each kernel: one table decides.

use crate::error::{InputError, PlanError};
use crate::pipeline::{Capabilities, Params, Tile};
use crate::shape::Shape;
use crate::spec::{
    ClassWeights, ClassesOver, Denominator, LogitBias, Reduction, SampleWeights, Scores, Spec, Targets,
    WeightScheme, WeightScope,
};
use crate::stats::TelemetryLayout;
use crate::wgsl::{
    BinaryVariant, CountsVariant, Element, Numbers, PRIVATE_STATS_CLASSES, Stage, Strategy, Variant,
};

/// How logits and gradients are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Dtype {
    /// 32 bits.
    #[default]
    F32,
    /// IEEE half precision. Class-last, with an even stride; works without the device's f16 feature. Gradients beyond
    /// 65504 are clamped to it.
    F16,
    /// The upper half of an `f32`. Class-last, with an even stride.
    Bf16,
}

impl Dtype {
    /// Bytes of one logit.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

impl Dtype {
    /// Bytes as a buffer holds them, up to a whole word. 16-bit values are rounded to the nearest, ties to even.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        let mut bytes = match self {
            Self::F32 => bytemuck::cast_slice(values).to_vec(),
            Self::F16 => values.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect(),
        };
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// The values of a buffer's bytes.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let halves = bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
        match self {
            Self::F32 => bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect(),
            Self::F16 => halves.map(|pair| half::f16::from_le_bytes(pair).to_f32()).collect(),
            Self::Bf16 => halves.map(|pair| half::bf16::from_le_bytes(pair).to_f32()).collect(),
        }
    }

    /// Values as they are once they have been stored.
    pub fn round(self, values: &[f32]) -> Vec<f32> {
        match self {
            Self::F32 => values.to_vec(),
            Self::F16 => values.iter().map(|x| half::f16::from_f32(*x).to_f32()).collect(),
            Self::Bf16 => values.iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect(),
        }
    }
}

/// How labels are stored, for [`Targets::Labels`]. `Spec::ignore_index` is compared with the label as an `i32`: of
/// bytes the usual one is 255, and a negative one matches no packed label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum LabelFormat {
    /// 32 bits: `i32` or `u32`.
    #[default]
    I32,
    /// 16 bits, two to a word, the first in the low half. The buffer holds whole words; what follows the last label in
    /// its word is not looked at.
    U16,
    /// 8 bits, four to a word, the first in the lowest byte: segmentation masks. Whole words as well.
    U8,
}

impl LabelFormat {
    /// Bytes of one label.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::I32 => 4,
            Self::U16 => 2,
            Self::U8 => 1,
        }
    }

    /// Bytes of so many labels in a buffer, up to a whole word.
    pub const fn size(self, rows: u32) -> u64 {
        (rows as u64 * self.bytes()).next_multiple_of(4)
    }

    /// Labels as a buffer holds them, up to a whole word.
    ///
    /// # Errors
    /// [`InputError::Label`] for the first label that the format cannot hold.
    pub fn encode(self, labels: &[i32]) -> Result<Vec<u8>, InputError> {
        let (bytes, expected) = match self {
            Self::I32 => return Ok(bytemuck::cast_slice(labels).to_vec()),
            Self::U16 => (2, "from 0 to 65535 as 16 bits"),
            Self::U8 => (1, "from 0 to 255 as 8 bits"),
        };
        let most = (1 << (8 * bytes)) - 1;
        if let Some(index) = labels.iter().position(|label| !(0..=most).contains(label)) {
            return Err(InputError::Label { index, got: labels[index], expected });
        }
        let mut packed: Vec<u8> =
            labels.iter().flat_map(|label| label.to_le_bytes()[..bytes].to_vec()).collect();
        packed.resize(packed.len().next_multiple_of(4), 0);
        Ok(packed)
    }
}

/// What a caller may choose beside the spec. All kernels of one plan share it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// Gradients over the logits, which are lost. Saves a buffer of their size.
    pub in_place: bool,
    /// An upstream gradient comes with the batch, one a row.
    pub grad_out: bool,
    /// How logits and gradients are stored. Arithmetic and row losses are `f32` in any case.
    pub dtype: Dtype,
    /// How labels are stored.
    pub labels: LabelFormat,
    /// Keeps each row's prediction: `row_losses` is an array of [`RowRecord`](crate::RowRecord) then.
    pub predictions: bool,
    /// Adds up what each class has, step after step, in a buffer that is read when one likes: see
    /// [`ClassStats`](crate::ClassStats). Keeps [`RowRecord`](crate::RowRecord)s too.
    pub class_stats: bool,
    /// Counts the rows of each pair of true and predicted class as well, 8 bytes a pair. Brings `class_stats` along.
    pub confusion: bool,
    /// A row strategy other than the table's.
    pub strategy: Option<Strategy>,
    /// A workgroup size other than the table's.
    pub workgroup_size: Option<u32>,
    /// `Some(false)` keeps subgroup operations out.
    pub subgroups: Option<bool>,
    /// `Some(false)` keeps 16-byte loads out.
    pub vectorize: Option<bool>,
    /// Bindings no larger than this, to cut a batch into smaller tiles than the device asks for.
    pub max_binding_size: Option<u64>,
}

impl Options {
    /// Whether more is kept of a row than its loss.
    pub fn keeps_records(&self) -> bool {
        self.predictions || self.keeps_telemetry()
    }

    /// Whether the telemetry of classes is kept.
    pub fn keeps_telemetry(&self) -> bool {
        self.class_stats || self.confusion
    }
}

/// The most classes that one invocation walks over. llvmpipe (Mesa 22.3.6) leaves every loop silently after 65,535
/// turns an invocation, and a row takes classes / 4 turns twice.
pub const MAX_THREAD_CLASSES: u32 = 65_536;

/// One line of the table of strategies. The first line that fits is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// For CPU devices, or for the others.
    pub cpu: bool,
    /// Whether it needs subgroups.
    pub subgroups: bool,
    /// The most classes it is meant for.
    pub max_classes: u32,
    /// The strategy.
    pub strategy: Strategy,
    /// Invocations in a workgroup; 0: the device's largest subgroup.
    pub workgroup_size: u32,
}

/// The table. On CPUs a workgroup is as wide as a subgroup, so that no barrier is needed; where there are no
/// subgroups an invocation a row needs none either, up to where one driver stops looping (65,535 turns).
pub const RULES: &[Rule] = &[
    rule(true, true, 64, Strategy::Thread, 0),
    rule(true, true, u32::MAX, Strategy::Workgroup, 0),
    rule(true, false, 32_768, Strategy::Thread, 16),
    rule(true, false, u32::MAX, Strategy::Workgroup, 64),
    rule(false, false, 32, Strategy::Thread, 64),
    rule(false, false, 512, Strategy::Workgroup, 64),
    rule(false, false, 2048, Strategy::Workgroup, 128),
    rule(false, false, u32::MAX, Strategy::Workgroup, 256),
];

const fn rule(cpu: bool, subgroups: bool, max_classes: u32, strategy: Strategy, workgroup_size: u32) -> Rule {
    Rule { cpu, subgroups, max_classes, strategy, workgroup_size }
}

/// A checked spec and shape, and the variant that the kernels are compiled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    spec: Spec,
    shape: Shape,
    options: Options,
    caps: Capabilities,
    variant: Variant,
    why: String,
}

impl Config {
    /// Checks spec and shape and chooses the variant for a device.
    ///
    /// # Errors
    /// [`PlanError`] where spec, shape and options do not go together or pass a limit of the device.
    pub fn new(
        device: &wgpu::Device,
        spec: &Spec,
        shape: Shape,
        options: &Options,
    ) -> Result<Self, PlanError> {
        Self::with_capabilities(Capabilities::of(device), spec, shape, options)
    }

    /// The same for made-up capabilities: what would be chosen on such a device.
    ///
    /// # Errors
    /// As [`Config::new`].
    pub fn with_capabilities(
        mut caps: Capabilities,
        spec: &Spec,
        shape: Shape,
        options: &Options,
    ) -> Result<Self, PlanError> {
        shape.check()?;
        spec.check(shape.classes)?;
        if let Some(limit) = options.max_binding_size {
            caps.max_binding_size = caps.max_binding_size.min(limit);
        }
        let class_first = shape.inner > 1;
        if options.dtype != Dtype::F32 && (class_first || !shape.row_stride.is_multiple_of(2)) {
            return Err(PlanError::Option {
                option: "dtype",
                got: format!("{:?}", options.dtype),
                expected: "16-bit logits are class-last with an even row_stride, for two share a word".into(),
            });
        }
        if options.labels != LabelFormat::I32 && spec.targets != Targets::Labels {
            return Err(PlanError::Option {
                option: "labels",
                got: format!("{:?}", options.labels),
                expected: "packed labels are for Targets::Labels".into(),
            });
        }
        let subgroups = caps.subgroups && options.subgroups != Some(false);
        let fits = |rule: &&Rule| {
            rule.cpu == caps.cpu && (!rule.subgroups || subgroups) && shape.classes <= rule.max_classes
        };
        // The last line for each kind of device has no condition.
        let rule = RULES.iter().find(fits).copied().unwrap_or(RULES[RULES.len() - 1]);
        let strategy = match options.strategy {
            Some(Strategy::Workgroup) if class_first => {
                return Err(PlanError::Option {
                    option: "strategy",
                    got: format!("{:?}", Strategy::Workgroup),
                    expected: "class-first layouts take Thread".into(),
                });
            }
            Some(strategy) => strategy,
            None if class_first => Strategy::Thread,
            None => rule.strategy,
        };
        if strategy == Strategy::Thread && shape.classes > MAX_THREAD_CLASSES {
            return Err(PlanError::Limit {
                what: "number of classes with an invocation a row",
                got: shape.classes.into(),
                limit: MAX_THREAD_CLASSES.into(),
            });
        }
        let general = spec.scores != Scores::Logits
            || spec.targets != Targets::Labels
            || spec.label_smoothing != 0.0
            || spec.cost_lambda != 0.0;
        let workgroup_size = match options.workgroup_size {
            Some(size) if size == 0 || !size.is_power_of_two() || size > 256 => {
                return Err(PlanError::Option {
                    option: "workgroup_size",
                    got: size.to_string(),
                    expected: "a power of two up to 256 is expected".into(),
                });
            }
            Some(size) => size,
            None if rule.workgroup_size == 0 => caps.subgroup_max_size.next_power_of_two().clamp(4, 64),
            None => {
                // Browsers promise 16 KiB, which is less than 256 invocations take for a loss of many terms.
                let fits =
                    |size: &u32| workgroup_memory(strategy, general, *size) <= caps.max_workgroup_memory;
                let mut sizes =
                    (0..rule.workgroup_size.ilog2()).map(|halvings| rule.workgroup_size >> halvings);
                sizes.find(fits).unwrap_or(1).min(caps.max_workgroup_size)
            }
        };
        let vectorize = options.vectorize != Some(false)
            && !class_first
            && shape.classes.is_multiple_of(4)
            && shape.row_stride.is_multiple_of(4);
        let live = match &spec.class_weights {
            ClassWeights::Live(live) => Some(live),
            ClassWeights::None | ClassWeights::Given(_) => None,
        };
        let variant = Variant {
            strategy,
            workgroup_size,
            subgroups: subgroups && strategy == Strategy::Workgroup,
            // CPU drivers have one size of subgroup and fill it. Of GPUs that is not promised, and a barrier is cheap.
            single_subgroup: caps.cpu
                && caps.subgroup_min_size == workgroup_size
                && caps.subgroup_max_size == workgroup_size,
            element: match options.dtype {
                Dtype::F32 if vectorize => Element::F32x4,
                Dtype::F32 => Element::F32,
                Dtype::F16 => Element::F16,
                Dtype::Bf16 => Element::Bf16,
            },
            class_first,
            in_place: options.in_place,
            scores: spec.scores,
            targets: spec.targets,
            general,
            logit_bias: spec.logit_bias != LogitBias::None,
            class_weights: spec.class_weights != ClassWeights::None,
            sample_weights: spec.sample_weights != SampleWeights::None,
            cost_matrix: spec.cost_matrix.is_some(),
            grad_out: options.grad_out,
            records: options.keeps_records(),
            confusion: options.confusion,
            count_in_workgroup: !caps.cpu,
            external: spec.reduction == Reduction::Mean(Denominator::External),
            ignore_index: spec.ignore_index.is_some(),
            label_bits: options.labels.bytes() as u32 * 8,
            denominator: denominator_number(spec.reduction),
            scheme: live.map_or(0, |live| scheme_number(live.scheme)),
            counts: CountsVariant {
                sample_weighted: spec.live_counts.sample_weighted,
                mass: spec.counts_are_mass(),
                over: spec.live_counts.over,
            },
            numbers: Numbers {
                scheme_number: live.map_or(1.0, |live| scheme_constant(live.scheme)),
                count_smoothing: live.map_or(0.0, |live| live.smoothing),
                min_weight: live.map_or(0.0, |live| live.min),
                // WGSL knows no infinity.
                max_weight: live.map_or(f32::MAX, |live| live.max.min(f32::MAX)),
                over_all: live.is_some_and(|live| live.over == ClassesOver::All),
                absent_weight: live.map_or(0.0, |live| live.absent_weight),
                writes_weights: live.is_some(),
                log_prior: match spec.logit_bias {
                    LogitBias::LogPrior { tau, smoothing } => Some((tau, smoothing)),
                    _ => None,
                },
                weight_per_row: spec.weight_scope == WeightScope::PerRow,
                label_smoothing: spec.label_smoothing,
                focal_gamma: spec.focal_gamma,
                z_loss: spec.z_loss,
                logit_scale: spec.logit_scale,
                cost_gather: spec.cost_gather,
                cost_lambda: spec.cost_lambda,
            },
            binary: BinaryVariant::default(),
        };
        let why = match (options.strategy, class_first) {
            (Some(_), _) => "asked for".to_owned(),
            (None, true) => "class-first".to_owned(),
            (None, false) => format!(
                "{} classes, up to {} on a {}{}",
                shape.classes,
                rule.max_classes,
                if caps.cpu { "CPU" } else { "GPU" },
                if rule.subgroups { " with subgroups" } else { "" },
            ),
        };
        Ok(Self { spec: spec.clone(), shape, options: *options, caps, variant, why })
    }

    /// The spec.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The device's capabilities, with the caller's own limit on bindings.
    pub fn capabilities(&self) -> &Capabilities {
        &self.caps
    }

    /// The variant.
    pub fn variant(&self) -> &Variant {
        &self.variant
    }

    /// The variant that a stage is compiled in: stages that read no logits have a workgroup size of their own.
    pub fn variant_of(&self, stage: Stage) -> Variant {
        let mut variant = self.variant.clone();
        if !stage.reads_logits() {
            // One workgroup for all classes, or many.
            let one = matches!(stage, Stage::ClassWeights | Stage::CountHistory);
            // The counters of classes lie in a workgroup's memory: many share them. On CPUs they do not.
            let many = stage == Stage::LossTotalClasses && !self.caps.cpu;
            let size = if one || many { 256 } else { 64 };
            variant.workgroup_size = size.min(self.caps.max_workgroup_size);
        }
        if stage == Stage::LossTotalClasses {
            variant.count_in_workgroup &= self.shape.classes <= PRIVATE_STATS_CLASSES;
        }
        variant
    }

    /// What a shader is told about a tile, but for the bases, the width of the grid and the partial sums.
    pub fn params(&self, tile: &Tile) -> Params {
        let shape = &self.shape;
        let (divisor, modulus, first_row) = match self.spec.sample_weights {
            // Weights a row are bound tile by tile, broadcast ones whole.
            SampleWeights::None | SampleWeights::PerRow => (1, u32::MAX, 0),
            SampleWeights::PerSample => (shape.steps, u32::MAX, tile.first_row),
            SampleWeights::PerStep => (1, shape.steps, tile.first_row),
        };
        Params {
            rows: tile.rows,
            classes: shape.classes,
            row_stride: shape.row_stride,
            inner: shape.inner,
            first_row: tile.first_row,
            ignore_index: self.spec.ignore_index.unwrap_or(0) as u32,
            sample_weight_divisor: divisor,
            sample_weight_modulus: modulus,
            sample_weights_first_row: first_row,
            denominator_rows: shape.rows,
            ..Params::default()
        }
    }

    /// Bytes of what is kept of a row: a loss, or a [`RowRecord`](crate::RowRecord).
    pub fn row_size(&self) -> u64 {
        if self.options.keeps_records() { size_of::<crate::RowRecord>() as u64 } else { 4 }
    }

    /// The layout of the telemetry, where it is kept.
    pub fn telemetry_layout(&self) -> Option<TelemetryLayout> {
        let options = &self.options;
        options.keeps_telemetry().then(|| TelemetryLayout::new(self.shape.classes, options.confusion))
    }

    /// Why this row strategy.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The same with logits loaded one at a time: for buffers that start at no multiple of 16 bytes.
    pub(crate) fn unvectorized(&self) -> Self {
        let mut config = self.clone();
        config.variant.element = Element::F32;
        config
    }
}

/// Bytes of workgroup memory for reducing rows: a `Part` for each invocation and each eighth of them
/// (`shaders/parts/reduce_workgroup.wgsl`), and `Moments`, as large, for losses of many terms.
fn workgroup_memory(strategy: Strategy, general: bool, workgroup_size: u32) -> u32 {
    match strategy {
        Strategy::Thread => 0,
        Strategy::Workgroup => (workgroup_size + workgroup_size.div_ceil(8)) * if general { 64 } else { 32 },
    }
}

/// The number of a denominator in `denominator/finish.wgsl`.
fn denominator_number(reduction: Reduction) -> u32 {
    match reduction {
        Reduction::None | Reduction::Sum => 0,
        Reduction::Mean(Denominator::WeightSum) => 1,
        Reduction::Mean(Denominator::ValidRows) => 2,
        Reduction::Mean(Denominator::SampleWeightSum) => 3,
        Reduction::Mean(Denominator::NonZeroWeights) => 4,
        Reduction::Mean(Denominator::Rows) => 5,
        Reduction::Mean(Denominator::External) => 6,
    }
}

/// The number of a weight formula in `class_weights/weights.wgsl`.
fn scheme_number(scheme: WeightScheme) -> u32 {
    match scheme {
        WeightScheme::Balanced => 0,
        WeightScheme::Inverse => 1,
        WeightScheme::InversePower(_) => 2,
        WeightScheme::EffectiveNumber(_) => 3,
        WeightScheme::MedianFrequency => 4,
        WeightScheme::LogFrequency(_) => 5,
        WeightScheme::InverseFrequency(_) => 6,
    }
}

/// The number that goes with it. The logarithm is taken in `f64`: of a beta near 1 nothing is left in `f32`.
fn scheme_constant(scheme: WeightScheme) -> f32 {
    match scheme {
        WeightScheme::Balanced | WeightScheme::Inverse | WeightScheme::MedianFrequency => 1.0,
        WeightScheme::InversePower(p) | WeightScheme::InverseFrequency(p) => p,
        // beta 0 has no finite logarithm; exp(-200) is 0 as well.
        WeightScheme::EffectiveNumber(beta) => beta.ln().max(-200.0) as f32,
        WeightScheme::LogFrequency(a) => a,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workgroups_fit_the_memory_that_browsers_promise() {
        let size = |label_smoothing, max_workgroup_memory| {
            let spec = Spec { label_smoothing, ..Spec::default() };
            let caps = Capabilities { max_workgroup_memory, ..Capabilities::default() };
            let config = Config::with_capabilities(caps, &spec, Shape::new(8, 50_257), &Options::default());
            config.expect("a sound config").variant().workgroup_size
        };
        assert_eq!(size(0.0, 16384), 256);
        assert_eq!(size(0.1, 16384), 128);
        assert_eq!(size(0.1, 32768), 256);
    }
}
