//! The shaders as text: every file, and how a kernel is put together from them.
//!
//! A kernel is its own file followed by parts, joined end to end. WGSL's module scope does not depend on order,
//! so this is a module, and no text is rewritten but for two things: `@binding(NAME)` becomes a number, counted
//! in order of appearance, so that bindings are dense, each one is used, and the layout that the host needs is read
//! off the text itself; and with subgroups the entry point takes the fields of `Lane` one by one, which DX12 needs.
//!
//! The text is public API: an engine with pipelines of its own takes [`embedded`] and dispatches it.

use crate::spec::{Clip, ClipOrder, CountsOver, Scores, Targets};
use std::collections::HashSet;

mod binary;
mod embed;

pub(crate) use binary::positions_per_group;
pub use binary::{BinaryVariant, ELEMENTS_PER_GROUP, ScoreKind};
pub use embed::{Embedding, embedded, grid, uses_int64, uses_subgroups, workgroups};

macro_rules! shader {
    ($path:literal) => {
        ($path, include_str!(concat!("../shaders/", $path)))
    };
}

/// Every shader file: path below `shaders/`, and text.
pub const FILES: &[(&str, &str)] = &[
    shader!("binary_counts/finish.wgsl"),
    shader!("binary_counts/rows.wgsl"),
    shader!("binary_cross_entropy/denominator.wgsl"),
    shader!("binary_cross_entropy/elements.wgsl"),
    shader!("binary_cross_entropy/finish.wgsl"),
    shader!("binary_cross_entropy/sums.wgsl"),
    shader!("binary_cross_entropy/weights.wgsl"),
    shader!("class_counts/clear.wgsl"),
    shader!("class_counts/direct.wgsl"),
    shader!("class_counts/mass.wgsl"),
    shader!("class_counts/mass_finish.wgsl"),
    shader!("class_counts/mass_soft.wgsl"),
    shader!("class_counts/private.wgsl"),
    shader!("class_weights/history.wgsl"),
    shader!("class_weights/weights.wgsl"),
    shader!("cost_gather.wgsl"),
    shader!("cross_entropy.wgsl"),
    shader!("cross_entropy_backward.wgsl"),
    shader!("cross_entropy_forward.wgsl"),
    shader!("cross_entropy_forward/moments.wgsl"),
    shader!("cross_entropy_forward/shares.wgsl"),
    shader!("denominator/finish.wgsl"),
    shader!("denominator/rows.wgsl"),
    shader!("denominator/soft.wgsl"),
    shader!("loss_total/classes.wgsl"),
    shader!("loss_total/finish.wgsl"),
    shader!("loss_total/rows.wgsl"),
    shader!("parts/add_mass.wgsl"),
    shader!("parts/add_row.wgsl"),
    shader!("parts/adjust.wgsl"),
    shader!("parts/bias_none.wgsl"),
    shader!("parts/bias_table.wgsl"),
    shader!("parts/binary_clip.wgsl"),
    shader!("parts/binary_element_f32.wgsl"),
    shader!("parts/binary_element_half.wgsl"),
    shader!("parts/binary_element_weights_given.wgsl"),
    shader!("parts/binary_element_weights_none.wgsl"),
    shader!("parts/binary_factors.wgsl"),
    shader!("parts/binary_grad_out_given.wgsl"),
    shader!("parts/binary_grad_out_none.wgsl"),
    shader!("parts/binary_grads_in_place.wgsl"),
    shader!("parts/binary_grads_separate.wgsl"),
    shader!("parts/binary_losses_given.wgsl"),
    shader!("parts/binary_losses_none.wgsl"),
    shader!("parts/binary_numerics.wgsl"),
    shader!("parts/binary_params.wgsl"),
    shader!("parts/binary_sample_weights_given.wgsl"),
    shader!("parts/binary_sample_weights_none.wgsl"),
    shader!("parts/binary_scores_logits.wgsl"),
    shader!("parts/binary_scores_probs.wgsl"),
    shader!("parts/binary_scores_sigmoid_probs.wgsl"),
    shader!("parts/binary_sides.wgsl"),
    shader!("parts/binary_sigmoid.wgsl"),
    shader!("parts/binary_sums.wgsl"),
    shader!("parts/binary_table.wgsl"),
    shader!("parts/binary_targets.wgsl"),
    shader!("parts/blocks_of_eight.wgsl"),
    shader!("parts/blocks_of_four.wgsl"),
    shader!("parts/class_count.wgsl"),
    shader!("parts/class_soft.wgsl"),
    shader!("parts/class_weights_few.wgsl"),
    shader!("parts/class_weights_none.wgsl"),
    shader!("parts/class_weights_table.wgsl"),
    shader!("parts/classes_side_by_side.wgsl"),
    shader!("parts/cost_none.wgsl"),
    shader!("parts/cost_table.wgsl"),
    shader!("parts/direct_read.wgsl"),
    shader!("parts/direct_write.wgsl"),
    shader!("parts/element_f32.wgsl"),
    shader!("parts/element_f32x4.wgsl"),
    shader!("parts/element_f32x8.wgsl"),
    shader!("parts/element_half.wgsl"),
    shader!("parts/element_pair.wgsl"),
    shader!("parts/element_quad.wgsl"),
    shader!("parts/exact.wgsl"),
    shader!("parts/external_given.wgsl"),
    shader!("parts/external_none.wgsl"),
    shader!("parts/final_loss.wgsl"),
    shader!("parts/fixed_point.wgsl"),
    shader!("parts/four_plain.wgsl"),
    shader!("parts/four_wide.wgsl"),
    shader!("parts/grad_out_one.wgsl"),
    shader!("parts/grad_out_rows.wgsl"),
    shader!("parts/grads_fresh.wgsl"),
    shader!("parts/grads_in_place.wgsl"),
    shader!("parts/grads_once.wgsl"),
    shader!("parts/grads_pair.wgsl"),
    shader!("parts/grads_quad.wgsl"),
    shader!("parts/grads_quad_none.wgsl"),
    shader!("parts/grads_separate.wgsl"),
    shader!("parts/grads_skewed.wgsl"),
    shader!("parts/grads_stream.wgsl"),
    shader!("parts/half_bf16.wgsl"),
    shader!("parts/half_f16.wgsl"),
    shader!("parts/held.wgsl"),
    shader!("parts/held_grads.wgsl"),
    shader!("parts/held_moments.wgsl"),
    shader!("parts/held_terms.wgsl"),
    shader!("parts/hold_eight.wgsl"),
    shader!("parts/hold_pair.wgsl"),
    shader!("parts/hold_quad.wgsl"),
    shader!("parts/hold_row.wgsl"),
    shader!("parts/keep_row.wgsl"),
    shader!("parts/labels.wgsl"),
    shader!("parts/labels_four.wgsl"),
    shader!("parts/labels_one.wgsl"),
    shader!("parts/lanes_group.wgsl"),
    shader!("parts/lanes_shuffle.wgsl"),
    shader!("parts/lanes_split.wgsl"),
    shader!("parts/lanes_subgroup.wgsl"),
    shader!("parts/lanes_thread.wgsl"),
    shader!("parts/lanes_workgroup.wgsl"),
    shader!("parts/layout_either.wgsl"),
    shader!("parts/layout_last.wgsl"),
    shader!("parts/leads_all.wgsl"),
    shader!("parts/leads_first.wgsl"),
    shader!("parts/load_quad_one.wgsl"),
    shader!("parts/load_quad_two.wgsl"),
    shader!("parts/logits_read.wgsl"),
    shader!("parts/loss_sums.wgsl"),
    shader!("parts/losses_base.wgsl"),
    shader!("parts/losses_four.wgsl"),
    shader!("parts/losses_none.wgsl"),
    shader!("parts/moments.wgsl"),
    shader!("parts/moments_once.wgsl"),
    shader!("parts/moments_shares.wgsl"),
    shader!("parts/moments_shuffle.wgsl"),
    shader!("parts/moments_stream.wgsl"),
    shader!("parts/moments_subgroup.wgsl"),
    shader!("parts/norm_shuffle.wgsl"),
    shader!("parts/norm_subgroup.wgsl"),
    shader!("parts/numerics.wgsl"),
    shader!("parts/one_minus_exp.wgsl"),
    shader!("parts/params.wgsl"),
    shader!("parts/prediction.wgsl"),
    shader!("parts/probabilities_scores.wgsl"),
    shader!("parts/probabilities_softmax.wgsl"),
    shader!("parts/put_direct.wgsl"),
    shader!("parts/put_eight.wgsl"),
    shader!("parts/put_quad.wgsl"),
    shader!("parts/reduce_shuffle.wgsl"),
    shader!("parts/reduce_subgroup.wgsl"),
    shader!("parts/reduce_thread.wgsl"),
    shader!("parts/reduce_workgroup.wgsl"),
    shader!("parts/row_general.wgsl"),
    shader!("parts/row_part.wgsl"),
    shader!("parts/row_part_shuffle.wgsl"),
    shader!("parts/row_part_subgroup.wgsl"),
    shader!("parts/row_result.wgsl"),
    shader!("parts/row_single.wgsl"),
    shader!("parts/row_whole_shuffle.wgsl"),
    shader!("parts/row_whole_thread.wgsl"),
    shader!("parts/rows_one.wgsl"),
    shader!("parts/rows_pair.wgsl"),
    shader!("parts/rows_quad.wgsl"),
    shader!("parts/rows_two.wgsl"),
    shader!("parts/sample_weights_given.wgsl"),
    shader!("parts/sample_weights_none.wgsl"),
    shader!("parts/shares.wgsl"),
    shader!("parts/shares_labels.wgsl"),
    shader!("parts/shares_two_hot.wgsl"),
    shader!("parts/soft_layout.wgsl"),
    shader!("parts/stats_direct.wgsl"),
    shader!("parts/stats_workgroup.wgsl"),
    shader!("parts/store_f32.wgsl"),
    shader!("parts/store_f32x4.wgsl"),
    shader!("parts/store_half.wgsl"),
    shader!("parts/store_quad_one.wgsl"),
    shader!("parts/store_quad_two.wgsl"),
    shader!("parts/stored_eight.wgsl"),
    shader!("parts/stored_wide.wgsl"),
    shader!("parts/stored_word.wgsl"),
    shader!("parts/sum_workgroup.wgsl"),
    shader!("parts/sums.wgsl"),
    shader!("parts/table.wgsl"),
    shader!("parts/take_label.wgsl"),
    shader!("parts/take_soft.wgsl"),
    shader!("parts/take_two_hot.wgsl"),
    shader!("parts/tally_direct.wgsl"),
    shader!("parts/tally_quad.wgsl"),
    shader!("parts/tally_quad_direct.wgsl"),
    shader!("parts/tally_quad_none.wgsl"),
    shader!("parts/tally_quad_subgroup.wgsl"),
    shader!("parts/tally_subgroup.wgsl"),
    shader!("parts/tally_workgroup.wgsl"),
    shader!("parts/targets_labels.wgsl"),
    shader!("parts/targets_soft.wgsl"),
    shader!("parts/targets_two_hot.wgsl"),
    shader!("parts/telemetry.wgsl"),
    shader!("parts/terms.wgsl"),
    shader!("parts/tile_read.wgsl"),
    shader!("parts/tile_write.wgsl"),
    shader!("parts/visit_once.wgsl"),
    shader!("parts/visit_shares.wgsl"),
    shader!("parts/visit_skewed.wgsl"),
    shader!("parts/visit_stream.wgsl"),
    shader!("parts/weigh_labels.wgsl"),
    shader!("parts/weigh_two_hot.wgsl"),
    shader!("parts/wide_add.wgsl"),
    shader!("parts/words_own.wgsl"),
    shader!("parts/words_shared.wgsl"),
    shader!("parts/write_grads.wgsl"),
];

/// One dispatchable program of the crate. A kernel is one stage or several that run after one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Zeroes the class counts.
    ClassCountsClear,
    /// Counts labels in workgroup memory first.
    ClassCountsPrivate,
    /// Counts labels straight into the buffer.
    ClassCountsDirect,
    /// Adds up the mass of labels.
    ClassCountsMass,
    /// The same for soft targets.
    ClassCountsMassSoft,
    /// Rounds it.
    ClassCountsMassFinish,
    /// Counts over many batches.
    CountHistory,
    /// Weights from counts.
    ClassWeights,
    /// Partial sums of weights over rows.
    DenominatorRows,
    /// The same for soft targets.
    DenominatorSoft,
    /// Adds them up and opens the table.
    DenominatorFinish,
    /// Predictions and their costs.
    CostGather,
    /// Losses and gradients.
    CrossEntropy,
    /// What several workgroups know of a row they share, with [`Strategy::Split`].
    CrossEntropyForwardShares,
    /// Their moments, for losses of many terms.
    CrossEntropyForwardMoments,
    /// Losses and row statistics.
    CrossEntropyForward,
    /// Gradients from row statistics.
    CrossEntropyBackward,
    /// Partial sums of row losses.
    LossTotalRows,
    /// Adds them up.
    LossTotalFinish,
    /// What the rows say of their classes, added to the telemetry.
    LossTotalClasses,
    /// Partial counts of positives and negatives.
    BinaryCountsRows,
    /// Adds them up.
    BinaryCountsFinish,
    /// Factors of positives and negatives from the counts.
    BinaryWeights,
    /// Partial sums of the weights of targets.
    BinarySums,
    /// What a mean over elements divides by.
    BinaryDenominator,
    /// Sigmoid losses and gradients.
    BinaryElements,
    /// Their totals.
    BinaryFinish,
}

impl Stage {
    /// All stages, in the order of the flow.
    pub const ALL: [Self; 27] = [
        Self::ClassCountsClear,
        Self::ClassCountsPrivate,
        Self::ClassCountsDirect,
        Self::ClassCountsMass,
        Self::ClassCountsMassSoft,
        Self::ClassCountsMassFinish,
        Self::CountHistory,
        Self::ClassWeights,
        Self::DenominatorRows,
        Self::DenominatorSoft,
        Self::DenominatorFinish,
        Self::CostGather,
        Self::CrossEntropy,
        Self::CrossEntropyForwardShares,
        Self::CrossEntropyForwardMoments,
        Self::CrossEntropyForward,
        Self::CrossEntropyBackward,
        Self::LossTotalRows,
        Self::LossTotalFinish,
        Self::LossTotalClasses,
        Self::BinaryCountsRows,
        Self::BinaryCountsFinish,
        Self::BinaryWeights,
        Self::BinarySums,
        Self::BinaryDenominator,
        Self::BinaryElements,
        Self::BinaryFinish,
    ];

    /// Its file below `shaders/`. The part before a slash or the ending is the kernel's stem.
    pub const fn file(self) -> &'static str {
        match self {
            Self::ClassCountsClear => "class_counts/clear.wgsl",
            Self::ClassCountsPrivate => "class_counts/private.wgsl",
            Self::ClassCountsDirect => "class_counts/direct.wgsl",
            Self::ClassCountsMass => "class_counts/mass.wgsl",
            Self::ClassCountsMassSoft => "class_counts/mass_soft.wgsl",
            Self::ClassCountsMassFinish => "class_counts/mass_finish.wgsl",
            Self::CountHistory => "class_weights/history.wgsl",
            Self::ClassWeights => "class_weights/weights.wgsl",
            Self::DenominatorRows => "denominator/rows.wgsl",
            Self::DenominatorSoft => "denominator/soft.wgsl",
            Self::DenominatorFinish => "denominator/finish.wgsl",
            Self::CostGather => "cost_gather.wgsl",
            Self::CrossEntropy => "cross_entropy.wgsl",
            Self::CrossEntropyForwardShares => "cross_entropy_forward/shares.wgsl",
            Self::CrossEntropyForwardMoments => "cross_entropy_forward/moments.wgsl",
            Self::CrossEntropyForward => "cross_entropy_forward.wgsl",
            Self::CrossEntropyBackward => "cross_entropy_backward.wgsl",
            Self::LossTotalRows => "loss_total/rows.wgsl",
            Self::LossTotalFinish => "loss_total/finish.wgsl",
            Self::LossTotalClasses => "loss_total/classes.wgsl",
            Self::BinaryCountsRows => "binary_counts/rows.wgsl",
            Self::BinaryCountsFinish => "binary_counts/finish.wgsl",
            Self::BinaryWeights => "binary_cross_entropy/weights.wgsl",
            Self::BinarySums => "binary_cross_entropy/sums.wgsl",
            Self::BinaryDenominator => "binary_cross_entropy/denominator.wgsl",
            Self::BinaryElements => "binary_cross_entropy/elements.wgsl",
            Self::BinaryFinish => "binary_cross_entropy/finish.wgsl",
        }
    }

    /// Whether it belongs to the sigmoid losses, whose variants are [`BinaryVariant`]s.
    pub const fn is_binary(self) -> bool {
        matches!(
            self,
            Self::BinaryCountsRows
                | Self::BinaryCountsFinish
                | Self::BinaryWeights
                | Self::BinarySums
                | Self::BinaryDenominator
                | Self::BinaryElements
                | Self::BinaryFinish
        )
    }

    /// Whether it visits logits, and so comes in row strategies.
    pub const fn reads_logits(self) -> bool {
        matches!(
            self,
            Self::CostGather
                | Self::CrossEntropy
                | Self::CrossEntropyForwardShares
                | Self::CrossEntropyForwardMoments
                | Self::CrossEntropyForward
                | Self::CrossEntropyBackward
        )
    }

    /// Whether a variant has this stage. With [`Strategy::Split`] the fused kernel is the forward one's stages and then
    /// the backward one.
    pub fn goes_with(self, variant: &Variant) -> bool {
        let split = variant.strategy == Strategy::Split;
        match self {
            // `Config::variant_of` gives the gather another strategy.
            Self::CostGather | Self::CrossEntropy => !split,
            Self::CrossEntropyForwardShares => split,
            Self::CrossEntropyForwardMoments => split && variant.general,
            _ => true,
        }
    }

    /// Whether it writes gradients.
    pub const fn writes_grads(self) -> bool {
        matches!(self, Self::CrossEntropy | Self::CrossEntropyBackward)
    }
}

/// How invocations share rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Strategy {
    /// An invocation a row, straight from memory: class-first layouts, and few classes on CPUs. The row is in registers
    /// where it fits.
    Thread,
    /// An invocation a row, rows through workgroup memory: a workgroup's rows are one range, read and written side by
    /// side. Few classes; class-last rows without padding.
    Tile,
    /// Some invocations a row, several rows a workgroup, the row in registers.
    Group,
    /// A workgroup a row, the row in registers: read once, written once.
    Resident,
    /// A workgroup a row, the row read twice: the second time backwards, where the caches still have it.
    Streaming,
    /// Several workgroups a row, for few rows of many classes: three dispatches, or four for losses of many terms.
    Split,
}

impl Strategy {
    /// All strategies.
    pub const ALL: [Self; 6] =
        [Self::Thread, Self::Tile, Self::Group, Self::Resident, Self::Streaming, Self::Split];

    /// Whether a workgroup has a single row, or a share of one.
    pub const fn workgroup_a_row(self) -> bool {
        matches!(self, Self::Resident | Self::Streaming | Self::Split)
    }

    /// Whether an invocation has a row to itself.
    pub const fn invocation_a_row(self) -> bool {
        matches!(self, Self::Thread | Self::Tile)
    }
}

/// How logits lie in memory, and how they are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Element {
    /// `f32`, one at a time, any stride.
    #[default]
    F32,
    /// `f32`, four at a time: classes, stride and base are multiples of four, class-last.
    F32x4,
    /// `f32`, eight at a time, as four words of 64 bits: classes, stride and base are multiples of eight, class-last, and
    /// the number of blocks is even; with [`Variant::quads`] the number of classes is even, and with [`Variant::skewed`] it is
    /// any. With [`Variant::wide`], of logits.
    F32x8,
    /// `f16`, two to a word: an even stride, and class-first an even `inner`. Needs no feature of the device.
    F16,
    /// `bf16`, the same.
    Bf16,
}

/// What a kernel's text is made for. Two equal variants of one stage have the same text and constants.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// How invocations share rows.
    pub strategy: Strategy,
    /// Invocations in a workgroup.
    pub workgroup_size: u32,
    /// Invocations that share a row, with [`Strategy::Group`]; the other strategies say it themselves: [`Variant::lanes`].
    pub group_lanes: u32,
    /// Workgroups that share a row, with [`Strategy::Split`].
    pub splits: u32,
    /// Blocks of four classes that an invocation holds in registers.
    pub blocks: u32,
    /// Whether the blocks are the whole row; else a row is read again for each visit, so many blocks at a time.
    pub held: bool,
    /// Classes, where the text is for no other number; 0: what `Params` says, up to what the blocks hold.
    pub classes: u32,
    /// Whether the device is a CPU: loads past the last class are branched around, and gradients written upwards.
    pub on_cpu: bool,
    /// Whether subgroup operations are used.
    pub subgroups: bool,
    /// Whether a workgroup is known to be a single subgroup.
    pub single_subgroup: bool,
    /// Whether a subgroup is known to have a single row, with [`Strategy::Group`].
    pub row_a_subgroup: bool,
    /// How logits are loaded.
    pub element: Element,
    /// Whether [`Element::F32x4`] loads and stores two words of 64 bits, and [`Element::F32x8`] four, for which the device needs
    /// [`wgpu::Features::SHADER_INT64`]: what CPU drivers do word by word they do half as often.
    pub wide: bool,
    /// Whether an invocation takes four rows, whose logits [`Element::F32x4`] or [`Element::F32x8`] loads together, whatever the number of
    /// classes: class-last without padding, or class-first neighbours. The number of rows is a multiple of four then, and
    /// so is `inner`; logits, gradients, labels and row losses start at multiples of 16 bytes. For losses of the label's
    /// term alone, with rows in registers and an invocation to each.
    pub quads: bool,
    /// Whether rows start and end anywhere within the words of [`Element::F32x8`]: any number of classes from
    /// [`SKEWED_CLASSES`] on, class-last without padding, with [`Strategy::Streaming`], or [`Strategy::Thread`] where rows are
    /// not held, and gradients beside the logits. Words that straddle rows are read by both, and each writes its own quarters
    /// of 64 bits. All logits together are a multiple of eight. For losses of the label's term alone without a bias.
    pub skewed: bool,
    /// Whether two such rows are taken one after the other, by a workgroup or an invocation: the number of classes is odd, so
    /// that they may meet within 64 bits. The number of rows is even, and a workgroup with a row is a single subgroup.
    pub row_pairs: bool,
    /// Class-first layout.
    pub class_first: bool,
    /// Gradients over the logits.
    pub in_place: bool,
    /// What the scores are.
    pub scores: Scores,
    /// What a row's target is.
    pub targets: Targets,
    /// Losses of more than one term: soft targets, two labels, smoothing, expected cost. And all scores but logits.
    pub general: bool,
    /// A bias on the logits, in the table.
    pub logit_bias: bool,
    /// Class weights in the table.
    pub class_weights: bool,
    /// Sample weights in a buffer.
    pub sample_weights: bool,
    /// A cost matrix in the table.
    pub cost_matrix: bool,
    /// An upstream gradient a row.
    pub grad_out: bool,
    /// More is kept of a row than its loss.
    pub records: bool,
    /// Rows are counted by true and predicted class.
    pub confusion: bool,
    /// Rows are counted in workgroup memory before they are counted in the table or in the class counts: dear
    /// atomics on few words are spared. Off on CPUs, which have no dear atomics, and of which one (llvmpipe's GL,
    /// Mesa 22.3.6) loses increments in workgroup memory where invocations meet in one word.
    pub count_in_workgroup: bool,
    /// A denominator of the caller's.
    pub external: bool,
    /// Whether any label is the ignore index.
    pub ignore_index: bool,
    /// Bits of a label: 32, 16 or 8.
    pub label_bits: u32,
    /// Which denominator: the number in `denominator/finish.wgsl`.
    pub denominator: u32,
    /// Which weight formula: the number in `class_weights/weights.wgsl`.
    pub scheme: u32,
    /// What live class statistics count.
    pub counts: CountsVariant,
    /// The numbers of the spec that are compiled in.
    pub numbers: Numbers,
    /// What the sigmoid losses differ in. They heed nothing else but the workgroup size.
    pub binary: BinaryVariant,
}

/// What live class statistics count: see [`LiveCounts`](crate::LiveCounts).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CountsVariant {
    /// Whether rows count their sample weights.
    pub sample_weighted: bool,
    /// Whether counts are `f32`.
    pub mass: bool,
    /// Over which batches.
    pub over: CountsOver,
}

/// The numbers of a spec that are pipeline constants: what is off costs nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numbers {
    /// The number of the scheme: power, logarithm of beta, or `a`.
    pub scheme_number: f32,
    /// See [`LiveWeights::smoothing`](crate::LiveWeights::smoothing).
    pub count_smoothing: f32,
    /// See [`LiveWeights::min`](crate::LiveWeights::min).
    pub min_weight: f32,
    /// See [`LiveWeights::max`](crate::LiveWeights::max).
    pub max_weight: f32,
    /// See [`LiveWeights::over`](crate::LiveWeights::over).
    pub over_all: bool,
    /// See [`LiveWeights::absent_weight`](crate::LiveWeights::absent_weight).
    pub absent_weight: f32,
    /// Whether class weights are computed from counts.
    pub writes_weights: bool,
    /// Whether the log-prior is computed from counts: its `tau` and smoothing.
    pub log_prior: Option<(f32, f32)>,
    /// See [`Spec::weight_scope`](crate::Spec::weight_scope).
    pub weight_per_row: bool,
    /// See [`Spec::label_smoothing`](crate::Spec::label_smoothing).
    pub label_smoothing: f32,
    /// See [`Spec::focal_gamma`](crate::Spec::focal_gamma).
    pub focal_gamma: f32,
    /// See [`Spec::z_loss`](crate::Spec::z_loss).
    pub z_loss: f32,
    /// See [`Spec::logit_scale`](crate::Spec::logit_scale).
    pub logit_scale: f32,
    /// See [`Spec::cost_gather`](crate::Spec::cost_gather).
    pub cost_gather: bool,
    /// See [`Spec::cost_lambda`](crate::Spec::cost_lambda).
    pub cost_lambda: f32,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            scheme_number: 1.0,
            count_smoothing: 0.0,
            min_weight: 0.0,
            max_weight: f32::MAX,
            over_all: false,
            absent_weight: 0.0,
            writes_weights: true,
            log_prior: None,
            weight_per_row: false,
            label_smoothing: 0.0,
            focal_gamma: 0.0,
            z_loss: 0.0,
            logit_scale: 1.0,
            cost_gather: true,
            cost_lambda: 0.0,
        }
    }
}

impl Default for Variant {
    fn default() -> Self {
        Self {
            strategy: Strategy::Thread,
            workgroup_size: 64,
            group_lanes: 8,
            splits: 2,
            blocks: 4,
            held: false,
            classes: 0,
            on_cpu: false,
            subgroups: false,
            single_subgroup: false,
            row_a_subgroup: false,
            element: Element::F32,
            wide: false,
            quads: false,
            skewed: false,
            row_pairs: false,
            class_first: false,
            in_place: false,
            scores: Scores::Logits,
            targets: Targets::Labels,
            general: false,
            logit_bias: false,
            class_weights: false,
            sample_weights: false,
            cost_matrix: false,
            grad_out: false,
            records: false,
            confusion: false,
            count_in_workgroup: true,
            external: false,
            ignore_index: false,
            label_bits: 32,
            denominator: 1,
            scheme: 0,
            counts: CountsVariant::default(),
            numbers: Numbers::default(),
            binary: BinaryVariant::default(),
        }
    }
}

/// The fewest classes of [`Variant::skewed`] rows: no word has three rows.
pub const SKEWED_CLASSES: u32 = 16;
/// The most classes that `class_counts/private.wgsl` keeps in workgroup memory (4 KiB).
pub const PRIVATE_CLASSES: u32 = 1024;
/// The most classes that `loss_total/classes.wgsl` gathers in workgroup memory (4 KiB).
pub const PRIVATE_STATS_CLASSES: u32 = 64;
/// The most pairs of classes, with confusion counts (4 KiB).
pub const PRIVATE_CELLS: u32 = 1024;
/// Rows that a workgroup sums or counts. Fixed, so that partial sums do not depend on the tiling.
pub const ROWS_PER_GROUP: u32 = 4096;

/// Rows of soft targets that a workgroup sums: an invocation each.
pub const SOFT_ROWS_PER_GROUP: u32 = 64;

/// Rows of soft targets of which an invocation adds up one class, or a share of them.
pub(crate) const SOFT_MASS_ROWS: u32 = 256;

/// A binding of a shader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its name, in capitals, as in the files.
    pub name: String,
    /// Whether the shader only reads it.
    pub read_only: bool,
}

/// A whole shader.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Entry point `main`; group 0; bindings from 0 without a gap.
    pub text: String,
    /// The bindings, by number.
    pub bindings: Vec<Binding>,
    /// Pipeline constants to set: overrides that the text declares.
    pub constants: Vec<(&'static str, f64)>,
}

/// The text of a stage in a variant.
///
/// `subgroups` is only heeded where it makes a difference: where several invocations share a row.
pub fn source(stage: Stage, variant: &Variant) -> Source {
    let mut text = String::from(text_of(stage.file()));
    let parts = parts(stage, variant);
    for part in &parts {
        text.push('\n');
        text.push_str(&unrolled(text_of(part), variant.blocks));
    }
    if parts.contains(&"parts/held.wgsl") {
        text.push_str(&format!("\nconst BLOCKS: u32 = {}u;\n", variant.blocks));
        text.push_str(&format!("const KEEPS_TERMS: bool = {};\n", variant.keeps_terms(stage)));
        text.push_str(&format!("const READS_ALL: bool = {};\n", variant.reads_all(stage)));
        text.push_str(&format!("const SUMS_LATER: bool = {};\n", variant.sums_later(stage)));
        let no_branch = variant.on_cpu && !variant.general;
        text.push_str(&format!("const NO_BRANCH: bool = {no_branch};\n"));
    }
    if parts.contains(&"parts/held.wgsl") || parts.contains(&"parts/row_result.wgsl") {
        text.push_str(&format!("\nconst PICKS_TERM: bool = {};\n", variant.picks_term(stage)));
    }
    if parts.contains(&"parts/row_result.wgsl") {
        let one_look = variant.sums_later(stage) || variant.held && variant.lanes() == 1;
        text.push_str(&format!("\nconst ONE_LOOK: bool = {};\n", one_look));
    }
    // The reductions are written once, for `Part`; later visits to the row reduce other things by the same text.
    let reduction = reduction(variant);
    for (part, names) in [("parts/moments.wgsl", MOMENTS), ("parts/probabilities_scores.wgsl", NORMS)] {
        if parts.contains(&part) {
            text.push('\n');
            text.push_str(&renamed(text_of(reduction), names));
        }
    }
    // Wide numbers are added to the telemetry and to a workgroup's own counters by the same text.
    if parts.contains(&"parts/stats_workgroup.wgsl") {
        text.push('\n');
        text.push_str(&renamed(text_of("parts/wide_add.wgsl"), FOUND));
    }
    if uses_subgroups(stage, variant) {
        text = with_lane_spread(&text);
    }
    let (text, bindings) = number_bindings(&text);
    let flag = |on: bool| f64::from(u8::from(on));
    let numbers = &variant.numbers;
    let clip = variant.scores.clip().unwrap_or_default();
    let clip_first = variant.scores.clip().is_some() && clip.order == ClipOrder::BeforeNormalizing;
    let constants = [
        ("WORKGROUP_SIZE", f64::from(variant.workgroup_size)),
        ("SINGLE_SUBGROUP", flag(variant.single_subgroup)),
        ("LANES", f64::from(variant.lanes())),
        ("SPLITS", f64::from(variant.splits)),
        ("CLASSES", f64::from(variant.classes)),
        ("ON_CPU", flag(variant.on_cpu)),
        ("TILE_SPAN", f64::from(variant.tile_span())),
        ("ROWS_PER_GROUP", f64::from(ROWS_PER_GROUP)),
        ("PRIVATE_CLASSES", f64::from(PRIVATE_CLASSES)),
        ("PRIVATE_STATS_WORDS", f64::from(16 * PRIVATE_STATS_CLASSES)),
        ("PRIVATE_CELLS", f64::from(if variant.confusion { PRIVATE_CELLS } else { 1 })),
        ("CONFUSION", flag(variant.confusion)),
        ("ROW_WORDS", if variant.records { 4.0 } else { 1.0 }),
        ("HAS_IGNORE_INDEX", flag(variant.ignore_index)),
        ("LABEL_BITS", f64::from(variant.label_bits)),
        ("CLASS_FIRST", flag(variant.class_first)),
        ("DENOMINATOR", f64::from(variant.denominator)),
        ("SOFT_ROWS", f64::from(SOFT_MASS_ROWS)),
        ("CLEARED_WORDS", if variant.counts.mass { 4.0 } else { 1.0 }),
        ("MASS", flag(variant.counts.mass)),
        ("FLOAT_COUNTS", flag(variant.counts.mass || variant.counts.over != CountsOver::Batch)),
        ("CUMULATIVE", flag(variant.counts.over == CountsOver::Cumulative)),
        ("MOMENTUM", f64::from(momentum(variant.counts.over))),
        ("SCHEME", f64::from(variant.scheme)),
        ("SCHEME_NUMBER", f64::from(numbers.scheme_number)),
        ("COUNT_SMOOTHING", f64::from(numbers.count_smoothing)),
        ("MIN_WEIGHT", f64::from(numbers.min_weight)),
        ("MAX_WEIGHT", f64::from(numbers.max_weight)),
        ("OVER_ALL", flag(numbers.over_all)),
        ("ABSENT_WEIGHT", f64::from(numbers.absent_weight)),
        ("WRITES_WEIGHTS", flag(numbers.writes_weights)),
        ("WRITES_BIAS", flag(numbers.log_prior.is_some())),
        ("TAU", f64::from(numbers.log_prior.map_or(1.0, |prior| prior.0))),
        ("PRIOR_SMOOTHING", f64::from(numbers.log_prior.map_or(1.0, |prior| prior.1))),
        ("HAS_BIAS", flag(variant.logit_bias && stage != Stage::CostGather)),
        // Neither scale nor bias plays a part in a prediction.
        ("LOGIT_SCALE", if stage == Stage::CostGather { 1.0 } else { f64::from(numbers.logit_scale) }),
        ("WEIGHT_PER_ROW", flag(numbers.weight_per_row)),
        ("LABEL_SMOOTHING", f64::from(numbers.label_smoothing)),
        ("FOCAL_GAMMA", f64::from(numbers.focal_gamma)),
        ("Z_LOSS", f64::from(numbers.z_loss)),
        ("COST_GATHER", flag(numbers.cost_gather || stage == Stage::CostGather)),
        ("COST_LAMBDA", f64::from(numbers.cost_lambda)),
        ("SCORES", f64::from(scores_number(variant.scores))),
        ("CLIP_FIRST", flag(clip_first)),
        // Logarithms are taken here, in `f64`: 1 - 1e-7 is no `f32`.
        ("CLIP_LOW", clip.eps),
        ("CLIP_HIGH", 1.0 - clip.eps),
        ("MINUS_LOG_LOW", -clip.eps.ln()),
        ("MINUS_LOG_HIGH", -(-clip.eps).ln_1p()),
        ("KEEPS_HELD", flag(clip_first && variant.scores.are_logits())),
    ];
    let declared = |name: &str| text.contains(&format!("override {name}:"));
    let constants = if stage.is_binary() { binary::constants(stage, variant) } else { constants.to_vec() };
    let constants = constants.into_iter().filter(|(name, _)| declared(name)).collect();
    Source { text, bindings, constants }
}

fn momentum(over: CountsOver) -> f32 {
    match over {
        CountsOver::Ema { momentum } => momentum,
        CountsOver::Batch | CountsOver::Cumulative => 0.0,
    }
}

/// The parts behind a stage's own file.
fn parts(stage: Stage, variant: &Variant) -> Vec<&'static str> {
    if stage.is_binary() {
        return binary::parts(stage, &variant.binary);
    }
    let either = |on: bool, yes, no| if on { yes } else { no };
    let class_weights = match variant.class_weights {
        true if variant.quads && stage.reads_logits() => "parts/class_weights_few.wgsl",
        true => "parts/class_weights_table.wgsl",
        false => "parts/class_weights_none.wgsl",
    };
    let sample_weights =
        either(variant.sample_weights, "parts/sample_weights_given.wgsl", "parts/sample_weights_none.wgsl");
    let counted_weights = either(
        variant.counts.sample_weighted,
        "parts/sample_weights_given.wgsl",
        "parts/sample_weights_none.wgsl",
    );
    let cost = either(variant.cost_matrix, "parts/cost_table.wgsl", "parts/cost_none.wgsl");
    let bias = either(variant.logit_bias, "parts/bias_table.wgsl", "parts/bias_none.wgsl");
    let label_at = match stage.reads_logits() && variant.labels_by_four() {
        true => "parts/labels_four.wgsl",
        false => "parts/labels_one.wgsl",
    };
    let lead = either(variant.leader_reads(stage), "parts/leads_first.wgsl", "parts/leads_all.wgsl");
    let targets: &[&str] = match variant.targets {
        Targets::Labels => &["parts/labels.wgsl", label_at, "parts/targets_labels.wgsl", lead],
        Targets::TwoHot => &["parts/labels.wgsl", label_at, "parts/targets_two_hot.wgsl", lead],
        Targets::Soft => &["parts/targets_soft.wgsl", lead],
    };
    let take: &[&str] = match variant.targets {
        Targets::Labels => &["parts/take_label.wgsl"],
        Targets::TwoHot => &["parts/take_two_hot.wgsl"],
        Targets::Soft => &["parts/take_soft.wgsl", "parts/class_soft.wgsl"],
    };
    let labels = ["parts/labels.wgsl", label_at, "parts/targets_labels.wgsl", lead];
    let mut parts = vec!["parts/params.wgsl"];
    match stage {
        Stage::ClassCountsClear => {}
        Stage::ClassCountsPrivate | Stage::ClassCountsDirect => parts.extend(labels),
        Stage::ClassCountsMass => {
            // Soft targets have a stage of their own.
            let two_hot = variant.targets == Targets::TwoHot;
            parts.extend(if two_hot { targets } else { &labels });
            parts.push(either(two_hot, "parts/shares_two_hot.wgsl", "parts/shares_labels.wgsl"));
            parts.extend(["parts/exact.wgsl", "parts/add_mass.wgsl", counted_weights]);
        }
        Stage::ClassCountsMassSoft => {
            parts.extend(["parts/exact.wgsl", "parts/add_mass.wgsl", counted_weights]);
        }
        Stage::ClassCountsMassFinish | Stage::CountHistory => parts.push("parts/exact.wgsl"),
        Stage::ClassWeights => parts.extend(["parts/table.wgsl", "parts/one_minus_exp.wgsl"]),
        Stage::DenominatorRows => {
            parts.extend(targets);
            parts.push(match variant.targets {
                Targets::TwoHot => "parts/weigh_two_hot.wgsl",
                _ => "parts/weigh_labels.wgsl",
            });
            parts.extend(["parts/sums.wgsl", "parts/add_row.wgsl", "parts/sum_workgroup.wgsl"]);
            parts.extend([sample_weights, class_weights]);
            if variant.class_weights {
                parts.push("parts/table.wgsl");
            }
        }
        Stage::DenominatorSoft => {
            parts.extend(["parts/targets_soft.wgsl", "parts/take_soft.wgsl", "parts/class_soft.wgsl"]);
            parts.extend(["parts/row_part.wgsl", "parts/numerics.wgsl", "parts/soft_layout.wgsl"]);
            parts.extend(["parts/sums.wgsl", "parts/add_row.wgsl", "parts/sum_workgroup.wgsl"]);
            parts.extend([sample_weights, class_weights]);
            if variant.class_weights {
                parts.push("parts/table.wgsl");
            }
        }
        Stage::DenominatorFinish => {
            parts.extend(["parts/table.wgsl", "parts/sums.wgsl", "parts/sum_workgroup.wgsl"]);
            parts.push(either(variant.external, "parts/external_given.wgsl", "parts/external_none.wgsl"));
        }
        Stage::LossTotalRows => {
            parts.extend(["parts/loss_sums.wgsl", "parts/sum_workgroup.wgsl", "parts/numerics.wgsl"]);
        }
        Stage::LossTotalFinish => {
            parts.extend(["parts/table.wgsl", "parts/loss_sums.wgsl", "parts/sum_workgroup.wgsl"]);
            parts.extend(["parts/final_loss.wgsl", "parts/numerics.wgsl"]);
        }
        Stage::LossTotalClasses => {
            parts.extend(["parts/telemetry.wgsl", "parts/wide_add.wgsl", "parts/fixed_point.wgsl"]);
            parts.push(either(
                variant.count_in_workgroup,
                "parts/stats_workgroup.wgsl",
                "parts/stats_direct.wgsl",
            ));
        }
        Stage::CostGather => {
            parts.extend(["parts/logits_read.wgsl", cost, "parts/adjust.wgsl", "parts/bias_none.wgsl"]);
            parts.extend(labels);
            parts.push("parts/take_label.wgsl");
            if variant.cost_matrix {
                parts.push("parts/table.wgsl");
            }
            parts.extend(row_parts(stage, variant));
        }
        Stage::CrossEntropyForwardShares => {
            parts.extend(["parts/logits_read.wgsl", "parts/adjust.wgsl", bias]);
            parts.extend(targets);
            parts.extend(take);
            if variant.logit_bias {
                parts.push("parts/table.wgsl");
            }
            parts.extend(row_parts(stage, variant));
        }
        Stage::CrossEntropyForwardMoments => {
            parts.extend(["parts/logits_read.wgsl", "parts/adjust.wgsl", bias, class_weights, cost]);
            parts.extend(targets);
            parts.extend(take);
            if variant.logit_bias || variant.class_weights || variant.cost_matrix {
                parts.push("parts/table.wgsl");
            }
            parts.extend([sample_weights, "parts/row_result.wgsl", "parts/terms.wgsl", "parts/shares.wgsl"]);
            parts.extend(["parts/moments.wgsl", "parts/held_moments.wgsl", "parts/moments_stream.wgsl"]);
            parts.push("parts/probabilities_softmax.wgsl");
            parts.extend(row_parts(stage, variant));
        }
        // By shares: without any logit.
        Stage::CrossEntropyForward if variant.strategy == Strategy::Split => {
            parts.extend(targets);
            parts.push(if variant.targets == Targets::Soft { "parts/class_soft.wgsl" } else { take[0] });
            parts.extend([
                "parts/table.wgsl",
                "parts/adjust.wgsl",
                bias,
                class_weights,
                cost,
                sample_weights,
            ]);
            parts.extend(["parts/row_result.wgsl", "parts/keep_row.wgsl", "parts/tally_direct.wgsl"]);
            parts.extend(["parts/losses_base.wgsl", "parts/class_count.wgsl", "parts/prediction.wgsl"]);
            parts.extend(["parts/numerics.wgsl", "parts/row_part.wgsl", "parts/shares.wgsl"]);
            parts.extend(["parts/visit_shares.wgsl", "parts/lanes_workgroup.wgsl", "parts/rows_one.wgsl"]);
            parts.push("parts/reduce_workgroup.wgsl");
            parts.extend(match variant.general {
                true => ["parts/row_general.wgsl", "parts/probabilities_softmax.wgsl", "parts/moments.wgsl"]
                    .as_slice(),
                false => &["parts/row_single.wgsl"],
            });
            if variant.general {
                parts.push("parts/moments_shares.wgsl");
            }
        }
        Stage::CrossEntropyForward | Stage::CrossEntropy | Stage::CrossEntropyBackward => {
            if stage == Stage::CrossEntropyForward {
                parts.push("parts/logits_read.wgsl");
            }
            parts.extend(targets);
            parts.extend(take);
            parts.extend(["parts/table.wgsl", "parts/adjust.wgsl", bias, class_weights, cost]);
            // Sample weights are in the factor by the time backward runs.
            parts.push(match stage {
                Stage::CrossEntropyBackward => "parts/sample_weights_none.wgsl",
                _ => sample_weights,
            });
            parts.push("parts/row_result.wgsl");
            parts.push(match variant.general {
                true => "parts/row_general.wgsl",
                false => "parts/row_single.wgsl",
            });
            if variant.general {
                parts.push("parts/terms.wgsl");
                parts.extend(["parts/moments.wgsl", "parts/held_moments.wgsl"]);
                parts.push(either(variant.held, "parts/moments_once.wgsl", "parts/moments_stream.wgsl"));
                let exchange = variant.lane_exchange();
                match exchange {
                    Exchange::Subgroup => parts.push("parts/moments_subgroup.wgsl"),
                    Exchange::Shuffle => parts.push("parts/moments_shuffle.wgsl"),
                    Exchange::None | Exchange::Workgroup => {}
                }
                if variant.scores == Scores::Logits {
                    parts.push("parts/probabilities_softmax.wgsl");
                } else {
                    parts.extend(["parts/probabilities_scores.wgsl", "parts/one_minus_exp.wgsl"]);
                    match exchange {
                        Exchange::Subgroup => parts.push("parts/norm_subgroup.wgsl"),
                        Exchange::Shuffle => parts.push("parts/norm_shuffle.wgsl"),
                        Exchange::None | Exchange::Workgroup => {}
                    }
                }
            }
            // Where a workgroup has many rows, it has many to count.
            if stage != Stage::CrossEntropyBackward {
                parts.push("parts/losses_base.wgsl");
                parts.push(either(variant.losses_by_four(), "parts/losses_four.wgsl", "parts/keep_row.wgsl"));
                let many = variant.count_in_workgroup && !variant.strategy.workgroup_a_row();
                if variant.quads {
                    parts.push("parts/tally_quad.wgsl");
                }
                parts.push(match variant.lane_exchange() {
                    Exchange::Shuffle if variant.quads => "parts/tally_quad_subgroup.wgsl",
                    _ if variant.quads => "parts/tally_quad_direct.wgsl",
                    Exchange::Shuffle if !variant.row_a_subgroup => "parts/tally_subgroup.wgsl",
                    Exchange::Shuffle => "parts/tally_direct.wgsl",
                    _ => either(many, "parts/tally_workgroup.wgsl", "parts/tally_direct.wgsl"),
                });
            }
            parts.extend(row_parts(stage, variant));
        }
        // Sigmoid losses went their own way above.
        _ => {}
    }
    parts
}

/// The parts of a stage that reads logits: elements, reduction, gradients.
fn row_parts(stage: Stage, variant: &Variant) -> Vec<&'static str> {
    let half = match variant.element {
        Element::Bf16 => "parts/half_bf16.wgsl",
        _ => "parts/half_f16.wgsl",
    };
    // A pair is written together by `grads_pair`.
    let (elements, store): (&[&str], _) = match variant.element {
        Element::F32 => (&["parts/element_f32.wgsl"], Some("parts/store_f32.wgsl")),
        Element::F32x4 if variant.quads => (&["parts/element_quad.wgsl", "parts/load_quad_one.wgsl"], None),
        Element::F32x8 if variant.quads => (&["parts/element_quad.wgsl", "parts/load_quad_two.wgsl"], None),
        Element::F32x4 => (&["parts/element_f32x4.wgsl"], Some("parts/store_f32x4.wgsl")),
        Element::F32x8 => (&["parts/element_f32x8.wgsl"], None),
        _ if variant.takes_pairs() => (&["parts/element_pair.wgsl", half], None),
        Element::F16 | Element::Bf16 => (&["parts/element_half.wgsl", half], Some("parts/store_half.wgsl")),
    };
    let either = |on: bool, yes, no| if on { yes } else { no };
    let eight = variant.element == Element::F32x8;
    let layout = match variant.element {
        // Two rows that share words have a layout of their own.
        _ if variant.takes_pairs() => None,
        Element::F32 => Some("parts/layout_either.wgsl"),
        _ if variant.quads => Some("parts/layout_either.wgsl"),
        _ => Some("parts/layout_last.wgsl"),
    };
    let stored = match variant.wide {
        true => either(eight, "parts/stored_eight.wgsl", "parts/stored_wide.wgsl"),
        false => "parts/stored_word.wgsl",
    };
    let pairs = variant.takes_pairs();
    let tile = variant.strategy == Strategy::Tile;
    let mut parts = vec!["parts/numerics.wgsl", "parts/row_part.wgsl", "parts/class_count.wgsl", stored];
    parts.push("parts/prediction.wgsl");
    if variant.wide || variant.quads {
        parts.push(either(variant.wide, "parts/four_wide.wgsl", "parts/four_plain.wgsl"));
    }
    parts.extend(["parts/held.wgsl", either(tile, "parts/tile_read.wgsl", "parts/direct_read.wgsl")]);
    parts.extend(layout);
    if variant.element != Element::F32 {
        parts.push("parts/classes_side_by_side.wgsl");
    }
    let eight = eight && !variant.quads;
    parts.push(either(eight, "parts/blocks_of_eight.wgsl", "parts/blocks_of_four.wgsl"));
    if eight {
        parts.push(either(variant.skewed, "parts/words_shared.wgsl", "parts/words_own.wgsl"));
    }
    let of_rows = |one, pair, quad| match (pairs, variant.quads) {
        (_, true) => quad,
        (true, _) => pair,
        _ => one,
    };
    parts.push(of_rows(
        either(eight, "parts/hold_eight.wgsl", "parts/hold_row.wgsl"),
        "parts/hold_pair.wgsl",
        "parts/hold_quad.wgsl",
    ));
    // What several workgroups have of a row they take apart.
    if !matches!(stage, Stage::CrossEntropyForwardShares | Stage::CrossEntropyForwardMoments) {
        let one = either(variant.row_pairs, "parts/rows_two.wgsl", "parts/rows_one.wgsl");
        parts.push(of_rows(one, "parts/rows_pair.wgsl", "parts/rows_quad.wgsl"));
    }
    // Moments are added up from shares that are known.
    if stage != Stage::CrossEntropyBackward && stage != Stage::CrossEntropyForwardMoments {
        parts.push(match (variant.held, variant.skewed) {
            (true, _) => "parts/visit_once.wgsl",
            (_, true) => "parts/visit_skewed.wgsl",
            _ => "parts/visit_stream.wgsl",
        });
    }
    parts.extend(elements);
    let later = variant.sums_later(stage);
    parts.extend(match variant.lane_exchange() {
        Exchange::None if later => ["parts/lanes_thread.wgsl", "parts/row_whole_thread.wgsl"].as_slice(),
        Exchange::None => &["parts/lanes_thread.wgsl", "parts/reduce_thread.wgsl"],
        Exchange::Subgroup => {
            &["parts/lanes_subgroup.wgsl", "parts/reduce_subgroup.wgsl", "parts/row_part_subgroup.wgsl"]
        }
        Exchange::Shuffle if later => &["parts/lanes_shuffle.wgsl", "parts/row_whole_shuffle.wgsl"],
        Exchange::Shuffle => &["parts/lanes_shuffle.wgsl", "parts/row_part_shuffle.wgsl"],
        Exchange::Workgroup if variant.strategy == Strategy::Group => {
            &["parts/lanes_group.wgsl", "parts/reduce_workgroup.wgsl"]
        }
        Exchange::Workgroup if variant.strategy == Strategy::Split => {
            &["parts/lanes_split.wgsl", "parts/reduce_workgroup.wgsl"]
        }
        Exchange::Workgroup => &["parts/lanes_workgroup.wgsl", "parts/reduce_workgroup.wgsl"],
    });
    if variant.quads {
        parts.push(either(stage.writes_grads(), "parts/grads_quad.wgsl", "parts/grads_quad_none.wgsl"));
        if stage.writes_grads() {
            parts.push(either(
                variant.element == Element::F32x8,
                "parts/store_quad_two.wgsl",
                "parts/store_quad_one.wgsl",
            ));
        }
        let finds_losses = matches!(stage, Stage::CrossEntropy | Stage::CrossEntropyForward);
        if !finds_losses {
            parts.push("parts/tally_quad_none.wgsl");
        }
        if !finds_losses || !variant.losses_by_four() {
            parts.push("parts/losses_none.wgsl");
        }
    }
    if stage.writes_grads() {
        parts.extend([
            "parts/write_grads.wgsl",
            either(tile, "parts/tile_write.wgsl", "parts/direct_write.wgsl"),
        ]);
        if !pairs {
            parts.push(match variant.quads {
                true => "parts/put_quad.wgsl",
                false => either(eight, "parts/put_eight.wgsl", "parts/put_direct.wgsl"),
            });
        }
        parts.extend(match (pairs, variant.held, stage) {
            (true, ..) => ["parts/grads_pair.wgsl"].as_slice(),
            _ if variant.skewed => &["parts/grads_skewed.wgsl", "parts/held_grads.wgsl"],
            (_, false, _) => &["parts/grads_stream.wgsl", "parts/held_grads.wgsl"],
            (_, true, Stage::CrossEntropyBackward) => &["parts/grads_fresh.wgsl", "parts/held_grads.wgsl"],
            _ if variant.keeps_terms(stage) => &["parts/grads_once.wgsl", "parts/held_terms.wgsl"],
            (_, true, _) => &["parts/grads_once.wgsl", "parts/held_grads.wgsl"],
        });
        parts.extend(store);
        parts.push(match variant.in_place {
            true => "parts/grads_in_place.wgsl",
            false => "parts/grads_separate.wgsl",
        });
        parts.push(match variant.grad_out {
            true => "parts/grad_out_rows.wgsl",
            false => "parts/grad_out_one.wgsl",
        });
    }
    parts
}

/// The number of the scores in `parts/probabilities_scores.wgsl`.
fn scores_number(scores: Scores) -> u32 {
    match scores {
        Scores::Logits => 0,
        Scores::LogProbs => 1,
        Scores::Probs(_) => 2,
        Scores::SoftmaxProbs(_) => 3,
    }
}

/// How invocations that share a row put their shares together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// Not at all: an invocation has the row to itself.
    None,
    /// Through workgroup memory.
    Workgroup,
    /// By reductions over subgroups.
    Subgroup,
    /// By exchanges within subgroups, several rows in each.
    Shuffle,
}

/// The reduction that is written for `Part` and serves others by other names. With shuffles `Part` has its own.
fn reduction(variant: &Variant) -> &'static str {
    match variant.lane_exchange() {
        Exchange::None => "parts/reduce_thread.wgsl",
        Exchange::Workgroup => "parts/reduce_workgroup.wgsl",
        Exchange::Subgroup => "parts/reduce_subgroup.wgsl",
        Exchange::Shuffle => "parts/reduce_shuffle.wgsl",
    }
}

/// What the names of a reduction are for `Moments`.
const MOMENTS: &[(&str, &str)] = &[
    ("Part", "Moments"),
    ("empty_part", "empty_moments"),
    ("combine", "add_moments"),
    ("combine_subgroup", "add_moments_subgroup"),
    ("shuffled", "shuffled_moments"),
    ("reduce", "reduce_moments"),
    ("shares", "shares_of_moments"),
    ("eighths", "eighths_of_moments"),
    ("EIGHTHS", "EIGHTHS_OF_MOMENTS"),
];

/// What they are for `Norm`.
const NORMS: &[(&str, &str)] = &[
    ("Part", "Norm"),
    ("empty_part", "empty_norm"),
    ("combine", "add_norms"),
    ("combine_subgroup", "add_norms_subgroup"),
    ("shuffled", "shuffled_norm"),
    ("reduce", "reduce_norm"),
    ("shares", "shares_of_norm"),
    ("eighths", "eighths_of_norm"),
    ("EIGHTHS", "EIGHTHS_OF_NORM"),
];

/// What the names of additions to the telemetry are for a workgroup's own counters.
const FOUND: &[(&str, &str)] = &[
    ("counters", "found"),
    ("add_count", "add_count_found"),
    ("add_sum", "add_sum_found"),
    ("add_run", "add_run_found"),
];

/// Replaces whole words.
fn renamed(text: &str, names: &[(&str, &str)]) -> String {
    let mut renamed = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        let new = names.iter().find(|(old, _)| *old == word).map_or(word.as_str(), |(_, new)| new);
        renamed.push_str(new);
        word.clear();
        renamed.push(c);
    }
    renamed
}

/// `lane: Lane` of the entry point as a parameter for each built-in value, gathered in its first line. naga 30 writes
/// HLSL that DXC refuses where the built-in values of subgroups are fields of a struct only: they get no semantic.
fn with_lane_spread(text: &str) -> String {
    let spread = || {
        let (before, rest) = text.split_once("struct Lane {\n")?;
        let (fields, after) = rest.split_once("}\n")?;
        // "    @builtin(NAME) field: TYPE,"
        let fields: Vec<(&str, &str, &str)> = fields
            .lines()
            .filter_map(|field| {
                let field = field.trim().strip_suffix(',')?;
                let (builtin, declared) = field.split_once(' ').filter(|_| field.starts_with('@'))?;
                let (name, ty) = declared.split_once(": ")?;
                Some((builtin, name, ty))
            })
            .collect();
        let list = |part: &dyn Fn(&(&str, &str, &str)) -> String, between| {
            fields.iter().map(part).collect::<Vec<_>>().join(between)
        };
        let parameters = list(&|(builtin, name, ty)| format!("{builtin} lane_{name}: {ty}"), ", ");
        let values = list(&|(_, name, _)| format!("lane_{name}"), ", ");
        let members = list(&|(_, name, ty)| format!("    {name}: {ty},\n"), "");
        let text = format!("{before}struct Lane {{\n{members}}}\n{after}");
        let (before, main) = text.split_once("fn main(")?;
        let main = main.replacen("lane: Lane) {", &format!("{parameters}) {{ let lane = Lane({values});"), 1);
        Some(format!("{before}fn main({main}"))
    };
    // A text without a lane is left alone.
    spread().unwrap_or_else(|| text.to_owned())
}

/// Writes the lines between `// each BLOCK` and `// end` once for each block, with its number for `BLOCK`; those after
/// `// each PAIR` once for each pair of blocks, with its number for `PAIR`, and those of its blocks for `EVEN` and `ODD`.
fn unrolled(text: &str, blocks: u32) -> String {
    let mut lines = String::with_capacity(text.len());
    let mut body: Option<String> = None;
    let mut pairs = false;
    for line in text.split_inclusive('\n') {
        match (line.trim(), &mut body) {
            (each @ ("// each BLOCK" | "// each PAIR"), _) => {
                pairs = each == "// each PAIR";
                body = Some(String::new());
            }
            ("// end", Some(repeated)) => {
                match pairs {
                    true => lines.extend((0..blocks / 2).map(|pair| {
                        let even = repeated.replace("EVEN", &(2 * pair).to_string());
                        even.replace("ODD", &(2 * pair + 1).to_string()).replace("PAIR", &pair.to_string())
                    })),
                    false => {
                        lines.extend((0..blocks).map(|block| repeated.replace("BLOCK", &block.to_string())));
                    }
                }
                body = None;
            }
            (_, Some(repeated)) => repeated.push_str(line),
            (_, None) => lines.push_str(line),
        }
    }
    lines
}

fn text_of(path: &str) -> &'static str {
    FILES.iter().find(|(name, _)| *name == path).map_or("", |(_, text)| *text)
}

/// Replaces each `@binding(NAME)` by the number of its first appearance.
fn number_bindings(text: &str) -> (String, Vec<Binding>) {
    const MARK: &str = "@binding(";
    let mut numbered = String::with_capacity(text.len());
    let mut bindings: Vec<Binding> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let (before, after) = rest.split_at(at + MARK.len());
        let end = after.find(')').unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        let read_only =
            after.split(';').next().is_some_and(|declaration| !declaration.contains("read_write"));
        let number = bindings.iter().position(|binding| binding.name == name).unwrap_or(bindings.len());
        if number == bindings.len() {
            bindings.push(Binding { name: name.to_owned(), read_only });
        }
        numbered.push_str(before);
        numbered.push_str(&number.to_string());
        rest = after;
    }
    numbered.push_str(rest);
    (numbered, bindings)
}

/// The texts that the tests look at, with the constants that choose between ways through them: every layout with each
/// option alone, with none and with all, and two layouts with every combination of options. Constants that are mere
/// numbers are at one telling value each.
pub fn all() -> Vec<(Stage, Variant)> {
    let mut all = Vec::new();
    for stage in Stage::ALL.into_iter().filter(|stage| !stage.is_binary()) {
        let mut seen = HashSet::new();
        for layout in layouts() {
            let every = layout.element == Element::F32
                && matches!(layout.strategy, Strategy::Thread | Strategy::Resident)
                && layout.held
                && !layout.subgroups;
            for options in (0..1u32 << 9).filter(|n| every || n.count_ones() < 2 || n.count_zeros() == 23) {
                let bit = |n: u32| options >> n & 1 == 1;
                let logits = layout.scores == Scores::Logits;
                let variant = Variant {
                    in_place: bit(0),
                    class_weights: bit(1),
                    sample_weights: bit(2),
                    cost_matrix: bit(3),
                    grad_out: bit(4),
                    external: bit(5),
                    logit_bias: logits && bit(6),
                    // Without, four losses are stored at once.
                    records: !layout.quads || bit(0),
                    confusion: true,
                    ignore_index: layout.targets != Targets::Soft,
                    denominator: if bit(5) { 6 } else { 1 },
                    general: layout.general,
                    counts: CountsVariant { sample_weighted: bit(2), mass: bit(2), over: CountsOver::Batch },
                    numbers: Numbers {
                        writes_weights: bit(1),
                        log_prior: bit(6).then_some((1.0, 1.0)),
                        weight_per_row: bit(7),
                        label_smoothing: if layout.general { 0.125 } else { 0.0 },
                        focal_gamma: if bit(8) { 1.5 } else { 0.0 },
                        z_loss: if logits && bit(8) { 0.25 } else { 0.0 },
                        logit_scale: if logits && bit(8) { 0.5 } else { 1.0 },
                        cost_lambda: if layout.general && logits && bit(3) { 0.5 } else { 0.0 },
                        ..Numbers::default()
                    },
                    ..layout.clone()
                };
                let soft = variant.targets == Targets::Soft;
                match stage {
                    Stage::DenominatorRows | Stage::ClassCountsMass if soft => continue,
                    Stage::DenominatorSoft | Stage::ClassCountsMassSoft if !soft => continue,
                    _ => {}
                }
                if !stage.goes_with(&variant) || !variant.is_sound() {
                    continue;
                }
                // What the text is made of, without making it.
                if !seen.insert(parts(stage, &variant)) {
                    continue;
                }
                // Ways through one text: every kind of scores, where nothing else is on.
                let kinds = if variant.scores != Scores::Logits && options == 0 { &SCORES[..] } else { &[] };
                let others = kinds.iter().filter(|scores| **scores != variant.scores);
                all.extend(others.map(|&scores| (stage, Variant { scores, ..variant.clone() })));
                // Which words are stored is one thing, everything else another.
                if variant.element == Element::F32x4 && stage.reads_logits() && options.count_ones() != 1 {
                    all.push((stage, Variant { wide: true, ..variant.clone() }));
                    let eight = Variant { wide: true, element: Element::F32x8, ..variant.clone() };
                    if eight.is_sound() {
                        all.push((stage, eight));
                    }
                }
                all.push((stage, variant));
            }
        }
    }
    all.extend(binary::all());
    all
}

/// Scores that are no logits, one of each kind.
const SCORES: [Scores; 5] = {
    const LATE: Clip = Clip { eps: 1e-7, order: ClipOrder::AfterNormalizing };
    const EARLY: Clip = Clip { order: ClipOrder::BeforeNormalizing, ..LATE };
    [
        Scores::LogProbs,
        Scores::Probs(LATE),
        Scores::Probs(EARLY),
        Scores::SoftmaxProbs(LATE),
        Scores::SoftmaxProbs(EARLY),
    ]
};

/// Every sound choice of strategy, element, target and kind of scores. Texts that differ in the number of blocks only are
/// at one of them.
fn layouts() -> Vec<Variant> {
    let mut layouts = Vec::new();
    for choices in 0..1u32 << 6 {
        let bit = |n: u32| choices >> n & 1 == 1;
        for strategy in Strategy::ALL {
            for element in [Element::F32, Element::F32x4, Element::F16, Element::Bf16] {
                for targets in [Targets::Labels, Targets::TwoHot, Targets::Soft] {
                    layouts.push(Variant {
                        strategy,
                        subgroups: bit(0),
                        count_in_workgroup: bit(1),
                        class_first: bit(2),
                        general: bit(3),
                        held: bit(4),
                        blocks: 2,
                        scores: if bit(5) { SCORES[1] } else { Scores::Logits },
                        element,
                        targets,
                        ..Variant::default()
                    });
                }
            }
        }
    }
    // Four rows an invocation: what CPUs take.
    for choices in 0..1u32 << 4 {
        let bit = |n: u32| choices >> n & 1 == 1;
        for strategy in [Strategy::Thread, Strategy::Group] {
            layouts.push(Variant {
                strategy,
                group_lanes: 1,
                subgroups: bit(0),
                class_first: bit(1),
                label_bits: if bit(2) { 8 } else { 32 },
                held: true,
                blocks: 2,
                classes: if bit(3) { 6 } else { 5 },
                on_cpu: true,
                count_in_workgroup: false,
                element: if bit(3) { Element::F32x8 } else { Element::F32x4 },
                wide: bit(3),
                quads: true,
                ..Variant::default()
            });
        }
    }
    // What a row has once is read for all of its invocations there.
    for row_a_subgroup in [false, true] {
        layouts.push(Variant {
            strategy: Strategy::Group,
            subgroups: true,
            row_a_subgroup,
            held: true,
            blocks: 2,
            on_cpu: true,
            count_in_workgroup: false,
            ..Variant::default()
        });
    }
    // Rows that start anywhere within words.
    for row_pairs in [false, true] {
        for (strategy, subgroups) in
            [(Strategy::Streaming, false), (Strategy::Streaming, true), (Strategy::Thread, false)]
        {
            layouts.push(Variant {
                strategy,
                subgroups,
                single_subgroup: true,
                blocks: 2,
                on_cpu: true,
                count_in_workgroup: false,
                element: Element::F32x8,
                wide: true,
                skewed: true,
                row_pairs,
                ..Variant::default()
            });
        }
    }
    layouts.retain(Variant::is_sound);
    layouts
}

impl Variant {
    /// Whether the choices go together.
    pub fn is_sound(&self) -> bool {
        let eight = self.element == Element::F32x8;
        let class_last_only =
            (self.element == Element::F32x4 || eight) && !self.quads || self.strategy != Strategy::Thread;
        let subgroups_unused = self.subgroups
            && self.strategy.invocation_a_row()
            && !(self.quads && self.strategy == Strategy::Thread);
        let more_terms_than_one =
            (self.targets != Targets::Labels || self.scores != Scores::Logits) && !self.general;
        let holds = match self.strategy {
            Strategy::Tile => self.held && !matches!(self.element, Element::F32x4 | Element::F32x8),
            Strategy::Group | Strategy::Resident => self.held,
            Strategy::Streaming => !self.held,
            Strategy::Split => !self.held && !self.subgroups && self.scores == Scores::Logits,
            Strategy::Thread => true,
        };
        let wide_words = match self.element {
            Element::F32x4 => false,
            Element::F32x8 => {
                let even = if self.quads { self.classes } else { self.blocks };
                let class_first_quads = self.quads && (self.class_first || self.classes == 0);
                !self.wide || self.scores != Scores::Logits || !even.is_multiple_of(2) || class_first_quads
            }
            _ => self.wide,
        };
        let quads = self.quads
            && (!matches!(self.element, Element::F32x4 | Element::F32x8)
                || self.general
                || !self.held
                || self.lanes() != 1
                || self.strategy == Strategy::Tile);
        let skewed = self.skewed
            && (self.element != Element::F32x8
                || !matches!(self.strategy, Strategy::Streaming | Strategy::Thread)
                || self.held
                || self.general
                || self.class_first
                || self.logit_bias
                || self.in_place);
        holds
            && !(quads || skewed || self.row_pairs && !self.skewed)
            && !(self.class_first && class_last_only || subgroups_unused || more_terms_than_one || wide_words)
    }

    /// Invocations that share a row.
    pub fn lanes(&self) -> u32 {
        match self.strategy {
            Strategy::Thread | Strategy::Tile => 1,
            Strategy::Group => self.group_lanes,
            Strategy::Resident | Strategy::Streaming => self.workgroup_size,
            Strategy::Split => self.workgroup_size * self.splits,
        }
    }

    /// Whether an invocation takes two rows: neighbouring positions of a class-first layout, whose 16-bit logits share
    /// words.
    pub fn takes_pairs(&self) -> bool {
        self.class_first && matches!(self.element, Element::F16 | Element::Bf16)
    }

    /// Whether the labels of four rows are one load.
    pub(crate) fn labels_by_four(&self) -> bool {
        self.quads && self.label_bits == 32
    }

    /// Whether the losses of four rows are one store.
    pub(crate) fn losses_by_four(&self) -> bool {
        self.quads && !self.records
    }

    /// Rows that an invocation takes one after the other.
    pub fn rows_an_invocation(&self) -> u32 {
        match (self.takes_pairs() || self.row_pairs, self.quads) {
            (_, true) => 4,
            (true, _) => 2,
            _ => 1,
        }
    }

    /// Whether a stage holds a row's terms, exp(z - reference), from its sum to its gradients, and no logits: those of
    /// losses that need them once.
    pub(crate) fn keeps_terms(&self, stage: Stage) -> bool {
        stage == Stage::CrossEntropy && self.held && !self.general && !self.takes_pairs()
    }

    /// Whether a row's largest class is known to all that share it before any exponential is taken: losses of the label's
    /// term alone, all of whose row is in registers and comes together without workgroup memory.
    pub(crate) fn sums_later(&self, stage: Stage) -> bool {
        matches!(stage, Stage::CrossEntropy | Stage::CrossEntropyForward)
            && self.held
            && !self.general
            && matches!(self.lane_exchange(), Exchange::None | Exchange::Shuffle)
    }

    /// Whether the label's term of the sum is picked from all of them, rather than computed again: cheaper for few classes.
    pub(crate) fn picks_term(&self, stage: Stage) -> bool {
        self.sums_later(stage) && self.lanes() == 1 && self.blocks <= 2
    }

    /// Whether what a row has once is read by the first of its invocations for all of them.
    pub(crate) fn leader_reads(&self, stage: Stage) -> bool {
        self.on_cpu && self.sums_later(stage) && self.lane_exchange() == Exchange::Shuffle && self.lanes() > 1
    }

    /// Whether a stage reads rows that do not count as well, rather than branch around their loads. Not where others may
    /// write what invocations past the last row would read.
    pub(crate) fn reads_all(&self, stage: Stage) -> bool {
        self.on_cpu && self.keeps_terms(stage) && !self.in_place && self.strategy != Strategy::Tile
    }

    /// Rows of a workgroup; 1 where several share one.
    pub fn rows_a_workgroup(&self) -> u32 {
        (self.workgroup_size / self.lanes()).max(1) * self.rows_an_invocation()
    }

    /// Words of a workgroup's rows, for [`Strategy::Tile`].
    fn tile_span(&self) -> u32 {
        // As many classes as the blocks hold, where the text is for any number.
        let classes = if self.classes == 0 { 4 * self.blocks } else { self.classes };
        match self.element {
            Element::F32 | Element::F32x4 | Element::F32x8 => self.workgroup_size * classes,
            Element::F16 | Element::Bf16 => self.workgroup_size * classes / 2,
        }
    }

    /// Bytes of workgroup memory that [`Strategy::Tile`] takes for its rows.
    pub(crate) fn tile_bytes(&self) -> u32 {
        (self.tile_span() + self.tile_span() / 32 + 1) * 4
    }

    /// How shares of a row come together.
    pub(crate) fn lane_exchange(&self) -> Exchange {
        match self.strategy {
            // Rows of an invocation are counted by subgroup.
            Strategy::Thread if self.subgroups && self.quads => Exchange::Shuffle,
            Strategy::Thread | Strategy::Tile => Exchange::None,
            Strategy::Group if self.subgroups => Exchange::Shuffle,
            Strategy::Resident | Strategy::Streaming if self.subgroups => Exchange::Subgroup,
            Strategy::Group | Strategy::Resident | Strategy::Streaming | Strategy::Split => {
                Exchange::Workgroup
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_are_numbered_by_first_appearance() {
        let (text, bindings) = number_bindings(
            "@group(0) @binding(B) var<storage, read> b: u32;\n\
             @group(0) @binding(A) var<storage, read_write> a: u32;\n@binding(B)",
        );
        assert!(text.starts_with("@group(0) @binding(0) var"));
        assert!(text.ends_with("@binding(0)"));
        assert_eq!(bindings[1], Binding { name: "A".into(), read_only: false });
        assert!(bindings[0].read_only);
    }

    #[test]
    fn every_file_is_used_and_none_is_missing() {
        let mut used: Vec<&str> = Vec::new();
        for (stage, variant) in all() {
            used.push(stage.file());
            used.extend(parts(stage, &variant));
            if variant.general {
                used.push(reduction(&variant));
            }
        }
        for path in &used {
            assert!(!text_of(path).is_empty(), "{path} is not in FILES");
        }
        for (path, _) in FILES {
            assert!(used.contains(path), "{path} is used by no variant");
        }
    }
}
