//! Prints a kernel's text for copying into an engine of one's own, under a header that says what to bind and dispatch.
//!
//! ```sh
//! cargo run --release --example print_wgsl -- cross_entropy --classes 100 --f16
//! cargo run --release --example print_wgsl -- --list
//! ```

use std::fmt::Write as _;
use std::process::ExitCode;

use lexopt::prelude::*;
use wgpu_cross_entropy::wgsl::{self, Embedding, Source, Stage, Strategy, Variant};
use wgpu_cross_entropy::{
    BinaryConfig, BinaryOptions, BinarySpec, Capabilities, ClassWeights, Config, CostMatrix, Denominator,
    Dtype, LiveWeights, LogitBias, Options, Reduction, SampleWeights, Shape, Spec, Targets,
};

const HELP: &str = "\
print_wgsl KERNEL [OPTIONS]     the text of a kernel, such as cross_entropy or denominator/rows
print_wgsl --list               the kernels

the batch
  --rows N  --classes N         its shape (4096 rows of 10 classes)
  --row-stride N                elements from row to row
  --class-first INNER           [outer, classes, inner]
  --f16  --bf16                 16-bit logits and gradients
  --targets labels|two-hot|soft

the loss
  --class-weights  --live-weights  --sample-weights  --cost-matrix  --logit-bias  --ignore-index N
  --label-smoothing X  --focal-gamma X  --z-loss X  --logit-scale X  --cost-lambda X
  --denominator weight-sum|valid-rows|sample-weight-sum|non-zero-weights|rows|external|none

the device and the text
  --in-place  --grad-out        gradients over the logits; an upstream gradient
  --subgroups N                 a device with subgroups of N
  --cpu  --int64                a device that is a CPU; one with words of 64 bits
  --strategy NAME  --workgroup-size N  --no-vectorize
  --read                        buffers that are only read say so
  --enable-subgroups            the dialect of browsers
  --pipeline-constants          keeps overrides, and lists their values
";

/// What the command line asks for.
pub struct Asked {
    kernel: Option<String>,
    list: bool,
    spec: Spec,
    shape: Shape,
    options: Options,
    caps: Capabilities,
    embedding: Embedding,
    pipeline_constants: bool,
}

/// What may go wrong.
pub type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match asked(lexopt::Parser::from_env()).and_then(|asked| printed(&asked)) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("print_wgsl: {error}\n\n{HELP}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the command line.
pub fn asked(mut parser: lexopt::Parser) -> Result<Asked, Failure> {
    let mut asked = Asked {
        kernel: None,
        list: false,
        spec: Spec::default(),
        shape: Shape::new(4096, 10),
        options: Options::default(),
        caps: Capabilities::default(),
        embedding: Embedding::default(),
        pipeline_constants: false,
    };
    let (mut stride, mut inner) = (None, None);
    let (mut class_weights, mut cost_matrix, mut logit_bias) = (false, false, false);
    while let Some(argument) = parser.next()? {
        let Asked { spec, shape, options, caps, embedding, .. } = &mut asked;
        match argument {
            Value(kernel) => asked.kernel = Some(kernel.string()?),
            Long("list") => asked.list = true,
            Long("rows") => shape.rows = parser.value()?.parse()?,
            Long("classes") => shape.classes = parser.value()?.parse()?,
            Long("row-stride") => stride = Some(parser.value()?.parse()?),
            Long("class-first") => inner = Some(parser.value()?.parse::<u32>()?),
            Long("f16") => options.dtype = Dtype::F16,
            Long("bf16") => options.dtype = Dtype::Bf16,
            Long("targets") => {
                spec.targets = choice(
                    &parser.value()?.string()?,
                    &[("labels", Targets::Labels), ("two-hot", Targets::TwoHot), ("soft", Targets::Soft)],
                )?;
            }
            Long("class-weights") => class_weights = true,
            Long("live-weights") => spec.class_weights = ClassWeights::Live(LiveWeights::default()),
            Long("sample-weights") => spec.sample_weights = SampleWeights::PerRow,
            Long("cost-matrix") => cost_matrix = true,
            Long("logit-bias") => logit_bias = true,
            Long("ignore-index") => spec.ignore_index = Some(parser.value()?.parse()?),
            Long("label-smoothing") => spec.label_smoothing = parser.value()?.parse()?,
            Long("focal-gamma") => spec.focal_gamma = parser.value()?.parse()?,
            Long("z-loss") => spec.z_loss = parser.value()?.parse()?,
            Long("logit-scale") => spec.logit_scale = parser.value()?.parse()?,
            Long("cost-lambda") => {
                spec.cost_lambda = parser.value()?.parse()?;
                cost_matrix = true;
            }
            Long("denominator") => {
                let mean = |denominator| Reduction::Mean(denominator);
                spec.reduction = choice(
                    &parser.value()?.string()?,
                    &[
                        ("weight-sum", mean(Denominator::WeightSum)),
                        ("valid-rows", mean(Denominator::ValidRows)),
                        ("sample-weight-sum", mean(Denominator::SampleWeightSum)),
                        ("non-zero-weights", mean(Denominator::NonZeroWeights)),
                        ("rows", mean(Denominator::Rows)),
                        ("external", mean(Denominator::External)),
                        ("none", Reduction::None),
                    ],
                )?;
            }
            Long("in-place") => options.in_place = true,
            Long("grad-out") => options.grad_out = true,
            Long("subgroups") => {
                let size = parser.value()?.parse()?;
                *caps = Capabilities {
                    subgroups: true,
                    subgroup_min_size: size,
                    subgroup_max_size: size,
                    ..*caps
                };
            }
            Long("cpu") => caps.cpu = true,
            Long("int64") => caps.int64 = true,
            Long("strategy") => {
                let named = Strategy::ALL.map(|strategy| (format!("{strategy:?}").to_lowercase(), strategy));
                let named: Vec<(&str, Strategy)> =
                    named.iter().map(|(name, s)| (name.as_str(), *s)).collect();
                options.strategy = Some(choice(&parser.value()?.string()?, &named)?);
            }
            Long("workgroup-size") => options.workgroup_size = Some(parser.value()?.parse()?),
            Long("no-vectorize") => options.vectorize = Some(false),
            Long("read") => embedding.read_write = false,
            Long("enable-subgroups") => embedding.enable_subgroups = true,
            Long("pipeline-constants") => asked.pipeline_constants = true,
            Long("help") => return Err("the options are".into()),
            _ => return Err(argument.unexpected().into()),
        }
    }
    let (rows, classes) = (asked.shape.rows, asked.shape.classes);
    asked.shape = match inner {
        Some(inner) => Shape::class_first(rows.checked_div(inner).unwrap_or(0), classes, inner),
        None => Shape::new(rows, classes),
    };
    if let Some(stride) = stride {
        asked.shape = asked.shape.with_row_stride(stride);
    }
    // The values lie in the table; the text is the same for all of them.
    if class_weights {
        asked.spec.class_weights = ClassWeights::Given(vec![1.0; classes as usize]);
    }
    if cost_matrix {
        let costs = vec![1.0; classes as usize * classes as usize];
        asked.spec.cost_matrix = Some(CostMatrix::from_true_predicted(classes, costs)?);
    }
    if logit_bias {
        asked.spec.logit_bias = LogitBias::Given(vec![0.0; classes as usize]);
    }
    Ok(asked)
}

fn choice<T: Clone>(got: &str, choices: &[(&str, T)]) -> Result<T, Failure> {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let found = choices.iter().find(|(name, _)| *name == got);
    found
        .map(|(_, value)| value.clone())
        .ok_or_else(|| format!("{got:?} is none of {}", names.join(", ")).into())
}

/// The name of a stage: its file without the ending.
fn name(stage: Stage) -> &'static str {
    stage.file().trim_end_matches(".wgsl")
}

/// The text, under its header.
pub fn printed(asked: &Asked) -> Result<String, Failure> {
    if asked.list {
        return Ok(Stage::ALL.map(|stage| format!("{}\n", name(stage))).concat());
    }
    let kernel = asked.kernel.as_deref().ok_or("a kernel is missing")?;
    let stage = Stage::ALL.into_iter().find(|stage| name(*stage) == kernel).ok_or_else(|| {
        let of_kernel = |stage: &Stage| name(*stage).starts_with(&format!("{kernel}/"));
        match Stage::ALL.into_iter().filter(of_kernel).map(name).collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => format!("there is no kernel {kernel:?}; --list prints them"),
            stages => format!("{kernel} has several stages: {stages}"),
        }
    })?;
    let variant = if stage.is_binary() {
        let options = BinaryOptions { in_place: asked.options.in_place, ..BinaryOptions::default() };
        let spec = BinarySpec {
            sample_weights: asked.spec.sample_weights != SampleWeights::None,
            ..Default::default()
        };
        BinaryConfig::with_capabilities(asked.caps, &spec, asked.shape, &options)?.variant_of(stage)
    } else {
        Config::with_capabilities(asked.caps, &asked.spec, asked.shape, &asked.options)?.variant_of(stage)
    };
    if !stage.goes_with(&variant) {
        let fitting =
            Stage::ALL.into_iter().filter(|stage| stage.reads_logits() && stage.goes_with(&variant));
        let names = fitting.map(name).collect::<Vec<_>>().join(", ");
        return Err(
            format!("{kernel} has no text for strategy {:?}, which has {names}", variant.strategy).into()
        );
    }
    let source = match asked.pipeline_constants {
        true => wgsl::source(stage, &variant),
        false => wgsl::embedded(stage, &variant, &asked.embedding),
    };
    // Comments may stand before an `enable`.
    Ok(format!("{}{}", header(stage, &variant, &asked.shape, &source)?, source.text))
}

fn header(stage: Stage, variant: &Variant, shape: &Shape, source: &Source) -> Result<String, Failure> {
    let mut text = String::new();
    writeln!(text, "// {} of wgpu-cross-entropy {}", name(stage), env!("CARGO_PKG_VERSION"))?;
    writeln!(text, "//")?;
    if stage.reads_logits() {
        writeln!(
            text,
            "// Logits as {:?}, rows by strategy {:?}{}.",
            variant.element,
            variant.strategy,
            if wgsl::uses_subgroups(stage, variant) { " with subgroups" } else { "" }
        )?;
    }
    for (number, binding) in source.bindings.iter().enumerate() {
        let access = if binding.read_only { "read" } else { "read_write" };
        writeln!(text, "// @group(0) @binding({number})  {}, storage, {access}", binding.name)?;
    }
    for (name, value) in &source.constants {
        writeln!(text, "// constant {name} = {value}")?;
    }
    let groups = wgsl::workgroups(stage, variant, shape);
    let (x, y) = wgsl::grid(groups, 65535);
    writeln!(
        text,
        "// Dispatch for {} rows of {} classes: ({x}, {y}, 1) workgroups of {}; params.groups_x = {x}.",
        shape.rows, shape.classes, variant.workgroup_size
    )?;
    writeln!(text)?;
    Ok(text)
}
