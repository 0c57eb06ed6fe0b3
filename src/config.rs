//! From spec, shape and device to the variant of each kernel: one table decides.

use crate::error::{InputError, PlanError};
use crate::pipeline::{Capabilities, Params, Tile};
use crate::pipelines::{Pipelines, Shaders};
use crate::shape::Shape;
use crate::spec::{
    ClassWeights, ClassesOver, Denominator, LogitBias, Reduction, SampleWeights, Scores, Spec, Targets,
    WeightScheme, WeightScope,
};
use crate::stats::TelemetryLayout;
use crate::wgsl::{
    BinaryVariant, CountsVariant, Element, Numbers, PRIVATE_STATS_CLASSES, SKEWED_CLASSES, Stage, Strategy,
    Variant,
};
use std::borrow::Cow;
use std::time::Duration;

/// How logits and gradients are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Dtype {
    /// 32 bits.
    #[default]
    F32,
    /// IEEE half precision. An even stride, and class-first an even `inner`, for two share a word; works without the
    /// device's f16 feature. Gradients beyond 65504 are clamped to it.
    F16,
    /// The upper half of an `f32`. The same holds for stride and `inner`.
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

    /// The oracle's gradients, clamped where those of this type are.
    pub(crate) fn clamped(self, grads: &[f64]) -> Cow<'_, [f64]> {
        match self {
            Self::F32 | Self::Bf16 => Cow::Borrowed(grads),
            Self::F16 => grads.iter().map(|grad| grad.clamp(-65504.0, 65504.0)).collect(),
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
    /// Gradients over the logits, which are lost. Saves a buffer of their size. The same bits, but where the gradients beside
    /// them are of [`Variant::skewed`] rows, whose sums go in another order.
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
    /// Invocations that share a row with [`Strategy::Group`], other than the table's: a power of two.
    pub threads_a_row: Option<u32>,
    /// Workgroups that share a row with [`Strategy::Split`], other than the table's: 1 to 256.
    pub workgroups_a_row: Option<u32>,
    /// `Some(false)` keeps subgroup operations out.
    pub subgroups: Option<bool>,
    /// `Some(false)` keeps 16-byte loads out.
    pub vectorize: Option<bool>,
    /// `Some(false)` keeps words of 64 bits out: see [`Variant::wide`].
    pub int64: Option<bool>,
    /// Bindings no larger than this, to cut a batch into smaller tiles than the device asks for.
    pub max_binding_size: Option<u64>,
    /// How long the calls that read back wait for the device; [`READ_TIMEOUT`](crate::READ_TIMEOUT) where `None`.
    pub timeout: Option<Duration>,
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
/// turns an invocation, all its loops together; a turn takes [`STREAM_BLOCKS`] times four classes.
pub const MAX_THREAD_CLASSES: u32 = 65_536;

/// The most blocks of four classes that an invocation holds in registers.
pub const MAX_BLOCKS: u32 = 32;

/// The same for losses of more terms than the label's: each block is a long piece of text, twice, and some drivers take
/// seconds to compile many.
pub const MAX_GENERAL_BLOCKS: u32 = 4;

/// The same for scores that are no logits, whose text is longer still.
pub const MAX_SCORES_BLOCKS: u32 = 2;

/// The most blocks that an invocation with a row to itself holds.
const MAX_THREAD_BLOCKS: u32 = 16;

/// The same with four rows an invocation.
const MAX_QUAD_BLOCKS: u32 = 8;

/// Blocks in flight where a row is read again for each visit; half as many for losses of more terms than the label's.
pub const STREAM_BLOCKS: u32 = 4;

/// The most bytes of workgroup memory for rows: WebGPU's 16 KiB, but for what counting takes.
const MAX_TILE_BYTES: u32 = 16_000;

/// How long a loss is as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Terms {
    /// The label's, from logits.
    Label,
    /// More, from logits.
    Many,
    /// From scores that are no logits.
    Scores,
}

impl Terms {
    fn of(spec: &Spec) -> Self {
        if spec.scores != Scores::Logits {
            Self::Scores
        } else if spec.targets != Targets::Labels || spec.label_smoothing != 0.0 || spec.cost_lambda != 0.0 {
            Self::Many
        } else {
            Self::Label
        }
    }

    /// The most bytes of workgroup memory that an invocation's shares of its row take: a `Part` and an eighth of one,
    /// and for losses of many terms `Moments` and `Norm` beside (`parts/reduce_workgroup.wgsl`).
    const fn shares_bytes(self) -> u32 {
        match self {
            Self::Label => 40,
            Self::Many | Self::Scores => 80,
        }
    }

    /// The most blocks that an invocation holds.
    const fn max_blocks(self) -> u32 {
        match self {
            Self::Label => MAX_BLOCKS,
            Self::Many => MAX_GENERAL_BLOCKS,
            Self::Scores => MAX_SCORES_BLOCKS,
        }
    }
}

/// Which devices a line of the table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceClass {
    /// A GPU.
    Gpu,
    /// A GPU with subgroup operations.
    GpuSubgroups,
    /// A CPU: barriers are dear, and neighbouring invocations gain nothing from neighbouring words.
    Cpu,
    /// A CPU with subgroup operations: as wide as a subgroup, a workgroup needs no barrier.
    CpuSubgroups,
}

/// Which layouts a line of the table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleLayout {
    /// Class-first.
    ClassFirst,
    /// Class-last, no padding between rows.
    Dense,
    /// Class-last.
    ClassLast,
}

/// One line of the table of strategies. The first line that fits is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The devices. Those with subgroups take lines for those without, if no line of their own comes first.
    pub device: DeviceClass,
    /// The layouts.
    pub layout: RuleLayout,
    /// The most rows it is meant for; with [`Strategy::Split`] on a CPU also fewer than its cores, which have a row each
    /// otherwise.
    pub max_rows: u32,
    /// The most classes it is meant for.
    pub max_classes: u32,
    /// The strategy.
    pub strategy: Strategy,
    /// Invocations in a workgroup; 0: the device's largest subgroup. [`Strategy::Resident`] takes more where it must, to
    /// hold the row.
    pub workgroup_size: u32,
    /// Invocations that share a row, with [`Strategy::Group`], or a subgroup of a CPU where it has fewer; 0 elsewhere.
    pub threads_a_row: u32,
}

/// The table: strategy, workgroup size and threads a row, by device, layout and number of classes. Elements a thread
/// follow: as many blocks of four as it takes. On CPUs no row up to 32,768 classes spans two subgroups, so that no barrier
/// is needed; where there are no subgroups an invocation a row needs none either. The lines for CPUs were found by search
/// on lavapipe (`benches/NOTES.md`); those for GPUs are reasoned, and not measured yet.
pub const RULES: &[Rule] = &[
    rule(DeviceClass::CpuSubgroups, RuleLayout::ClassFirst, u32::MAX, Strategy::Thread, 64, 0),
    rule(DeviceClass::CpuSubgroups, RuleLayout::ClassLast, 32, Strategy::Group, 256, 1),
    rule(DeviceClass::CpuSubgroups, RuleLayout::ClassLast, 128, Strategy::Group, 64, 4),
    rule(DeviceClass::CpuSubgroups, RuleLayout::ClassLast, 1024, Strategy::Group, 64, 8),
    rule(DeviceClass::CpuSubgroups, RuleLayout::ClassLast, 1024, Strategy::Thread, 0, 0),
    Rule {
        max_classes: 32_768,
        // 32 workgroups are enough for some cores.
        ..few_rows(255, DeviceClass::CpuSubgroups, Strategy::Streaming, 0)
    },
    rule(DeviceClass::CpuSubgroups, RuleLayout::ClassLast, 32_768, Strategy::Thread, 0, 0),
    few_rows(7, DeviceClass::CpuSubgroups, Strategy::Split, 0),
    rule(DeviceClass::CpuSubgroups, RuleLayout::ClassLast, u32::MAX, Strategy::Streaming, 0, 0),
    rule(DeviceClass::Cpu, RuleLayout::ClassFirst, u32::MAX, Strategy::Thread, 16, 0),
    rule(DeviceClass::Cpu, RuleLayout::ClassLast, 32_768, Strategy::Thread, 16, 0),
    few_rows(7, DeviceClass::Cpu, Strategy::Split, 64),
    rule(DeviceClass::Cpu, RuleLayout::ClassLast, u32::MAX, Strategy::Streaming, 64, 0),
    rule(DeviceClass::Gpu, RuleLayout::ClassFirst, u32::MAX, Strategy::Thread, 64, 0),
    rule(DeviceClass::Gpu, RuleLayout::Dense, 15, Strategy::Tile, 256, 0),
    rule(DeviceClass::Gpu, RuleLayout::Dense, 30, Strategy::Tile, 128, 0),
    rule(DeviceClass::Gpu, RuleLayout::ClassLast, 8, Strategy::Thread, 128, 0),
    rule(DeviceClass::Gpu, RuleLayout::ClassLast, 64, Strategy::Group, 128, 8),
    rule(DeviceClass::Gpu, RuleLayout::ClassLast, 128, Strategy::Group, 128, 16),
    rule(DeviceClass::Gpu, RuleLayout::ClassLast, 512, Strategy::Group, 128, 32),
    rule(DeviceClass::Gpu, RuleLayout::ClassLast, 1024, Strategy::Resident, 64, 0),
    rule(DeviceClass::Gpu, RuleLayout::ClassLast, 4096, Strategy::Resident, 128, 0),
    rule(DeviceClass::Gpu, RuleLayout::ClassLast, 16_384, Strategy::Resident, 256, 0),
    few_rows(256, DeviceClass::Gpu, Strategy::Split, 256),
    rule(DeviceClass::Gpu, RuleLayout::ClassLast, u32::MAX, Strategy::Streaming, 256, 0),
];

const fn rule(
    device: DeviceClass,
    layout: RuleLayout,
    max_classes: u32,
    strategy: Strategy,
    workgroup_size: u32,
    threads_a_row: u32,
) -> Rule {
    Rule { device, layout, max_rows: u32::MAX, max_classes, strategy, workgroup_size, threads_a_row }
}

/// For so few rows, of any number of classes, that a workgroup a row leaves a part of the device idle.
const fn few_rows(max_rows: u32, device: DeviceClass, strategy: Strategy, workgroup_size: u32) -> Rule {
    Rule { max_rows, ..rule(device, RuleLayout::ClassLast, u32::MAX, strategy, workgroup_size, 0) }
}

impl Rule {
    /// In words.
    fn why(&self, shape: &Shape) -> String {
        let device = match self.device {
            DeviceClass::Gpu => "a GPU",
            DeviceClass::GpuSubgroups => "a GPU with subgroups",
            DeviceClass::Cpu => "a CPU",
            DeviceClass::CpuSubgroups => "a CPU with subgroups",
        };
        let layout = match self.layout {
            RuleLayout::ClassFirst => "class-first",
            RuleLayout::Dense => "rows without padding",
            RuleLayout::ClassLast => "class-last",
        };
        let up_to = match self.max_classes {
            u32::MAX => String::new(),
            most => format!(", up to {most}"),
        };
        let rows = match self.max_rows {
            u32::MAX => String::new(),
            most => format!("{} rows, up to {most}, of ", shape.rows),
        };
        format!("{rows}{} classes{up_to}, {layout}, on {device}", shape.classes)
    }

    /// Invocations that share a row, on this device: on a CPU no more than a subgroup has, for beyond it a row takes
    /// barriers.
    fn group_lanes(&self, caps: &Capabilities) -> u32 {
        match self.device {
            DeviceClass::CpuSubgroups => self.threads_a_row.min(caps.subgroup_min_size),
            _ => self.threads_a_row,
        }
    }

    /// Whether it is for this device and layout.
    fn is_for(&self, caps: &Capabilities, subgroups: bool, shape: &Shape) -> bool {
        let device = match self.device {
            DeviceClass::Gpu => !caps.cpu,
            DeviceClass::GpuSubgroups => !caps.cpu && subgroups,
            DeviceClass::Cpu => caps.cpu,
            DeviceClass::CpuSubgroups => caps.cpu && subgroups,
        };
        let layout = match self.layout {
            RuleLayout::ClassFirst => shape.inner > 1,
            RuleLayout::Dense => is_dense(shape),
            RuleLayout::ClassLast => shape.inner == 1,
        };
        device && layout
    }

    /// Whether it is for this device and shape.
    fn fits(&self, caps: &Capabilities, subgroups: bool, shape: &Shape, terms: Terms) -> bool {
        // Scores that are no logits are normalized by sums that no share knows of. And a core to each row is faster than
        // shares of rows, which take three dispatches.
        let split = self.strategy == Strategy::Split;
        let splits = !split || terms != Terms::Scores && (!caps.cpu || shape.rows < caps.cores);
        let lanes = match self.strategy {
            Strategy::Thread | Strategy::Streaming | Strategy::Split => u32::MAX,
            Strategy::Tile => 1,
            Strategy::Group => self.group_lanes(caps),
            Strategy::Resident => largest_workgroup(caps, terms),
        };
        let held = lanes.saturating_mul(4 * terms.max_blocks());
        let size = shape.rows <= self.max_rows && shape.classes <= self.max_classes.min(held);
        self.is_for(caps, subgroups, shape) && splits && size
    }

    /// For a strategy that the caller asks for: what goes with it where nothing else is said.
    fn asked(strategy: Strategy, caps: &Capabilities, subgroups: bool, shape: &Shape, terms: Terms) -> Self {
        let classes = shape.classes;
        let invocations = |classes_each: u32| classes.div_ceil(classes_each).next_power_of_two();
        let most_each = 4 * terms.max_blocks();
        let narrow = if caps.cpu && subgroups { subgroup_width(caps) } else { 16 };
        let (workgroup_size, threads_a_row) = match (strategy, caps.cpu) {
            (Strategy::Thread, true) => (narrow, 0),
            (Strategy::Thread, false) => (64, 0),
            // 16 KiB hold the rows.
            (Strategy::Tile, _) => ((3900 / classes).max(1).next_power_of_two().min(256) / 2, 0),
            (Strategy::Group, true) => {
                let lanes = invocations(most_each.min(32)).clamp(2, 64);
                (narrow.max(lanes), lanes)
            }
            (Strategy::Group, false) => (128, invocations(most_each.min(16)).clamp(2, 64)),
            (Strategy::Resident, true) => (invocations(most_each).max(narrow), 0),
            (Strategy::Resident, false) => (invocations(most_each.min(16)).max(64), 0),
            (Strategy::Streaming, true) => (if subgroups { narrow } else { 64 }, 0),
            (Strategy::Streaming | Strategy::Split, false) => (256, 0),
            (Strategy::Split, true) => (narrow, 0),
        };
        Self {
            device: if caps.cpu { DeviceClass::Cpu } else { DeviceClass::Gpu },
            layout: RuleLayout::ClassLast,
            max_rows: u32::MAX,
            max_classes: u32::MAX,
            strategy,
            workgroup_size: workgroup_size.clamp(1, 256),
            threads_a_row,
        }
    }
}

/// The most invocations whose shares of a row fit workgroup memory.
fn largest_workgroup(caps: &Capabilities, terms: Terms) -> u32 {
    ((caps.max_workgroup_memory / terms.shares_bytes() + 1).next_power_of_two() / 2)
        .min(caps.max_workgroup_size)
        .min(256)
}

/// How many workgroups share each row: so many that all rows together fill the device, each with enough to do.
fn splits(caps: &Capabilities, shape: &Shape, workgroup_size: u32) -> u32 {
    // A CPU has few cores, a GPU holds several workgroups in each of its hundred.
    let (groups, classes_each) = if caps.cpu { (16, 4096) } else { (512, 8 * workgroup_size) };
    let most = shape.classes.div_ceil(classes_each).clamp(2, 256);
    (groups / shape.rows.max(1)).clamp(2, most)
}

/// The largest subgroup, as a workgroup size.
fn subgroup_width(caps: &Capabilities) -> u32 {
    caps.subgroup_max_size.next_power_of_two().clamp(4, 64)
}

/// Class-last without padding.
fn is_dense(shape: &Shape) -> bool {
    shape.inner == 1 && shape.row_stride == shape.classes
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
    shaders: Shaders,
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
        caps.check_compute()?;
        if let Some(limit) = options.max_binding_size {
            caps.max_binding_size = caps.max_binding_size.min(limit);
        }
        let class_first = shape.inner > 1;
        // 16-bit logits class-first: an invocation takes two neighbouring positions.
        let pairs = class_first && options.dtype != Dtype::F32;
        let even = shape.row_stride.is_multiple_of(2) && (!class_first || shape.inner.is_multiple_of(2));
        if options.dtype != Dtype::F32 && !even {
            let Shape { row_stride, inner, .. } = shape;
            let inner = if class_first { format!(" and inner ({inner})") } else { String::new() };
            return Err(PlanError::Option {
                option: "dtype",
                got: format!("{:?}", options.dtype),
                expected: format!(
                    "16-bit logits lie two to a word: row_stride ({row_stride}){inner} must be even"
                ),
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
        let terms = Terms::of(spec);
        let max_blocks = terms.max_blocks();
        let refused = |option, got: String, expected: &str| {
            Err(PlanError::Option { option, got, expected: expected.into() })
        };
        let rule = match options.strategy {
            Some(strategy) if class_first && strategy != Strategy::Thread => {
                return refused("strategy", format!("{strategy:?}"), "class-first layouts take Thread");
            }
            Some(Strategy::Tile) if !is_dense(&shape) => {
                return refused("strategy", "Tile".into(), "rows with padding take another strategy");
            }
            Some(Strategy::Split) if terms == Terms::Scores => {
                let expected = "scores that are no logits are normalized by sums that no share of a row knows: they take \
                                another strategy";
                return refused("strategy", "Split".into(), expected);
            }
            Some(strategy) => Rule::asked(strategy, &caps, subgroups, &shape, terms),
            // The last line for each kind of device and layout has no condition.
            None => *RULES
                .iter()
                .find(|rule| rule.fits(&caps, subgroups, &shape, terms))
                .unwrap_or(&RULES[RULES.len() - 1]),
        };
        let strategy = rule.strategy;
        let workgroup_size = match options.workgroup_size {
            Some(size) if size == 0 || !size.is_power_of_two() || size > 256 => {
                return refused("workgroup_size", size.to_string(), "a power of two up to 256 is expected");
            }
            Some(size) => size,
            None => {
                let size = if rule.workgroup_size == 0 { subgroup_width(&caps) } else { rule.workgroup_size };
                // As many as it takes to hold the row, where subgroups are narrower than the table reckons with.
                let least = match rule.strategy {
                    Strategy::Resident => shape.classes.div_ceil(4 * max_blocks).next_power_of_two(),
                    _ => 1,
                };
                size.max(least).min(largest_workgroup(&caps, terms))
            }
        };
        let group_lanes = match options.threads_a_row {
            Some(lanes) if lanes == 0 || !lanes.is_power_of_two() || lanes > workgroup_size => {
                let expected =
                    format!("a power of two up to the workgroup size, {workgroup_size}, is expected");
                return refused("threads_a_row", lanes.to_string(), &expected);
            }
            Some(lanes) => lanes,
            None => rule.group_lanes(&caps).clamp(1, workgroup_size),
        };
        let lanes = match strategy {
            Strategy::Thread | Strategy::Tile => 1,
            Strategy::Group => group_lanes,
            Strategy::Resident | Strategy::Streaming | Strategy::Split => workgroup_size,
        };
        let splits = match options.workgroups_a_row {
            Some(splits) if !(1..=256).contains(&splits) => {
                return refused("workgroups_a_row", splits.to_string(), "1 to 256 are expected");
            }
            Some(splits) => splits,
            None if strategy == Strategy::Split => splits(&caps, &shape, workgroup_size),
            None => 1,
        };
        let blocks = shape.classes.div_ceil(4 * lanes);
        let held = match strategy {
            Strategy::Streaming | Strategy::Split => false,
            Strategy::Thread if pairs => 2 * blocks <= MAX_THREAD_BLOCKS.min(max_blocks),
            Strategy::Thread => blocks <= MAX_THREAD_BLOCKS.min(max_blocks),
            Strategy::Tile | Strategy::Group | Strategy::Resident => true,
        };
        if held && blocks > max_blocks {
            return Err(PlanError::Limit {
                what: "number of classes with rows in registers",
                got: shape.classes.into(),
                limit: (4 * max_blocks * lanes).into(),
            });
        }
        let walked = if pairs { MAX_THREAD_CLASSES / 2 } else { MAX_THREAD_CLASSES };
        if strategy == Strategy::Thread && shape.classes > walked {
            return Err(PlanError::Limit {
                what: match pairs {
                    true => "number of classes with an invocation for two rows",
                    false => "number of classes with an invocation a row",
                },
                got: shape.classes.into(),
                limit: walked.into(),
            });
        }
        let vectorize = options.vectorize != Some(false)
            && options.dtype == Dtype::F32
            && !class_first
            && strategy != Strategy::Tile
            && shape.classes.is_multiple_of(4)
            && shape.row_stride.is_multiple_of(4);
        // Of GPUs, none is known that would gain by it: neighbouring invocations share their words anyway.
        let quads = caps.cpu
            && options.vectorize != Some(false)
            && options.dtype == Dtype::F32
            && terms == Terms::Label
            && lanes == 1
            && held
            && strategy != Strategy::Tile
            && blocks <= MAX_QUAD_BLOCKS
            && shape.rows.is_multiple_of(4)
            && if class_first {
                shape.inner.is_multiple_of(4) && shape.row_stride.is_multiple_of(4)
            } else {
                is_dense(&shape)
            };
        // The same holds of words of 64 bits.
        let words_of_64 = caps.cpu && caps.int64 && options.int64 != Some(false);
        let eights = |classes: u32| classes.is_multiple_of(8);
        // CPU drivers have one size of subgroup and fill it. Of GPUs that is not promised, and a barrier is cheap.
        let single_subgroup =
            caps.cpu && caps.subgroup_min_size == workgroup_size && caps.subgroup_max_size == workgroup_size;
        // Gradients over the logits would be written beside what another workgroup reads.
        let skewed = words_of_64
            && options.vectorize != Some(false)
            && options.dtype == Dtype::F32
            && !options.in_place
            && terms == Terms::Label
            && spec.logit_bias == LogitBias::None
            && (strategy == Strategy::Streaming || strategy == Strategy::Thread && !held)
            // Where there are more, two rows would take more turns of loops than llvmpipe grants: see `MAX_THREAD_CLASSES`.
            && (SKEWED_CLASSES..=1 << 20).contains(&shape.classes)
            && !eights(shape.classes)
            && is_dense(&shape)
            && whole_words(&shape)
            // Tiles are of whole words.
            && u64::from(rows_of_words(shape.classes)) * u64::from(shape.classes) * 4 <= caps.usable_binding()
            // Two rows a workgroup, one after the other: without a barrier between them.
            && (shape.classes.is_multiple_of(2) || lanes == 1 || subgroups && single_subgroup);
        let wide = (vectorize || quads || skewed) && words_of_64;
        let eight = wide
            && terms != Terms::Scores
            && match quads {
                true => !class_first && shape.classes.is_multiple_of(2),
                false => skewed || eights(shape.classes) && eights(shape.row_stride),
            };
        // Which come in pairs then; the most of a strategy is even.
        let blocks = if eight && !quads { blocks.next_multiple_of(2) } else { blocks };
        let live = match &spec.class_weights {
            ClassWeights::Live(live) => Some(live),
            ClassWeights::None | ClassWeights::Given(_) => None,
        };
        let variant = Variant {
            strategy,
            workgroup_size,
            group_lanes,
            splits,
            blocks: if held {
                blocks
            } else {
                if terms == Terms::Label { STREAM_BLOCKS } else { STREAM_BLOCKS / 2 }
            },
            held,
            classes: if held { shape.classes } else { 0 },
            on_cpu: caps.cpu,
            // A row of a group lies within a subgroup, whichever size the device takes, and subgroups are full.
            subgroups: subgroups
                && match strategy {
                    Strategy::Thread => quads && workgroup_size.is_multiple_of(caps.subgroup_max_size),
                    Strategy::Tile | Strategy::Split => false,
                    Strategy::Group => {
                        group_lanes <= caps.subgroup_min_size
                            && workgroup_size.is_multiple_of(caps.subgroup_max_size)
                    }
                    Strategy::Resident | Strategy::Streaming => true,
                },
            single_subgroup,
            row_a_subgroup: subgroups
                && strategy == Strategy::Group
                && caps.subgroup_min_size == group_lanes
                && caps.subgroup_max_size == group_lanes,
            quads,
            skewed,
            row_pairs: skewed && !shape.classes.is_multiple_of(2),
            element: match options.dtype {
                Dtype::F32 if eight => Element::F32x8,
                Dtype::F32 if vectorize || quads => Element::F32x4,
                Dtype::F32 => Element::F32,
                Dtype::F16 => Element::F16,
                Dtype::Bf16 => Element::Bf16,
            },
            wide,
            class_first,
            in_place: options.in_place,
            scores: spec.scores,
            targets: spec.targets,
            general: terms != Terms::Label,
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
        if strategy == Strategy::Tile && variant.tile_bytes() > caps.max_workgroup_memory.min(MAX_TILE_BYTES)
        {
            return Err(PlanError::Limit {
                what: "bytes of workgroup memory for rows",
                got: variant.tile_bytes().into(),
                limit: caps.max_workgroup_memory.min(MAX_TILE_BYTES).into(),
            });
        }
        let why = match options.strategy {
            Some(_) => "asked for".to_owned(),
            None => rule.why(&shape),
        };
        Ok(Self {
            spec: spec.clone(),
            shape,
            options: *options,
            caps,
            variant,
            why,
            shaders: Shaders::default(),
        })
    }

    /// The table's choice, which comes first, and what stands before and after it in the table for such devices and
    /// layouts: what [`Autotune`](crate::Autotune) times. `options.strategy` is not heeded.
    ///
    /// # Errors
    /// As [`Config::new`].
    pub fn candidates(
        caps: Capabilities,
        spec: &Spec,
        shape: Shape,
        options: &Options,
    ) -> Result<Vec<Options>, PlanError> {
        let table = Options { strategy: None, ..*options };
        let chosen = Self::with_capabilities(caps, spec, shape, &table)?;
        let subgroups = caps.subgroups && options.subgroups != Some(false);
        let rules: Vec<&Rule> =
            RULES.iter().filter(|rule| rule.is_for(&chosen.caps, subgroups, &shape)).collect();
        let terms = Terms::of(spec);
        let at = rules.iter().position(|rule| rule.fits(&chosen.caps, subgroups, &shape, terms));
        let mut candidates = vec![table];
        let mut seen = vec![chosen.variant];
        // Those of one kind with another are no neighbours of each other, but worth the time all the same.
        let before = at.and_then(|at| at.checked_sub(1)).and_then(|at| rules.get(at));
        let after = at.and_then(|at| rules.get(at + 1));
        for rule in before.into_iter().chain(after) {
            let size =
                if rule.workgroup_size == 0 { subgroup_width(&chosen.caps) } else { rule.workgroup_size };
            let other = Options {
                strategy: Some(rule.strategy),
                workgroup_size: options.workgroup_size.or(Some(size)),
                threads_a_row: (rule.strategy == Strategy::Group).then_some(rule.group_lanes(&caps)),
                ..*options
            };
            // Not everything takes every shape.
            if let Ok(config) = Self::with_capabilities(caps, spec, shape, &other)
                && !seen.contains(&config.variant)
            {
                seen.push(config.variant);
                candidates.push(other);
            }
        }
        Ok(candidates)
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

    /// The same with texts of the caller's: `edit` gets each stage and the crate's text, and returns another one, or
    /// `None` for the crate's. For a work-around of a driver's fault, or to see that a fault is found.
    ///
    /// Nothing is known of such a text, so it is compiled with all of wgpu's run-time checks, which cost time; returning
    /// the crate's own text asks for just these. Its bindings must be the crate's.
    pub fn with_shaders(self, edit: impl Fn(Stage, &str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { shaders: self.shaders.clone().edited(edit), ..self }
    }

    /// The same with pipelines that are shared with other plans of the device.
    pub fn with_pipelines(self, pipelines: &Pipelines) -> Self {
        Self { shaders: self.shaders.clone().sharing(pipelines), ..self }
    }

    pub(crate) fn shaders(&self) -> &Shaders {
        &self.shaders
    }

    /// The same variant for another number of rows.
    pub(crate) fn with_rows(&self, rows: u32) -> Result<Self, PlanError> {
        let shape = Shape { rows, ..self.shape };
        shape.check()?;
        Ok(Self { shape, ..self.clone() })
    }

    /// The same for some rows by themselves, given what the step used: for the oracle and the tolerances.
    pub(crate) fn of_rows(
        &self,
        shape: Shape,
        class_weights: &Option<Vec<f32>>,
        logit_bias: &Option<Vec<f32>>,
    ) -> Self {
        let mut config = self.clone();
        config.shape = shape;
        let spec = &mut config.spec;
        spec.class_weights = class_weights.clone().map_or(ClassWeights::None, ClassWeights::Given);
        spec.logit_bias = logit_bias.clone().map_or(LogitBias::None, LogitBias::Given);
        spec.reduction = Reduction::Mean(Denominator::External);
        if spec.sample_weights != SampleWeights::None {
            spec.sample_weights = SampleWeights::PerRow;
        }
        config.variant.denominator = denominator_number(config.spec.reduction);
        config
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
        // Predictions alone are found by a workgroup a row.
        if stage == Stage::CostGather && variant.strategy == Strategy::Split {
            variant.strategy = Strategy::Streaming;
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

    /// How many dispatches the fused kernel takes for each tile of a batch.
    pub fn dispatches_a_tile(&self) -> usize {
        match self.variant.strategy {
            Strategy::Split => 3 + usize::from(self.variant.general),
            _ => 1,
        }
    }

    /// How often the fused kernel reads each logit; it writes each gradient once.
    pub fn visits(&self) -> u32 {
        let variant = &self.variant;
        let sums_again = u32::from(variant.general && !variant.held);
        // Scores that are normalized again are read for it wherever they are.
        let scores = u32::from(self.spec.scores != Scores::Logits);
        // Two rows that share their words read them for one another too, but for the last time.
        match (variant.held, variant.takes_pairs()) {
            (true, false) => 1 + scores,
            (true, true) => 1 + 2 * scores,
            (false, false) => 2 + sums_again + scores,
            (false, true) => 3 + 2 * (sums_again + scores),
        }
    }

    /// Rows that no tile may take apart, so that all tiles are read by the same text.
    pub(crate) fn rows_together(&self) -> u32 {
        if self.variant.skewed { rows_of_words(self.shape.classes) } else { 1 }
    }

    /// The options with what was chosen said outright, so that any number of rows gets the same variant.
    pub fn pinned(&self) -> Options {
        let variant = &self.variant;
        Options {
            strategy: Some(variant.strategy),
            workgroup_size: Some(variant.workgroup_size),
            threads_a_row: (variant.strategy == Strategy::Group).then_some(variant.group_lanes),
            workgroups_a_row: (variant.strategy == Strategy::Split).then_some(variant.splits),
            ..self.options
        }
    }

    /// Why this row strategy.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The same with logits loaded one at a time: for buffers that start at no multiple of 16 bytes.
    pub(crate) fn unvectorized(&self) -> Self {
        let mut config = self.clone();
        config.variant.element = Element::F32;
        config.variant.wide = false;
        config.variant.quads = false;
        config.variant.skewed = false;
        config.variant.row_pairs = false;
        config.variant.subgroups &= config.variant.strategy != Strategy::Thread;
        config
    }
}

/// Rows that are whole words of eight logits together, without padding.
pub(crate) fn rows_of_words(classes: u32) -> u32 {
    8 >> classes.trailing_zeros().min(3)
}

/// Whether rows without padding are whole words of eight logits, taken together.
pub(crate) fn whole_words(shape: &Shape) -> bool {
    (u64::from(shape.rows) * u64::from(shape.classes)).is_multiple_of(8)
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
