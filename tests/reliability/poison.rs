//! No kernel relies on zeroed workgroup memory: with every word of it NaN at first, each gives the same bits.

use crate::binary_steps;
use crate::safety::guarded_flow;
use crate::support::{Batch, all_gpus, cost_matrix, gpus};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use wgpu_cross_entropy::wgsl::{self, Stage, Strategy};
use wgpu_cross_entropy::{
    BinaryConfig, BinaryCrossEntropy, BinaryDenominator, BinaryOptions, BinaryReduction, BinarySpec,
    Capabilities, Clip, ClipOrder, Config, CountsOver, Gpu, LiveCounts, Options, PosWeight, SampleWeights,
    Scores, Shape, Spec, Targets, WeightScheme,
};

/// A text with another first statement in `main`: the invocations fill all workgroup memory with ones, which are NaN as
/// `f32`, and wait for one another. What this does not understand, it panics about.
fn poisoned(text: &str) -> String {
    let mut fill = String::new();
    for declared in variables(text) {
        let declared = declared.strip_prefix("var<workgroup> ").and_then(|rest| rest.strip_suffix(';'));
        let (name, ty) = declared.and_then(|declared| declared.split_once(": ")).expect("a name and a type");
        let array = ty.strip_prefix("array<").and_then(|ty| ty.strip_suffix('>'));
        fill += &match array.and_then(|ty| ty.rsplit_once(", ")) {
            Some((ty, length)) => format!(
                "for (var at = INDEX; at < {length}; at += WORKGROUP_SIZE) {{ {} }} ",
                store(text, ty, &format!("{name}[at]"))
            ),
            // One invocation will do, and all would be a race.
            None => format!("if (INDEX == 0u) {{ {} }} ", store(text, ty, name)),
        };
    }
    let (before, main) = text.split_once("fn main(").expect("an entry point");
    let (parameters, body) = main.split_once(") {").expect("parameters");
    let index = match parameters.split_once("@builtin(local_invocation_index) ") {
        Some((_, rest)) => rest.split(':').next().expect("a name"),
        None => "lane.index",
    };
    let fill = fill.replace("INDEX", index);
    format!(
        "{before}fn main({parameters}) {{ {fill}workgroupBarrier(); {body}\nvar<private> poison: u32 = 0xffffffffu;\n"
    )
}

/// The declarations of workgroup memory.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.contains("var<workgroup>"))
}

fn store(text: &str, ty: &str, place: &str) -> String {
    match ty {
        "atomic<u32>" => format!("atomicStore(&{place}, poison);"),
        _ => format!("{place} = {};", value(text, ty)),
    }
}

/// A value of a type, all of it poison. From a variable: WGSL refuses a constant that is NaN.
fn value(text: &str, ty: &str) -> String {
    match ty {
        "u32" => "poison".to_owned(),
        "f32" => "bitcast<f32>(poison)".to_owned(),
        _ if ty.starts_with("vec") => {
            let of = ty.split(['<', '>']).nth(1).expect("a vector of something");
            format!("{ty}({})", value(text, of))
        }
        _ => {
            let fields = text.split_once(&format!("struct {ty} {{")).expect("a struct of the text").1;
            let fields = fields.split('}').next().expect("its fields").lines().filter_map(|line| {
                let (_, ty) = line.split("//").next()?.split_once(": ")?;
                Some(value(text, ty.trim().trim_end_matches(',')))
            });
            format!("{ty}({})", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

/// What a test does to a text.
#[derive(Clone, Copy, Debug)]
enum Edit {
    /// Nothing.
    Plain,
    /// Fills workgroup memory first.
    Poisoned,
    /// The same, and counters are not cleared: `atomicStore(.., 0)` adds 0 instead.
    Uncleared,
}

/// Where workgroup memory is declared that has been filled.
type Filled = Arc<Mutex<BTreeSet<(Stage, String)>>>;

impl Edit {
    fn of(self, stage: Stage, text: &str, filled: &Filled) -> String {
        let mut edited = text.to_owned();
        if let Self::Uncleared = self {
            for counter in ["found[class_index]", "found[at]", "found_cells[at]", "correct_in_group"] {
                edited =
                    edited.replace(&format!("atomicStore(&{counter},"), &format!("atomicAdd(&{counter},"));
            }
        }
        match self {
            Self::Plain => edited,
            Self::Poisoned | Self::Uncleared if variables(text).count() == 0 => edited,
            Self::Poisoned | Self::Uncleared => {
                let mut filled = filled.lock().expect("no test panics with the lock");
                filled.extend(variables(text).map(|declared| (stage, declared.to_owned())));
                poisoned(&edited)
            }
        }
    }
}

/// GPUs count in workgroup memory, and CPUs do not: as if this were one. But one driver loses increments there
/// (`Variant::count_in_workgroup`).
fn as_gpu(gpu: &Gpu) -> Capabilities {
    let caps = Capabilities::of(&gpu.device);
    Capabilities { cpu: caps.cpu && gpu.info.backend == wgpu::Backend::Gl, ..caps }
}

/// All that the kernels write.
fn outcome(gpu: &Gpu, batch: &Batch, options: &Options, edit: Edit, filled: &Filled) -> Vec<Vec<u32>> {
    let config = Config::with_capabilities(as_gpu(gpu), &batch.spec, batch.shape, options).unwrap();
    let filled = Arc::clone(filled);
    let config = config.with_shaders(move |stage, text| Some(edit.of(stage, text, &filled)));
    guarded_flow(gpu, &config, batch, 0).unwrap()
}

/// A step's output as text, in which every number but NaN has all its bits.
fn binary_outcome(gpu: &Gpu, batch: &binary_steps::Batch, edit: Edit, filled: &Filled) -> String {
    let options = BinaryOptions { workgroup_size: Some(16), ..BinaryOptions::default() };
    let config = BinaryConfig::with_capabilities(as_gpu(gpu), &batch.spec, batch.shape, &options).unwrap();
    let filled = Arc::clone(filled);
    let config = config.with_shaders(move |stage, text| Some(edit.of(stage, text, &filled)));
    let plan = BinaryCrossEntropy::with_config(&gpu.device, config).unwrap();
    format!("{:?}", binary_steps::run_step(gpu, &plan, batch, 0).0)
}

/// Plans that have all kinds of workgroup memory between them.
fn plans() -> Vec<(Spec, Options)> {
    let live = Spec {
        class_weights: WeightScheme::Balanced.into(),
        sample_weights: SampleWeights::PerRow,
        ..Spec::default()
    };
    let mass = LiveCounts { sample_weighted: true, over: CountsOver::Cumulative };
    let early = Clip { eps: 1e-2, order: ClipOrder::BeforeNormalizing };
    let specs = [
        live.clone(),
        Spec { label_smoothing: 0.1, cost_matrix: Some(cost_matrix(5)), ..live.clone() },
        Spec { scores: Scores::SoftmaxProbs(early), ..live.clone() },
        Spec { targets: Targets::Soft, live_counts: mass, ..live.clone() },
        Spec { targets: Targets::TwoHot, live_counts: mass, ..live },
    ];
    // Each strategy, with and without subgroups where they make a difference.
    let strategies = [
        (Strategy::Tile, false),
        (Strategy::Group, true),
        (Strategy::Streaming, true),
        (Strategy::Group, false),
        (Strategy::Resident, false),
        (Strategy::Resident, true),
        (Strategy::Split, false),
        (Strategy::Streaming, false),
    ];
    let options = strategies.map(|(strategy, subgroups)| Options {
        strategy: Some(strategy),
        subgroups: Some(subgroups),
        workgroup_size: Some(16),
        class_stats: true,
        confusion: true,
        grad_out: true,
        ..Options::default()
    });
    specs.into_iter().cycle().zip(options).collect()
}

#[test]
fn no_kernel_relies_on_zeroed_workgroup_memory() {
    let filled = Filled::default();
    let mut compared = 0;
    for gpu in gpus() {
        let began = std::time::Instant::now();
        // It is the text that is tested: where a driver takes seconds to compile one, and where some cannot run, one will do.
        let few = gpu.info.driver.contains("SwiftShader") || gpu.info.backend == wgpu::Backend::Gl;
        for (turn, (spec, options)) in plans().iter().take(if few { 1 } else { 8 }).enumerate() {
            let shape = Shape::new(70, 5);
            let batch = Batch::random(turn as u64, spec, shape);
            let of = |edit| outcome(gpu, &batch, options, edit, &filled);
            let plain = of(Edit::Plain);
            assert!(plain == of(Edit::Poisoned), "{}: {spec:?} {options:?}", gpu.describe());
            compared += 1;
            // A text that relies on zeroes is found.
            if turn == 0 && !as_gpu(gpu).cpu {
                assert!(plain != of(Edit::Uncleared), "{}: the poison does nothing", gpu.describe());
            }
        }
        for per_column in [false, true] {
            let pos_weight = PosWeight::Live { per_column, min: 0.0, max: 100.0 };
            let reduction = BinaryReduction::Mean(BinaryDenominator::WeightSum);
            let spec = BinarySpec { pos_weight, reduction, sample_weights: true, ..BinarySpec::default() };
            let batch = binary_steps::Batch::random(1, &spec, Shape::new(70, 5));
            let of = |edit| binary_outcome(gpu, &batch, edit, &filled);
            assert!(of(Edit::Plain) == of(Edit::Poisoned), "{}: {spec:?}", gpu.describe());
            compared += 1;
        }
        println!("poison: {}: {:?}", gpu.describe(), began.elapsed());
    }
    let filled = filled.lock().expect("no test panics with the lock");
    println!("poison: {compared} plans give the same bits; {} variables of stages were filled", filled.len());
    // Every declaration of every stage was among them, where adapters can be expected to have all of them.
    let all_there = |gpu: &Gpu| gpu.device.features().contains(wgpu::Features::SUBGROUP) && !as_gpu(gpu).cpu;
    if all_gpus().iter().any(all_there) {
        let texts =
            wgsl::all().into_iter().map(|(stage, variant)| (stage, wgsl::source(stage, &variant).text));
        let declared: BTreeSet<(Stage, String)> = texts
            .flat_map(|(stage, text)| {
                variables(&text).map(|declared| (stage, declared.to_owned())).collect::<Vec<_>>()
            })
            .collect();
        let left: Vec<_> = declared.difference(&filled).collect();
        assert!(left.is_empty(), "not filled: {left:#?}");
    }
}
