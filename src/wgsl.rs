//! The shaders as text: every file, and how a kernel is put together from them.
//!
//! A kernel is its own file followed by parts, joined end to end. WGSL's module scope does not depend on order,
//! so this is a module, and no text is rewritten but for one thing: `@binding(NAME)` becomes a number, counted
//! in order of appearance. So bindings are dense, each one is used, and the layout that the host needs is read
//! off the text itself.
//!
//! The text is public API: an engine with pipelines of its own takes [`source`] and dispatches it.

use std::collections::HashSet;

macro_rules! shader {
    ($path:literal) => {
        ($path, include_str!(concat!("../shaders/", $path)))
    };
}

/// Every shader file: path below `shaders/`, and text.
pub const FILES: &[(&str, &str)] = &[
    shader!("class_counts/clear.wgsl"),
    shader!("class_counts/direct.wgsl"),
    shader!("class_counts/private.wgsl"),
    shader!("class_weights.wgsl"),
    shader!("cost_gather.wgsl"),
    shader!("cross_entropy.wgsl"),
    shader!("cross_entropy_backward.wgsl"),
    shader!("cross_entropy_forward.wgsl"),
    shader!("denominator/finish.wgsl"),
    shader!("denominator/rows.wgsl"),
    shader!("loss_total/finish.wgsl"),
    shader!("loss_total/rows.wgsl"),
    shader!("parts/class_weights_none.wgsl"),
    shader!("parts/class_weights_table.wgsl"),
    shader!("parts/cost_none.wgsl"),
    shader!("parts/cost_table.wgsl"),
    shader!("parts/element_f32.wgsl"),
    shader!("parts/element_f32x4.wgsl"),
    shader!("parts/external_given.wgsl"),
    shader!("parts/external_none.wgsl"),
    shader!("parts/grad_out_one.wgsl"),
    shader!("parts/grad_out_rows.wgsl"),
    shader!("parts/grads_in_place.wgsl"),
    shader!("parts/grads_separate.wgsl"),
    shader!("parts/labels.wgsl"),
    shader!("parts/logits_read.wgsl"),
    shader!("parts/loss_sums.wgsl"),
    shader!("parts/numerics.wgsl"),
    shader!("parts/params.wgsl"),
    shader!("parts/reduce_none.wgsl"),
    shader!("parts/reduce_subgroup.wgsl"),
    shader!("parts/reduce_workgroup.wgsl"),
    shader!("parts/row_loss.wgsl"),
    shader!("parts/row_part.wgsl"),
    shader!("parts/row_part_subgroup.wgsl"),
    shader!("parts/sample_weights_given.wgsl"),
    shader!("parts/sample_weights_none.wgsl"),
    shader!("parts/store_f32.wgsl"),
    shader!("parts/store_f32x4.wgsl"),
    shader!("parts/sum_workgroup.wgsl"),
    shader!("parts/sums.wgsl"),
    shader!("parts/table.wgsl"),
    shader!("parts/tally_direct.wgsl"),
    shader!("parts/tally_workgroup.wgsl"),
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
    /// Weights from counts.
    ClassWeights,
    /// Partial sums of weights over rows.
    DenominatorRows,
    /// Adds them up and opens the table.
    DenominatorFinish,
    /// Predictions and their costs.
    CostGather,
    /// Losses and gradients.
    CrossEntropy,
    /// Losses and row statistics.
    CrossEntropyForward,
    /// Gradients from row statistics.
    CrossEntropyBackward,
    /// Partial sums of row losses.
    LossTotalRows,
    /// Adds them up.
    LossTotalFinish,
}

impl Stage {
    /// All stages, in the order of the flow.
    pub const ALL: [Self; 12] = [
        Self::ClassCountsClear,
        Self::ClassCountsPrivate,
        Self::ClassCountsDirect,
        Self::ClassWeights,
        Self::DenominatorRows,
        Self::DenominatorFinish,
        Self::CostGather,
        Self::CrossEntropy,
        Self::CrossEntropyForward,
        Self::CrossEntropyBackward,
        Self::LossTotalRows,
        Self::LossTotalFinish,
    ];

    /// Its file below `shaders/`. The part before a slash or the ending is the kernel's stem.
    pub const fn file(self) -> &'static str {
        match self {
            Self::ClassCountsClear => "class_counts/clear.wgsl",
            Self::ClassCountsPrivate => "class_counts/private.wgsl",
            Self::ClassCountsDirect => "class_counts/direct.wgsl",
            Self::ClassWeights => "class_weights.wgsl",
            Self::DenominatorRows => "denominator/rows.wgsl",
            Self::DenominatorFinish => "denominator/finish.wgsl",
            Self::CostGather => "cost_gather.wgsl",
            Self::CrossEntropy => "cross_entropy.wgsl",
            Self::CrossEntropyForward => "cross_entropy_forward.wgsl",
            Self::CrossEntropyBackward => "cross_entropy_backward.wgsl",
            Self::LossTotalRows => "loss_total/rows.wgsl",
            Self::LossTotalFinish => "loss_total/finish.wgsl",
        }
    }

    /// Whether it visits logits, and so comes in row strategies.
    pub const fn reads_logits(self) -> bool {
        matches!(
            self,
            Self::CostGather | Self::CrossEntropy | Self::CrossEntropyForward | Self::CrossEntropyBackward
        )
    }

    /// Whether it writes gradients.
    pub const fn writes_grads(self) -> bool {
        matches!(self, Self::CrossEntropy | Self::CrossEntropyBackward)
    }
}

/// How invocations share rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Strategy {
    /// An invocation a row: few classes, and class-first layouts.
    Thread,
    /// A workgroup a row, the row read twice.
    Workgroup,
}

impl Strategy {
    /// All strategies.
    pub const ALL: [Self; 2] = [Self::Thread, Self::Workgroup];
}

/// How logits lie in memory, and how they are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Element {
    /// `f32`, one at a time, any stride.
    F32,
    /// `f32`, four at a time: classes, stride and base are multiples of four, class-last.
    F32x4,
}

/// What a kernel's text is made for. Two equal variants of one stage have the same text and constants.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// How invocations share rows.
    pub strategy: Strategy,
    /// Invocations in a workgroup.
    pub workgroup_size: u32,
    /// Whether subgroup operations are used.
    pub subgroups: bool,
    /// How logits are loaded.
    pub element: Element,
    /// Class-first layout.
    pub class_first: bool,
    /// Gradients over the logits.
    pub in_place: bool,
    /// Class weights in the table.
    pub class_weights: bool,
    /// Sample weights in a buffer.
    pub sample_weights: bool,
    /// A cost matrix in the table.
    pub cost_matrix: bool,
    /// An upstream gradient a row.
    pub grad_out: bool,
    /// Rows are counted in workgroup memory before they are counted in the table or in the class counts: dear
    /// atomics on few words are spared. Off on CPUs, which have no dear atomics, and of which one (llvmpipe's GL,
    /// Mesa 22.3.6) loses increments in workgroup memory where invocations meet in one word.
    pub count_in_workgroup: bool,
    /// A denominator of the caller's.
    pub external: bool,
    /// Whether any label is the ignore index.
    pub ignore_index: bool,
    /// Which denominator: the number in `denominator/finish.wgsl`.
    pub denominator: u32,
    /// Which weight formula: the number in `class_weights.wgsl`.
    pub scheme: u32,
    /// The weight of a class without rows.
    pub absent_weight: f32,
}

impl Default for Variant {
    fn default() -> Self {
        Self {
            strategy: Strategy::Thread,
            workgroup_size: 64,
            subgroups: false,
            element: Element::F32,
            class_first: false,
            in_place: false,
            class_weights: false,
            sample_weights: false,
            cost_matrix: false,
            grad_out: false,
            count_in_workgroup: true,
            external: false,
            ignore_index: false,
            denominator: 1,
            scheme: 0,
            absent_weight: 0.0,
        }
    }
}

/// The most classes that `class_counts/private.wgsl` keeps in workgroup memory (4 KiB).
pub const PRIVATE_CLASSES: u32 = 1024;
/// Rows that a workgroup sums or counts. Fixed, so that partial sums do not depend on the tiling.
pub const ROWS_PER_GROUP: u32 = 4096;

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
/// `subgroups` is only heeded where it makes a difference: [`Strategy::Workgroup`] in a stage that reduces rows.
pub fn source(stage: Stage, variant: &Variant) -> Source {
    let mut text = String::from(text_of(stage.file()));
    for part in parts(stage, variant) {
        text.push('\n');
        text.push_str(text_of(part));
    }
    let (text, bindings) = number_bindings(&text);
    let flag = |on: bool| f64::from(u8::from(on));
    let constants = [
        ("WORKGROUP_SIZE", f64::from(variant.workgroup_size)),
        ("ROWS_PER_GROUP", f64::from(ROWS_PER_GROUP)),
        ("PRIVATE_CLASSES", f64::from(PRIVATE_CLASSES)),
        ("HAS_IGNORE_INDEX", flag(variant.ignore_index)),
        ("CLASS_FIRST", flag(variant.class_first)),
        ("DENOMINATOR", f64::from(variant.denominator)),
        ("SCHEME", f64::from(variant.scheme)),
        ("ABSENT_WEIGHT", f64::from(variant.absent_weight)),
    ];
    let declared = |name: &str| text.contains(&format!("override {name}:"));
    let constants = constants.into_iter().filter(|(name, _)| declared(name)).collect();
    Source { text, bindings, constants }
}

/// The parts behind a stage's own file.
fn parts(stage: Stage, variant: &Variant) -> Vec<&'static str> {
    let either = |on: bool, yes, no| if on { yes } else { no };
    let class_weights =
        either(variant.class_weights, "parts/class_weights_table.wgsl", "parts/class_weights_none.wgsl");
    let sample_weights =
        either(variant.sample_weights, "parts/sample_weights_given.wgsl", "parts/sample_weights_none.wgsl");
    let cost = either(variant.cost_matrix, "parts/cost_table.wgsl", "parts/cost_none.wgsl");
    let mut parts = vec!["parts/params.wgsl"];
    match stage {
        Stage::ClassCountsClear => {}
        Stage::ClassCountsPrivate | Stage::ClassCountsDirect => parts.push("parts/labels.wgsl"),
        Stage::ClassWeights => parts.push("parts/table.wgsl"),
        Stage::DenominatorRows => {
            parts.extend(["parts/labels.wgsl", "parts/sums.wgsl", "parts/sum_workgroup.wgsl"]);
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
            parts.push("parts/numerics.wgsl");
        }
        Stage::CostGather => {
            parts.extend(["parts/logits_read.wgsl", "parts/labels.wgsl", cost]);
            if variant.cost_matrix {
                parts.push("parts/table.wgsl");
            }
            parts.extend(row_parts(stage, variant));
        }
        Stage::CrossEntropyForward | Stage::CrossEntropy => {
            if stage == Stage::CrossEntropyForward {
                parts.push("parts/logits_read.wgsl");
            }
            parts.extend(["parts/labels.wgsl", "parts/table.wgsl", class_weights, sample_weights, cost]);
            parts.push("parts/row_loss.wgsl");
            // With an invocation a row, a workgroup has many rows to count.
            parts.push(match variant.strategy {
                Strategy::Thread if variant.count_in_workgroup => "parts/tally_workgroup.wgsl",
                Strategy::Thread | Strategy::Workgroup => "parts/tally_direct.wgsl",
            });
            parts.extend(row_parts(stage, variant));
        }
        Stage::CrossEntropyBackward => {
            parts.extend(["parts/labels.wgsl", "parts/table.wgsl"]);
            parts.extend(row_parts(stage, variant));
        }
    }
    parts
}

/// The parts of a stage that reads logits: elements, reduction, gradients.
fn row_parts(stage: Stage, variant: &Variant) -> Vec<&'static str> {
    let (element, store) = match variant.element {
        Element::F32 => ("parts/element_f32.wgsl", "parts/store_f32.wgsl"),
        Element::F32x4 => ("parts/element_f32x4.wgsl", "parts/store_f32x4.wgsl"),
    };
    let mut parts = vec!["parts/numerics.wgsl", "parts/row_part.wgsl", element];
    match variant.strategy {
        Strategy::Thread => parts.push("parts/reduce_none.wgsl"),
        Strategy::Workgroup if variant.subgroups => {
            parts.extend(["parts/reduce_subgroup.wgsl", "parts/row_part_subgroup.wgsl"]);
        }
        Strategy::Workgroup => parts.push("parts/reduce_workgroup.wgsl"),
    }
    if stage.writes_grads() {
        parts.push(store);
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

/// Every variant of every stage that the crate can emit, for tests that must see them all. Constants that change
/// no text (formula numbers, sizes) are at a few values each; everything else is exhaustive.
pub fn all() -> Vec<(Stage, Variant)> {
    let mut all: Vec<(Stage, Variant)> = Vec::new();
    for stage in Stage::ALL {
        let mut seen = HashSet::new();
        for number in 0..1u32 << 12 {
            let bit = |n: u32| number >> n & 1 == 1;
            let variant = Variant {
                strategy: if bit(0) { Strategy::Workgroup } else { Strategy::Thread },
                subgroups: bit(1),
                element: if bit(2) { Element::F32x4 } else { Element::F32 },
                class_first: bit(3),
                in_place: bit(4),
                class_weights: bit(5),
                sample_weights: bit(6),
                cost_matrix: bit(7),
                grad_out: bit(8),
                external: bit(9),
                ignore_index: bit(10),
                count_in_workgroup: bit(11),
                denominator: if bit(9) { 6 } else { 1 },
                ..Variant::default()
            };
            if !variant.is_sound() {
                continue;
            }
            // What the text is made of, without making it.
            let constants = (variant.ignore_index, variant.class_first, variant.denominator);
            let key = (parts(stage, &variant), constants);
            if seen.insert(key) {
                all.push((stage, variant));
            }
        }
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

impl Variant {
    /// Whether the choices go together.
    pub fn is_sound(&self) -> bool {
        let class_last_only = self.element == Element::F32x4 || self.strategy == Strategy::Workgroup;
        let subgroups_unused = self.subgroups && self.strategy == Strategy::Thread;
        !(self.class_first && class_last_only || subgroups_unused)
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
        }
        for path in &used {
            assert!(!text_of(path).is_empty(), "{path} is not in FILES");
        }
        for (path, _) in FILES {
            assert!(used.contains(path), "{path} is used by no variant");
        }
    }
}
