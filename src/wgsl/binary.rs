//! The variants of the sigmoid losses' shaders.

use super::{Element, Stage, Variant, source};
use std::collections::HashSet;

/// Elements that a workgroup of a sigmoid loss visits. Fixed, so that partial sums do not depend on the tiling.
pub const ELEMENTS_PER_GROUP: u32 = 4096;

/// What the scores of a sigmoid loss are: [`BinaryScores`](crate::BinaryScores) without its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ScoreKind {
    /// Logits.
    #[default]
    Logits,
    /// Probabilities, clipped.
    Probs,
    /// Logits whose sigmoid is clipped.
    SigmoidProbs,
}

impl ScoreKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Logits, Self::Probs, Self::SigmoidProbs];
}

/// What the shaders of a sigmoid loss are made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BinaryVariant {
    /// What the scores are.
    pub scores: ScoreKind,
    /// Something is added within the logarithms of clipped probabilities.
    pub log_eps: bool,
    /// How scores and gradients lie in memory; one at a time.
    pub element: Element,
    /// Class-first layout.
    pub class_first: bool,
    /// Gradients over the logits.
    pub in_place: bool,
    /// A weight for each element in a buffer.
    pub element_weights: bool,
    /// A weight for each row in a buffer.
    pub sample_weights: bool,
    /// An upstream gradient for each element.
    pub grad_out: bool,
    /// The elements' losses are written.
    pub element_losses: bool,
    /// A denominator of the caller's.
    pub external: bool,
    /// Rows without padding.
    pub dense: bool,
    /// A pair of factors for each column, not one for all.
    pub per_column: bool,
    /// Factors multiply the weighted loss, not its two sides.
    pub ratio: bool,
    /// A focusing exponent other than 0.
    pub focal: bool,
    /// A factor by target.
    pub alpha: bool,
    /// Smoothed targets.
    pub smoothing: bool,
    /// Which targets are ignored: 0 none, 1 those equal to a value, 2 NaN.
    pub ignore: u32,
    /// Which denominator: the number in `binary_cross_entropy/denominator.wgsl`.
    pub denominator: u32,
}

impl BinaryVariant {
    /// Storage buffers of the kernel that reads logits.
    pub fn storage_buffers(&self) -> u32 {
        let given =
            [!self.in_place, self.element_weights, self.sample_weights, self.grad_out, self.element_losses];
        4 + given.iter().map(|given| u32::from(*given)).sum::<u32>()
    }
}

/// Positions that a workgroup of `binary_counts` counts: rows where counts are by column, else elements.
pub(crate) const fn positions_per_group(per_column: bool) -> u32 {
    if per_column { 256 } else { ELEMENTS_PER_GROUP }
}

/// The pipeline constants that any of the stages declares.
pub(super) fn constants(stage: Stage, variant: &Variant) -> Vec<(&'static str, f64)> {
    let flag = |on: bool| f64::from(u8::from(on));
    let binary = &variant.binary;
    // Counts for the whole batch go into one pair of factors, and so on: both are by column or neither is.
    debug_assert!(stage.is_binary());
    vec![
        ("WORKGROUP_SIZE", f64::from(variant.workgroup_size)),
        ("ELEMENTS_PER_GROUP", f64::from(ELEMENTS_PER_GROUP)),
        ("POSITIONS_PER_GROUP", f64::from(positions_per_group(binary.per_column))),
        ("DENSE", flag(binary.dense)),
        ("CLASS_FIRST", flag(binary.class_first)),
        ("LOG_EPS", flag(binary.log_eps)),
        ("PER_COLUMN", flag(binary.per_column)),
        ("RATIO", flag(binary.ratio)),
        ("SCHEME", flag(binary.ratio)),
        ("FOCAL", flag(binary.focal)),
        ("ALPHA", flag(binary.alpha)),
        ("SMOOTHING", flag(binary.smoothing)),
        ("IGNORE", f64::from(binary.ignore)),
        ("DENOMINATOR", f64::from(binary.denominator)),
    ]
}

/// The parts behind a stage's own file.
pub(super) fn parts(stage: Stage, variant: &BinaryVariant) -> Vec<&'static str> {
    let either = |on: bool, yes, no| if on { yes } else { no };
    let mut parts = vec!["parts/binary_params.wgsl"];
    let sums = ["parts/binary_table.wgsl", "parts/binary_sums.wgsl", "parts/sum_workgroup.wgsl"];
    let weights = [
        "parts/binary_targets.wgsl",
        "parts/binary_factors.wgsl",
        either(
            variant.element_weights,
            "parts/binary_element_weights_given.wgsl",
            "parts/binary_element_weights_none.wgsl",
        ),
        either(
            variant.sample_weights,
            "parts/binary_sample_weights_given.wgsl",
            "parts/binary_sample_weights_none.wgsl",
        ),
    ];
    match stage {
        Stage::BinaryCountsRows => parts.push("parts/binary_targets.wgsl"),
        Stage::BinaryWeights => parts.push("parts/binary_table.wgsl"),
        Stage::BinarySums => {
            parts.extend(sums);
            parts.extend(weights);
        }
        Stage::BinaryDenominator => {
            parts.extend(sums);
            parts.push(either(variant.external, "parts/external_given.wgsl", "parts/external_none.wgsl"));
        }
        Stage::BinaryElements => {
            parts.extend(sums);
            parts.extend(weights);
            parts.extend(["parts/numerics.wgsl", "parts/binary_numerics.wgsl", "parts/binary_sides.wgsl"]);
            parts.extend::<&[&str]>(match variant.scores {
                ScoreKind::Logits => &["parts/binary_sigmoid.wgsl", "parts/binary_scores_logits.wgsl"],
                ScoreKind::Probs => &["parts/binary_clip.wgsl", "parts/binary_scores_probs.wgsl"],
                ScoreKind::SigmoidProbs => &[
                    "parts/binary_clip.wgsl",
                    "parts/binary_sigmoid.wgsl",
                    "parts/binary_scores_sigmoid_probs.wgsl",
                ],
            });
            parts.extend::<&[&str]>(match variant.element {
                Element::F16 => &["parts/binary_element_half.wgsl", "parts/half_f16.wgsl"],
                Element::Bf16 => &["parts/binary_element_half.wgsl", "parts/half_bf16.wgsl"],
                Element::F32 | Element::F32x4 | Element::F32x8 => &["parts/binary_element_f32.wgsl"],
            });
            parts.push(either(
                variant.in_place,
                "parts/binary_grads_in_place.wgsl",
                "parts/binary_grads_separate.wgsl",
            ));
            parts.push(either(
                variant.grad_out,
                "parts/binary_grad_out_given.wgsl",
                "parts/binary_grad_out_none.wgsl",
            ));
            parts.push(either(
                variant.element_losses,
                "parts/binary_losses_given.wgsl",
                "parts/binary_losses_none.wgsl",
            ));
        }
        Stage::BinaryFinish => {
            parts.extend(sums);
            parts.extend(["parts/final_loss.wgsl", "parts/numerics.wgsl"]);
        }
        _ => {}
    }
    parts
}

/// Every text, with its constants all off, all on, and (for one text) each on alone.
pub(super) fn all() -> Vec<(Stage, Variant)> {
    let mut all: Vec<(Stage, Variant)> = Vec::new();
    let mut push = |binary: BinaryVariant| {
        if binary.storage_buffers() <= 8 {
            let stages = Stage::ALL.into_iter().filter(|stage| stage.is_binary());
            all.extend(stages.map(|stage| (stage, Variant { binary, ..Variant::default() })));
        }
    };
    for number in 0..1u32 << 6 {
        let bit = |n: u32| number >> n & 1 == 1;
        let text = BinaryVariant {
            in_place: bit(0),
            element_weights: bit(1),
            sample_weights: bit(2),
            grad_out: bit(3),
            element_losses: bit(4),
            external: bit(5),
            denominator: if bit(5) { 5 } else { 1 },
            ..BinaryVariant::default()
        };
        let on = BinaryVariant {
            dense: true,
            per_column: true,
            ratio: true,
            focal: true,
            alpha: true,
            smoothing: true,
            ignore: 1,
            ..text
        };
        push(text);
        push(on);
    }
    for scores in ScoreKind::ALL {
        for element in [Element::F32, Element::F16, Element::Bf16] {
            for in_place in [false, true] {
                let text = BinaryVariant { scores, element, in_place, ..BinaryVariant::default() };
                push(text);
                push(BinaryVariant { log_eps: true, class_first: true, focal: true, ..text });
            }
        }
    }
    push(BinaryVariant { class_first: true, per_column: true, ..BinaryVariant::default() });
    for number in 0..8 {
        push(BinaryVariant {
            dense: number == 0,
            per_column: number == 1,
            ratio: number == 2,
            focal: number == 3,
            alpha: number == 4,
            smoothing: number == 5,
            ignore: if number == 6 { 2 } else { u32::from(number == 7) },
            ..BinaryVariant::default()
        });
    }
    // Constants that a stage does not declare make no difference to it.
    let mut seen = HashSet::new();
    all.retain(|(stage, variant)| {
        let source = source(*stage, variant);
        let constants: Vec<_> =
            source.constants.iter().map(|(name, value)| (*name, value.to_bits())).collect();
        seen.insert((source.text, constants))
    });
    all
}
