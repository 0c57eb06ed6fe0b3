//! The texts that are gated: every variant, and the variants that specs lead to, in the forms in which they leave the crate.

use super::{hash, on_all_cores};
use std::collections::{BTreeSet, HashMap, HashSet};
use wgpu_cross_entropy::wgsl::{self, Embedding, Source, Stage, Variant};
use wgpu_cross_entropy::{
    BinaryConfig, BinaryDenominator, BinaryOptions, BinaryReduction, BinarySpec, Capabilities, ClassWeights,
    ClassesOver, Config, CostMatrix, Denominator, Dtype, LiveWeights, LogitBias, Options, PosWeight,
    Reduction, SampleWeights, Shape, Spec, Targets, WeightScheme, WeightScope,
};

/// A form in which a text leaves the crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As the crate's own pipelines take it: with pipeline constants. Compilers add no run-time checks.
    Pipeline,
    /// As an engine takes it that binds all buffers alike. Compilers add every check they have.
    ReadWrite,
    /// As an engine takes it that keeps buffers apart that are only read. The same checks.
    AsUsed,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pipeline, Self::ReadWrite, Self::AsUsed];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::ReadWrite => "read_write",
            Self::AsUsed => "as_used",
        }
    }

    /// Whether compilers add run-time checks.
    pub fn checks(self) -> bool {
        self != Self::Pipeline
    }

    fn source(self, stage: Stage, variant: &Variant) -> Source {
        let embedding = Embedding { read_write: self == Self::ReadWrite, enable_subgroups: false };
        match self {
            Self::Pipeline => wgsl::source(stage, variant),
            Self::ReadWrite | Self::AsUsed => wgsl::embedded(stage, variant, &embedding),
        }
    }
}

/// One text for the compilers.
pub struct Job {
    pub stage: Stage,
    pub form: Form,
    /// What naga takes.
    pub source: Source,
    /// Which variant.
    pub what: String,
    /// Whether it has subgroup operations.
    pub subgroups: bool,
    /// Whether it has words of 64 bits.
    pub int64: bool,
    /// Whether it is one of those in which every pair of choices is met: see [`cover`].
    pub in_cover: bool,
    /// Whether it is the first in this form with its text; others have other constants.
    pub new_text: bool,
}

impl Job {
    /// What Tint takes.
    pub fn tint_text(&self) -> String {
        match self.subgroups {
            // As `Embedding::enable_subgroups` writes it. In the pipeline form nobody does, for wgpu has no subgroups in
            // browsers yet; that text is tested all the same.
            true => format!("enable subgroups;\n{}", self.source.text),
            false => self.source.text.clone(),
        }
    }
}

/// Every variant in its forms.
pub fn jobs() -> Vec<Job> {
    let mut variants = wgsl::all();
    let mut seen: HashSet<String> = variants.iter().map(|variant| format!("{variant:?}")).collect();
    variants.extend(configured().into_iter().filter(|variant| seen.insert(format!("{variant:?}"))));
    let in_cover = cover(&variants);
    let variants: Vec<_> = variants.into_iter().zip(in_cover).collect();
    let jobs = on_all_cores(&variants, |((stage, variant), in_cover)| {
        // The third form differs from the second in the access of bindings alone: of it, the cover will do.
        let forms = Form::ALL.into_iter().filter(|form| *in_cover || *form != Form::AsUsed);
        let subgroups = wgsl::uses_subgroups(*stage, variant);
        let job = |form: Form| Job {
            stage: *stage,
            form,
            source: form.source(*stage, variant),
            what: format!("{stage:?} {variant:?}"),
            subgroups,
            int64: wgsl::uses_int64(*stage, variant),
            in_cover: *in_cover,
            new_text: true,
        };
        forms.map(job).collect::<Vec<_>>()
    });
    // A stage does not heed every choice: the same text with the same constants is one job.
    let (mut texts, mut with_constants) = (HashSet::new(), HashSet::new());
    let mut jobs: Vec<Job> = jobs.into_iter().flatten().collect();
    jobs.retain_mut(|job| {
        let text = (job.form.name(), hash(job.source.text.as_bytes()));
        let constants: Vec<_> =
            job.source.constants.iter().map(|(name, value)| (*name, value.to_bits())).collect();
        job.new_text = texts.insert(text.clone());
        with_constants.insert((text, constants))
    });
    jobs
}

/// Which variants are needed so that each pair of choices of a stage (this strategy with that element, this target with
/// that denominator) is met in at least one. For compilers that are too slow for all.
fn cover(variants: &[(Stage, Variant)]) -> Vec<bool> {
    // Fields as `Debug` prints them are the choices; each gets a number.
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let choices_of = |(_, variant): &(Stage, Variant)| -> BTreeSet<usize> {
        let text = format!("{variant:?}");
        let mut number = |choice: &str| {
            let next = numbers.len();
            *numbers.entry(choice.to_owned()).or_insert(next)
        };
        text.split([',', '{', '}']).map(|choice| number(choice.trim())).collect()
    };
    let choices: Vec<Vec<usize>> =
        variants.iter().map(choices_of).map(|choices| choices.into_iter().collect()).collect();
    let width = numbers.len();
    let mut met: HashMap<Stage, Vec<bool>> = HashMap::new();
    let mut taken = vec![false; variants.len()];
    for at in visit_order(variants.len()) {
        let met = met.entry(variants[at].0).or_insert_with(|| vec![false; width * width]);
        for (index, first) in choices[at].iter().enumerate() {
            for second in &choices[at][index..] {
                taken[at] |= !std::mem::replace(&mut met[first * width + second], true);
            }
        }
    }
    taken
}

/// All numbers below `n`, far ones after each other: neighbours differ in one choice and bring few new pairs.
fn visit_order(n: usize) -> impl Iterator<Item = usize> {
    let stride = (1..).map(|k| n / 3 + k).find(|stride| gcd(*stride, n.max(1)) == 1).unwrap_or(1);
    (0..n).map(move |k| k * stride % n)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The variants that specs, shapes and devices lead to: the workgroup sizes, weight schemes, denominators and numbers
/// that `wgsl::all` has at one value each.
fn configured() -> Vec<(Stage, Variant)> {
    let mut all = Vec::new();
    let gpu = Capabilities::default();
    let wide = |size| Capabilities {
        subgroups: true,
        subgroup_min_size: size,
        subgroup_max_size: size,
        ..Capabilities::default()
    };
    let devices = [
        gpu,
        wide(32),
        Capabilities { subgroup_min_size: 4, ..wide(128) },
        Capabilities { cpu: true, ..gpu },
        Capabilities { cpu: true, ..wide(4) },
        Capabilities { cpu: true, ..wide(8) },
        Capabilities { cpu: true, int64: true, ..wide(8) },
        Capabilities { cpu: true, ..wide(16) },
    ];
    let shapes = [
        Shape::new(1000, 2),
        Shape::new(1000, 10),
        Shape::new(1000, 64),
        Shape::new(1000, 100),
        Shape::new(1000, 1000),
        Shape::new(100, 4096),
        Shape::new(10, 50_257),
        Shape::new(10, 262_144),
        Shape::class_first(2, 19, 64),
    ];
    let options = [Dtype::F32, Dtype::F16, Dtype::Bf16].map(|dtype| Options { dtype, ..Options::default() });
    for caps in devices {
        for shape in shapes {
            for options in options {
                for spec in specs(shape.classes) {
                    if let Ok(config) = Config::with_capabilities(caps, &spec, shape, &options) {
                        let stages = Stage::ALL.into_iter().filter(|stage| !stage.is_binary());
                        let soft = spec.targets == Targets::Soft;
                        let stages = stages.filter(|stage| match stage {
                            Stage::DenominatorRows => !soft,
                            Stage::DenominatorSoft => soft,
                            _ => true,
                        });
                        let variants = stages.map(|stage| (stage, config.variant_of(stage)));
                        all.extend(variants.filter(|(stage, variant)| stage.goes_with(variant)));
                    }
                }
            }
        }
        for spec in binary_specs() {
            let shape = Shape::new(1000, 5);
            if let Ok(config) = BinaryConfig::with_capabilities(caps, &spec, shape, &BinaryOptions::default())
            {
                let stages = Stage::ALL.into_iter().filter(|stage| stage.is_binary());
                all.extend(stages.map(|stage| (stage, config.variant_of(stage))));
            }
        }
    }
    all
}

/// Specs with numbers of all sizes.
fn specs(classes: u32) -> Vec<Spec> {
    let schemes = [
        WeightScheme::Balanced,
        WeightScheme::Inverse,
        WeightScheme::InversePower(0.5),
        WeightScheme::EffectiveNumber(0.99999999),
        WeightScheme::MedianFrequency,
        WeightScheme::LogFrequency(1.02),
    ];
    let live = |scheme| LiveWeights { scheme, ..LiveWeights::default() };
    let mut specs: Vec<Spec> = schemes
        .map(|scheme| Spec { class_weights: ClassWeights::Live(live(scheme)), ..Spec::default() })
        .to_vec();
    specs.push(Spec {
        class_weights: ClassWeights::Live(LiveWeights {
            smoothing: 1e-30,
            min: 1e-20,
            max: 3e38,
            over: ClassesOver::All,
            absent_weight: 1e-40,
            ..live(WeightScheme::EffectiveNumber(0.0))
        }),
        logit_bias: LogitBias::LogPrior { tau: -1.5, smoothing: 1e-10 },
        ..Spec::default()
    });
    let denominators = [
        Denominator::WeightSum,
        Denominator::ValidRows,
        Denominator::SampleWeightSum,
        Denominator::NonZeroWeights,
        Denominator::Rows,
        Denominator::External,
    ];
    specs.extend(denominators.map(|denominator| Spec {
        reduction: Reduction::Mean(denominator),
        sample_weights: SampleWeights::PerRow,
        ignore_index: Some(-1),
        ..Spec::default()
    }));
    let costs = || CostMatrix::from_true_predicted(classes, vec![1.0; (classes * classes) as usize]).ok();
    for targets in [Targets::Labels, Targets::TwoHot, Targets::Soft] {
        for (label_smoothing, focal_gamma, z_loss, logit_scale) in
            [(0.0, 0.0, 0.0, 1.0), (1.0, 1e-30, 1e-30, 1e-30), (0.1, 5.0, 1e-4, 30.0)]
        {
            specs.push(Spec {
                targets,
                label_smoothing,
                focal_gamma,
                z_loss,
                logit_scale,
                weight_scope: WeightScope::PerRow,
                class_weights: ClassWeights::Given(vec![1.0; classes as usize]),
                cost_matrix: if classes <= 100 { costs() } else { None },
                cost_lambda: if classes <= 100 { label_smoothing } else { 0.0 },
                reduction: Reduction::Sum,
                ..Spec::default()
            });
        }
    }
    specs
}

fn binary_specs() -> Vec<BinarySpec> {
    let live = |per_column| PosWeight::Live { per_column, min: 0.0, max: 1e30 };
    let mut specs = vec![
        BinarySpec::default(),
        BinarySpec {
            pos_weight: live(false),
            focal_gamma: 2.0,
            focal_alpha: Some(0.25),
            ..BinarySpec::default()
        },
        BinarySpec {
            pos_weight: live(true),
            label_smoothing: 0.1,
            ignore_value: Some(f32::NAN),
            sample_weights: true,
            ..BinarySpec::default()
        },
    ];
    let denominators = [
        BinaryDenominator::Elements,
        BinaryDenominator::ValidElements,
        BinaryDenominator::WeightSum,
        BinaryDenominator::SampleWeightSum,
        BinaryDenominator::External,
    ];
    specs.extend(denominators.map(|denominator| BinarySpec {
        reduction: BinaryReduction::Mean(denominator),
        ignore_value: Some(-1.0),
        sample_weights: true,
        ..BinarySpec::default()
    }));
    specs
}
