//! From spec, shape and device to the variant of the sigmoid losses' kernels, and what each dispatch is told.

use crate::binary::{BinaryClip, BinaryDenominator, BinaryReduction, BinaryScores, BinarySpec, PosWeight};
use crate::config::Dtype;
use crate::error::{BindError, PlanError};
use crate::pipeline::{Capabilities, ParamBlock, Program};
use crate::pipelines::{Pipelines, Shaders};
use crate::shape::Shape;
use crate::wgsl::{self, BinaryVariant, ELEMENTS_PER_GROUP, Element, ScoreKind, Stage, Variant};
use std::ops::Range;
use std::time::Duration;

/// What a caller may choose beside the spec of a sigmoid loss.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BinaryOptions {
    /// Gradients over the logits, which are lost. Saves a buffer of their size.
    pub in_place: bool,
    /// An upstream gradient comes with the batch, one an element. Element weights, sample weights, upstream gradients,
    /// element losses and gradients in a buffer of their own are one storage buffer more than WebGPU promises: any four
    /// of these go together.
    pub grad_out: bool,
    /// The elements' losses are written, and not only added up.
    pub element_losses: bool,
    /// How logits and their gradients are stored. Arithmetic and everything else is `f32`; the device needs no f16
    /// feature. 16-bit elements lie two to a word: rows without padding, or an even number of columns (class-first: of
    /// columns times `inner`) and an even stride.
    pub dtype: Dtype,
    /// A workgroup size other than the device's own: a power of two up to 256.
    pub workgroup_size: Option<u32>,
    /// Bindings no larger than this, to cut a batch into smaller tiles than the device asks for.
    pub max_binding_size: Option<u64>,
    /// How long the calls that read back wait for the device; [`READ_TIMEOUT`](crate::READ_TIMEOUT) where `None`.
    pub timeout: Option<Duration>,
}

/// A checked spec and shape, and the variant that the kernels of a sigmoid loss are compiled in.
#[derive(Clone, Debug, PartialEq)]
pub struct BinaryConfig {
    spec: BinarySpec,
    shape: Shape,
    options: BinaryOptions,
    caps: Capabilities,
    variant: BinaryVariant,
    workgroup_size: u32,
    shaders: Shaders,
}

/// A range of a batch's elements, in the order of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementTile {
    /// The first element: how many lie before it, padding not counted. Class-last it is `row * columns + column`.
    pub first: u32,
    /// How many.
    pub elements: u32,
}

/// What a kernel of a sigmoid loss is told about its dispatch: the twin of `Params` in
/// `shaders/parts/binary_params.wgsl`, field by field.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[allow(missing_docs, reason = "the shader's own comments say what each field is")]
pub struct BinaryParams {
    pub elements: u32,
    pub columns: u32,
    pub row_stride: u32,
    pub inner: u32,
    pub block: u32,
    pub first_within: u32,
    pub first_row: u32,
    pub batch_elements: u32,
    pub groups_x: u32,
    pub partials: u32,
    pub partials_at: u32,
    pub positions: u32,
    pub column_groups: u32,
    pub focal_gamma: f32,
    pub alpha_positive: f32,
    pub alpha_negative: f32,
    pub smoothing_scale: f32,
    pub smoothing_half: f32,
    pub clip_eps: f32,
    pub clip_least: f32,
    pub clip_logit: f32,
    pub clip_odds: f32,
    pub log_eps: f32,
    pub threshold: i32,
    pub ignore_value: f32,
    pub pos_weight_min: f32,
    pub pos_weight_max: f32,
    pub logits_base: u32,
    pub targets_base: u32,
    pub element_weights_base: u32,
    pub sample_weights_base: u32,
    pub grad_out_base: u32,
    pub logit_grads_base: u32,
    pub element_losses_base: u32,
    pub binary_counts_base: u32,
    pub external_base: u32,
}

impl ParamBlock for BinaryParams {
    fn groups_x_mut(&mut self) -> &mut u32 {
        &mut self.groups_x
    }

    fn base_mut(&mut self, binding: &str) -> Option<&mut u32> {
        Some(match binding {
            "LOGITS" => &mut self.logits_base,
            "TARGETS" => &mut self.targets_base,
            "ELEMENT_WEIGHTS" => &mut self.element_weights_base,
            "SAMPLE_WEIGHTS" => &mut self.sample_weights_base,
            "GRAD_OUT" => &mut self.grad_out_base,
            "LOGIT_GRADS" => &mut self.logit_grads_base,
            "ELEMENT_LOSSES" => &mut self.element_losses_base,
            "BINARY_COUNTS" => &mut self.binary_counts_base,
            "EXTERNAL_DENOMINATOR" => &mut self.external_base,
            _ => return None,
        })
    }
}

impl BinaryConfig {
    /// Checks spec and shape and chooses the variant for a device.
    ///
    /// # Errors
    /// [`PlanError`] where spec, shape and options do not go together or pass a limit of the device.
    pub fn new(
        device: &wgpu::Device,
        spec: &BinarySpec,
        shape: Shape,
        options: &BinaryOptions,
    ) -> Result<Self, PlanError> {
        Self::with_capabilities(Capabilities::of(device), spec, shape, options)
    }

    /// The same for made-up capabilities: what would be chosen on such a device.
    ///
    /// # Errors
    /// As [`BinaryConfig::new`].
    pub fn with_capabilities(
        mut caps: Capabilities,
        spec: &BinarySpec,
        shape: Shape,
        options: &BinaryOptions,
    ) -> Result<Self, PlanError> {
        shape.check()?;
        spec.check(&shape)?;
        caps.check_compute()?;
        let elements = u64::from(shape.rows) * u64::from(shape.classes);
        if u32::try_from(elements).is_err() {
            let limit = u32::MAX.into();
            return Err(PlanError::Limit { what: "number of elements", got: elements, limit });
        }
        if let Some(limit) = options.max_binding_size {
            caps.max_binding_size = caps.max_binding_size.min(limit);
        }
        let workgroup_size = match options.workgroup_size {
            Some(size) if size == 0 || !size.is_power_of_two() || size > 256 => {
                return Err(PlanError::Option {
                    option: "workgroup_size",
                    got: size.to_string(),
                    expected: "a power of two up to 256 is expected".into(),
                });
            }
            Some(size) => size,
            // Barriers are dear on CPUs.
            None if caps.cpu => 16,
            None => 128.min(caps.max_workgroup_size),
        };
        let blocks_are_even =
            (shape.classes * shape.inner).is_multiple_of(2) && shape.row_stride.is_multiple_of(2);
        let dense = is_dense(&shape);
        if options.dtype != Dtype::F32 && !dense && !blocks_are_even {
            return Err(PlanError::Option {
                option: "dtype",
                got: format!("{:?}", options.dtype),
                expected: format!(
                    "16-bit elements lie two to a word; with rows that are padded, the columns ({}, times inner {}) \
                     and row_stride ({}) must be even",
                    shape.classes, shape.inner, shape.row_stride
                ),
            });
        }
        let variant = BinaryVariant {
            scores: match spec.scores {
                BinaryScores::Logits => ScoreKind::Logits,
                BinaryScores::Probs(_) => ScoreKind::Probs,
                BinaryScores::SigmoidProbs(_) => ScoreKind::SigmoidProbs,
            },
            log_eps: spec.scores.clip().is_some_and(|clip| clip.log_eps != 0.0),
            element: match options.dtype {
                Dtype::F32 => Element::F32,
                Dtype::F16 => Element::F16,
                Dtype::Bf16 => Element::Bf16,
            },
            class_first: shape.inner > 1,
            in_place: options.in_place,
            element_weights: spec.element_weights,
            sample_weights: spec.sample_weights,
            grad_out: options.grad_out,
            element_losses: options.element_losses,
            external: spec.reduction == BinaryReduction::Mean(BinaryDenominator::External),
            dense,
            per_column: spec.pos_weight.per_column(),
            ratio: matches!(spec.pos_weight, PosWeight::Ratio { .. }),
            focal: spec.focal_gamma != 0.0,
            alpha: spec.focal_alpha.is_some(),
            smoothing: spec.label_smoothing != 0.0,
            ignore: match spec.ignore_value {
                None => 0,
                Some(value) if value.is_nan() => 2,
                Some(_) => 1,
            },
            denominator: match spec.reduction {
                BinaryReduction::None | BinaryReduction::Sum => 0,
                BinaryReduction::Mean(BinaryDenominator::Elements) => 1,
                BinaryReduction::Mean(BinaryDenominator::ValidElements) => 2,
                BinaryReduction::Mean(BinaryDenominator::WeightSum) => 3,
                BinaryReduction::Mean(BinaryDenominator::SampleWeightSum) => 4,
                BinaryReduction::Mean(BinaryDenominator::External) => 5,
                BinaryReduction::Mean(BinaryDenominator::Columns) => 6,
            },
        };
        if variant.storage_buffers() > 8 {
            return Err(PlanError::Option {
                option: "grad_out",
                got: "set".into(),
                expected:
                    "with element_weights, sample_weights and element_losses the gradients must be in place, \
                           for a dispatch binds eight storage buffers"
                        .into(),
            });
        }
        Ok(Self {
            spec: spec.clone(),
            shape,
            options: *options,
            caps,
            variant,
            workgroup_size,
            shaders: Shaders::default(),
        })
    }

    /// The same with texts of the caller's: as [`Config::with_shaders`](crate::Config::with_shaders).
    pub fn with_shaders(self, edit: impl Fn(Stage, &str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { shaders: self.shaders.clone().edited(edit), ..self }
    }

    /// The same with pipelines that are shared with other plans of the device.
    pub fn with_pipelines(self, pipelines: &Pipelines) -> Self {
        Self { shaders: self.shaders.clone().sharing(pipelines), ..self }
    }

    /// The same variant for another number of rows.
    pub(crate) fn with_rows(&self, rows: u32) -> Result<Self, PlanError> {
        let shape = Shape { rows, ..self.shape };
        shape.check()?;
        Ok(Self { shape, ..self.clone() })
    }

    /// The same for some rows by themselves, class-last: for the oracle and the tolerances.
    pub(crate) fn of_rows(&self, shape: Shape) -> Self {
        let mut config = self.clone();
        config.shape = shape;
        config.spec.reduction = BinaryReduction::Mean(BinaryDenominator::External);
        config
    }

    pub(crate) fn shaders(&self) -> &Shaders {
        &self.shaders
    }

    /// The spec.
    pub fn spec(&self) -> &BinarySpec {
        &self.spec
    }

    /// The shape; its classes are the columns.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The options.
    pub fn options(&self) -> &BinaryOptions {
        &self.options
    }

    /// The device's capabilities, with the caller's own limit on bindings.
    pub fn capabilities(&self) -> &Capabilities {
        &self.caps
    }

    /// The variant that a stage is compiled in.
    pub fn variant_of(&self, stage: Stage) -> Variant {
        let workgroup_size = match stage {
            Stage::BinaryElements | Stage::BinarySums => self.workgroup_size,
            _ => 64.min(self.caps.max_workgroup_size),
        };
        Variant { workgroup_size, binary: self.variant, ..Variant::default() }
    }

    /// Elements of the batch.
    pub fn elements(&self) -> u32 {
        self.shape.rows * self.shape.classes
    }

    /// Pairs of factors: one for each column, or one.
    pub fn factor_pairs(&self) -> u32 {
        if self.variant.per_column { self.shape.classes } else { 1 }
    }

    /// Whether the denominator needs a pass over targets and weights.
    pub(crate) fn sums_first(&self) -> bool {
        matches!(self.variant.denominator, 2..=4)
    }

    pub(crate) fn program(&self, device: &wgpu::Device, stage: Stage) -> Result<Program, PlanError> {
        let variant = self.variant_of(stage);
        let source = wgsl::source(stage, &variant);
        Program::from_source(device, stage, self.caps, variant.workgroup_size, source, &self.shaders)
    }

    /// Elements that lie without a gap: those of a row, class-first those of `inner` rows.
    fn block(&self) -> u32 {
        self.shape.classes * self.shape.inner
    }

    /// The words from the first to the last of some elements, where they take most.
    fn span(&self, elements: u64) -> u64 {
        let block = u64::from(self.block());
        match self.variant.dense {
            true => elements,
            false => (elements + block).div_ceil(block) * u64::from(self.shape.row_stride),
        }
    }

    /// Cuts the batch into tiles of whole groups of elements that fit one binding.
    pub(crate) fn tiles(&self) -> Result<Vec<ElementTile>, BindError> {
        self.tiles_of(ELEMENTS_PER_GROUP)
    }

    /// Cuts the batch into tiles of a multiple of so many elements.
    pub(crate) fn tiles_of(&self, group: u32) -> Result<Vec<ElementTile>, BindError> {
        let (words, all, group) = (self.caps.usable_binding() / 4, self.elements(), u64::from(group));
        if self.span(all.into()) <= words {
            return Ok(if all == 0 { Vec::new() } else { vec![ElementTile { first: 0, elements: all }] });
        }
        let block = u64::from(self.block());
        let most = match self.variant.dense {
            true => words,
            false => (words / u64::from(self.shape.row_stride) * block).saturating_sub(block),
        } / group
            * group;
        if most == 0 {
            let (need, limit) = (self.span(group) * 4, self.caps.max_binding_size);
            return Err(BindError::BindingSize { name: "logits", need, limit });
        }
        let step = most.min(u64::from(u32::MAX) / group * group) as u32;
        let firsts = (0..all).step_by(step as usize);
        Ok(firsts.map(|first| ElementTile { first, elements: step.min(all - first) }).collect())
    }

    /// The least multiple of `rows` that is whole blocks.
    pub(crate) fn rows_of_whole_blocks(&self, rows: u32) -> Option<u32> {
        let gcd = |mut a: u32, mut b: u32| {
            while b > 0 {
                (a, b) = (b, a % b);
            }
            a
        };
        (self.shape.inner / gcd(self.shape.inner, rows)).checked_mul(rows)
    }

    /// The word of an element in the layout of the logits.
    pub(crate) fn word(&self, element: u32) -> u64 {
        let block = self.block();
        u64::from(element / block) * u64::from(self.shape.row_stride) + u64::from(element % block)
    }

    /// The rows whose elements a tile has; class-first, of its blocks.
    pub(crate) fn rows_of(&self, tile: &ElementTile) -> Range<u32> {
        let (block, inner) = (self.block(), self.shape.inner);
        let last = tile.elements.saturating_sub(1) + tile.first;
        tile.first / block * inner..(last / block + 1) * inner
    }

    /// What a shader is told about a tile, but for the bases, the width of the grid and the partial sums.
    pub fn params(&self, tile: &ElementTile) -> BinaryParams {
        let (spec, shape) = (&self.spec, &self.shape);
        let alpha = spec.focal_alpha.unwrap_or(0.5);
        let (min, max) = match spec.pos_weight {
            PosWeight::Live { min, max, .. } => (min, max),
            _ => (0.0, 0.0),
        };
        let clip = spec.scores.clip().unwrap_or(BinaryClip { eps: 0.25, log_eps: 0.0 });
        BinaryParams {
            elements: tile.elements,
            columns: shape.classes,
            row_stride: shape.row_stride,
            inner: shape.inner,
            block: self.block(),
            first_within: tile.first % self.block(),
            first_row: tile.first / self.block() * shape.inner,
            batch_elements: self.elements(),
            partials_at: 2 * self.factor_pairs(),
            column_groups: 1,
            focal_gamma: spec.focal_gamma,
            alpha_positive: alpha,
            alpha_negative: 1.0 - alpha,
            smoothing_scale: 1.0 - spec.label_smoothing,
            smoothing_half: spec.label_smoothing / 2.0,
            clip_eps: clip.eps as f32,
            clip_least: at_least(clip.eps),
            clip_logit: -at_least(-clip.largest_logit()),
            clip_odds: (clip.eps / (1.0 - clip.eps)) as f32,
            log_eps: clip.log_eps as f32,
            threshold: ordered(-at_least(-spec.threshold_score())),
            // NaN is told by its bits.
            ignore_value: spec.ignore_value.filter(|value| !value.is_nan()).unwrap_or_default(),
            pos_weight_min: min,
            pos_weight_max: max,
            ..BinaryParams::default()
        }
    }
}

/// Whether elements follow each other without padding.
fn is_dense(shape: &Shape) -> bool {
    shape.row_stride == shape.classes * shape.inner || shape.rows <= shape.inner
}

/// The least `f32` that is at least `x`: comparing an `f32` with either is the same.
fn at_least(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) < x { nearest.next_up() } else { nearest }
}

/// A number whose order among integers is that of `x` among floats, for comparisons that flush nothing.
fn ordered(x: f32) -> i32 {
    // Adding 0 takes the sign of -0.
    let bits = (x + 0.0).to_bits() as i32;
    if bits < 0 { bits ^ 0x7fff_ffff } else { bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_element_once_and_fit() {
        let caps = Capabilities {
            cores: 2,
            int64: false,
            subgroups: false,
            subgroup_min_size: 1,
            subgroup_max_size: 1,
            cpu: false,
            max_workgroup_size: 256,
            max_workgroup_memory: 16384,
            max_binding_size: 128 << 20,
            offset_alignment: 256,
            max_storage_buffers: 8,
            max_groups: 65535,
            max_buffer_size: 256 << 20,
        };
        for shape in [
            Shape::new(0, 3),
            Shape::new(1, 1),
            Shape::new(33_554_432, 1),
            Shape::new(40_000_000, 7).with_row_stride(9),
            Shape::new(100, 16_000_000),
            Shape::new(90, 10_000_001).with_row_stride(10_000_003),
            Shape::class_first(50, 3, 1_000_000),
            Shape::class_first(400, 21, 1_001).with_row_stride(300_000),
        ] {
            let config = BinaryConfig::with_capabilities(
                caps,
                &BinarySpec::default(),
                shape,
                &BinaryOptions::default(),
            )
            .unwrap();
            let mut next = 0;
            for tile in config.tiles().unwrap() {
                assert_eq!(tile.first, next, "{shape:?}");
                next += tile.elements;
                assert!(tile.first.is_multiple_of(ELEMENTS_PER_GROUP));
                let words = config.word(next - 1) - config.word(tile.first) + 1;
                assert!(words * 4 + 256 <= caps.max_binding_size, "{shape:?} {tile:?}");
                // Positions within the tile fit as well.
                assert!(u64::from(tile.elements) + u64::from(shape.classes * shape.inner) < 1 << 32);
            }
            assert_eq!(next, config.elements());
        }
    }

    #[test]
    fn thresholds_are_the_same_in_f32() {
        for x in [0.1, 1e-7, 0.3, -16.118_095_550_958_316, 0.0, 0.5] {
            let least = at_least(x);
            assert!(f64::from(least) >= x && f64::from(least.next_down()) < x, "{x}");
        }
        let floats = [f32::NEG_INFINITY, -1.0, -1e-45, 0.0, 1e-45, 1.0, f32::INFINITY].map(ordered);
        assert!(floats.is_sorted_by(|a, b| a < b), "{floats:?}");
        assert_eq!(ordered(-0.0), ordered(0.0));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let caps = Capabilities {
            cores: 2,
            int64: false,
            subgroups: false,
            subgroup_min_size: 1,
            subgroup_max_size: 1,
            cpu: true,
            max_workgroup_size: 256,
            max_workgroup_memory: 16384,
            max_binding_size: 128 << 20,
            offset_alignment: 256,
            max_storage_buffers: 8,
            max_groups: 65535,
            max_buffer_size: 256 << 20,
        };
        let spec = BinarySpec { element_weights: true, sample_weights: true, ..BinarySpec::default() };
        let options = BinaryOptions { grad_out: true, element_losses: true, ..BinaryOptions::default() };
        let with = |options: &BinaryOptions, shape| {
            BinaryConfig::with_capabilities(caps, &spec, shape, options).map_err(|error| error.to_string())
        };
        assert!(with(&BinaryOptions { in_place: true, ..options }, Shape::new(4, 3)).is_ok());
        let message = with(&options, Shape::new(4, 3)).unwrap_err();
        assert!(message.starts_with("grad_out is set; with element_weights, sample_weights"), "{message}");
        let message = with(&BinaryOptions::default(), Shape::new(1 << 20, 1 << 13)).unwrap_err();
        assert_eq!(message, "number of elements is 8589934592; the device allows 4294967295");
        let half = BinaryOptions { dtype: Dtype::F16, ..BinaryOptions::default() };
        assert!(with(&half, Shape::new(3, 5)).is_ok());
        assert!(with(&half, Shape::new(3, 6).with_row_stride(8)).is_ok());
        let message = with(&half, Shape::new(3, 5).with_row_stride(6)).unwrap_err();
        assert!(message.starts_with("dtype is F16; 16-bit elements lie two to a word"), "{message}");
    }
}
