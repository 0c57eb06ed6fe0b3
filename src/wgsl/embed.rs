//! Texts for engines that make their own pipelines, and the dispatches that they take.

use super::{
    Binding, ELEMENTS_PER_GROUP, ROWS_PER_GROUP, SOFT_MASS_ROWS, SOFT_ROWS_PER_GROUP, Source, Stage,
    Strategy, Variant, positions_per_group, source,
};
use crate::shape::Shape;

/// What an engine wants of a text that it embeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Embedding {
    /// Declares every binding `read_write`, for engines that bind all buffers alike (cubecl's `SourceKernel`). Off,
    /// bindings that are only read say so.
    pub read_write: bool,
    /// Starts a text with subgroup operations with `enable subgroups;`. Tint (Chrome, Dawn) asks for it; naga 30 (wgpu,
    /// Firefox) refuses it.
    pub enable_subgroups: bool,
}

impl Default for Embedding {
    /// For naga, with all bindings alike.
    fn default() -> Self {
        Self { read_write: true, enable_subgroups: false }
    }
}

/// The text of a stage in a variant, for an engine with pipelines of its own.
///
/// The contract: the entry point is `main`; the bindings are storage buffers in group 0, numbered from 0 without a gap,
/// each one used, at most 8, and listed in [`Source::bindings`]; there are no pipeline constants, for overrides are
/// rewritten as `const` with the variant's values ([`Source::constants`] is empty); workgroup memory need not be zeroed;
/// bounds checks may be off where `Params` says the truth; two braces never stand together, so that templates leave the
/// text alone. [`workgroups`] and [`grid`] say how much to dispatch, [`Config::params`](crate::Config::params) what
/// `Params` holds.
pub fn embedded(stage: Stage, variant: &Variant, embedding: &Embedding) -> Source {
    let Source { text, bindings, constants } = source(stage, variant);
    let mut lines = String::with_capacity(text.len());
    if embedding.enable_subgroups && uses_subgroups(stage, variant) {
        lines.push_str("enable subgroups;\n");
    }
    for line in text.lines() {
        lines.push_str(&without_override(line, &constants));
        lines.push('\n');
    }
    if embedding.read_write {
        lines = lines.replace("var<storage, read>", "var<storage, read_write>");
    }
    let read_only =
        |binding: Binding| Binding { read_only: binding.read_only && !embedding.read_write, ..binding };
    Source { text: lines, bindings: bindings.into_iter().map(read_only).collect(), constants: Vec::new() }
}

/// Whether the text has subgroup operations.
pub fn uses_subgroups(stage: Stage, variant: &Variant) -> bool {
    super::parts(stage, variant).iter().any(|part| super::text_of(part).contains("@builtin(subgroup_"))
}

/// Whether the text has words of 64 bits: [`Variant::wide`]. naga takes it where the device has
/// [`wgpu::Features::SHADER_INT64`]; Tint does not, and neither do engines on GL.
pub fn uses_int64(stage: Stage, variant: &Variant) -> bool {
    super::parts(stage, variant)
        .iter()
        .any(|part| matches!(*part, "parts/stored_wide.wgsl" | "parts/stored_eight.wgsl"))
}

/// `override NAME: TYPE = DEFAULT;` as a `const`, with the variant's value where it has one.
fn without_override(line: &str, constants: &[(&str, f64)]) -> String {
    let Some((declared, default)) = line.strip_prefix("override ").and_then(|rest| rest.split_once(" = "))
    else {
        return line.to_owned();
    };
    let (name, ty) = declared.split_once(": ").unwrap_or((declared, ""));
    match constants.iter().find(|(constant, _)| *constant == name) {
        Some((_, value)) => format!("const {declared} = {};", literal(ty, *value)),
        None => format!("const {declared} = {default}"),
    }
}

/// A pipeline constant's value as WGSL would read it from a pipeline.
fn literal(ty: &str, value: f64) -> String {
    match ty {
        "bool" => (value != 0.0).to_string(),
        "u32" => format!("{}u", value as u32),
        "i32" => format!("{}i", value as i32),
        // With an f64's digits: with fewer, Tint takes the largest f32 for something larger.
        _ => format!("{value:?}f"),
    }
}

/// Workgroups that a stage takes for a batch, or for a tile of one: `shape.rows` are the tile's. At least as many do no
/// harm; [`grid`] makes two dimensions of them.
pub fn workgroups(stage: Stage, variant: &Variant, shape: &Shape) -> u64 {
    let (rows, size) = (u64::from(shape.rows), u64::from(variant.workgroup_size));
    let elements = rows * u64::from(shape.classes);
    let per_column = variant.binary.per_column;
    let pairs = if per_column { u64::from(shape.classes) } else { 1 };
    match stage {
        Stage::ClassCountsClear | Stage::ClassCountsMassFinish => u64::from(shape.classes).div_ceil(size),
        Stage::ClassCountsMassSoft => {
            rows.div_ceil(SOFT_MASS_ROWS.into()) * u64::from(shape.classes).div_ceil(size)
        }
        Stage::ClassCountsPrivate
        | Stage::ClassCountsDirect
        | Stage::ClassCountsMass
        | Stage::DenominatorRows
        | Stage::LossTotalRows
        | Stage::LossTotalClasses => rows.div_ceil(ROWS_PER_GROUP.into()),
        Stage::DenominatorSoft => rows.div_ceil(SOFT_ROWS_PER_GROUP.into()),
        Stage::CrossEntropyForwardShares | Stage::CrossEntropyForwardMoments => {
            rows * u64::from(variant.splits)
        }
        Stage::CrossEntropyBackward if variant.strategy == Strategy::Split => {
            rows * u64::from(variant.splits)
        }
        Stage::CostGather
        | Stage::CrossEntropy
        | Stage::CrossEntropyForward
        | Stage::CrossEntropyBackward => rows.div_ceil(variant.rows_a_workgroup().into()),
        Stage::BinaryCountsRows => {
            let positions = if per_column { rows } else { elements };
            positions.div_ceil(positions_per_group(per_column).into()) * pairs.div_ceil(size)
        }
        Stage::BinaryCountsFinish | Stage::BinaryWeights => pairs.div_ceil(size),
        Stage::BinarySums | Stage::BinaryElements => elements.div_ceil(ELEMENTS_PER_GROUP.into()),
        Stage::CountHistory
        | Stage::ClassWeights
        | Stage::DenominatorFinish
        | Stage::LossTotalFinish
        | Stage::BinaryDenominator
        | Stage::BinaryFinish => 1,
    }
}

/// The grid for so many workgroups: as square as `limit` (workgroups in one dimension, 65535 everywhere) needs it,
/// never a third dimension. `Params::groups_x` is its width.
pub fn grid(groups: u64, limit: u32) -> (u32, u32) {
    let y = groups.div_ceil(u64::from(limit)).max(1);
    let x = groups.div_ceil(y).max(1);
    // Both fit: a tile has fewer than 2^32 rows, and the limit is at least 65535 everywhere.
    (x as u32, y as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_become_constants_of_their_type() {
        let constants = [("A", 1.0), ("B", 7.0), ("C", f64::from(0.1f32)), ("D", f64::from(f32::MAX))];
        let rewritten = |line| without_override(line, &constants);
        assert_eq!(rewritten("override A: bool = false;"), "const A: bool = true;");
        assert_eq!(rewritten("override B: u32 = 64u;"), "const B: u32 = 7u;");
        assert_eq!(rewritten("override C: f32 = 1.0; // why"), "const C: f32 = 0.10000000149011612f;");
        assert_eq!(rewritten("override D: f32 = 1.0;"), "const D: f32 = 3.4028234663852886e38f;");
        assert_eq!(rewritten("override E: u32 = (B + 7u) / 8u;"), "const E: u32 = (B + 7u) / 8u;");
        assert_eq!(rewritten("    let a = 1;"), "    let a = 1;");
    }

    #[test]
    fn nothing_is_left_to_a_pipeline() {
        for (stage, variant) in crate::wgsl::all() {
            let source =
                embedded(stage, &variant, &Embedding { enable_subgroups: true, ..Embedding::default() });
            assert!(source.constants.is_empty() && source.bindings.iter().all(|binding| !binding.read_only));
            for line in source.text.lines() {
                assert!(!line.trim_start().starts_with("override "), "{stage:?}: {line}");
                assert!(!line.contains("var<storage, read>"), "{stage:?}: {line}");
            }
            let enabled = source.text.starts_with("enable subgroups;\n");
            assert_eq!(enabled, source.text.contains("subgroup_invocation_id"), "{stage:?}");
        }
    }

    #[test]
    fn grids_stay_below_the_limit() {
        for groups in [0, 1, 65535, 65536, 70_000, 10_000_000, u64::from(u32::MAX)] {
            let (x, y) = grid(groups, 65535);
            assert!((1..=65535).contains(&x) && (1..=65537).contains(&y));
            assert!(u64::from(x) * u64::from(y) >= groups);
            assert!(u64::from(x) * u64::from(y) < groups + u64::from(y).max(2));
        }
    }
}
