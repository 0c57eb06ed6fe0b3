//! The shaders as text: every variant keeps its contract and says the same of its layouts as the Rust side. That every
//! back end takes them is `tests/gate`'s and `tests/shader_gate.sh`'s to say.

#[allow(dead_code, reason = "its `main` is an example's")]
#[path = "../examples/print_wgsl.rs"]
mod print_wgsl;

use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use std::mem::offset_of;
use wgpu_cross_entropy::kernels::TotalsWords;
use wgpu_cross_entropy::{BinaryParams, LOGIT_LIMIT, Params, wgsl};
use wgsl::{Source, Stage, Variant};

fn validate(source: &Source, what: &str) -> (naga::Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(&source.text)
        .unwrap_or_else(|error| panic!("{what}\n{}", error.emit_to_string(&source.text)));
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    let info = validator
        .validate(&module)
        .unwrap_or_else(|error| panic!("{what}\n{}", error.emit_to_string(&source.text)));
    (module, info)
}

/// What an engine with pipelines of its own may rely on: entry point `main`, group 0, bindings from 0 without a gap and
/// each one used, at most 8 storage buffers, no two braces in a row, nothing cleared by anyone else.
#[test]
fn the_text_keeps_its_contract() {
    for (stage, variant) in wgsl::all() {
        let what = format!("{stage:?} {variant:?}");
        let source = wgsl::embedded(stage, &variant, &wgsl::Embedding::default());
        let (module, info) = validate(&source, &what);
        assert_eq!(module.overrides.len() + source.constants.len(), 0, "{what}");
        assert_eq!(module.entry_points.len(), 1, "{what}");
        assert_eq!(module.entry_points[0].name, "main", "{what}");
        assert!(!source.text.contains("{{") && !source.text.contains("}}"), "{what}");
        assert!(source.bindings.len() <= 8, "{what}: {} storage buffers", source.bindings.len());
        let mut numbers = Vec::new();
        for (handle, variable) in module.global_variables.iter() {
            if let Some(binding) = &variable.binding {
                assert_eq!(binding.group, 0, "{what}");
                assert!(
                    !info.get_entry_point(0)[handle].is_empty(),
                    "{what}: {:?} is not used",
                    variable.name
                );
                let naga::AddressSpace::Storage { access } = variable.space else {
                    panic!("{what}: {:?} is no storage buffer", variable.name)
                };
                assert!(
                    access.contains(naga::StorageAccess::STORE),
                    "{what}: {:?} is read only",
                    variable.name
                );
                let listed = &source.bindings[binding.binding as usize];
                assert_eq!(
                    listed.read_only,
                    !access.contains(naga::StorageAccess::STORE),
                    "{what}: {listed:?}"
                );
                numbers.push(binding.binding);
            }
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..source.bindings.len() as u32).collect::<Vec<_>>(), "{what}");
    }
}

/// Fields of a WGSL struct: name, offset.
fn fields(module: &naga::Module, name: &str) -> Vec<(String, u32)> {
    let (_, ty) = module
        .types
        .iter()
        .find(|(_, ty)| ty.name.as_deref() == Some(name))
        .unwrap_or_else(|| panic!("no struct {name}"));
    let naga::TypeInner::Struct { members, .. } = &ty.inner else { panic!("{name} is no struct") };
    members.iter().map(|member| (member.name.clone().unwrap_or_default(), member.offset)).collect()
}

/// Lists the fields of a Rust struct with their offsets, in order.
macro_rules! rust_fields {
    ($ty:ty: $($field:ident)*) => {
        vec![$((stringify!($field).to_owned(), offset_of!($ty, $field) as u32)),*]
    };
}

#[test]
fn structs_agree_between_rust_and_wgsl() {
    let variant = Variant { sample_weights: true, ..Variant::default() };
    let (module, _) = validate(&wgsl::source(Stage::CrossEntropy, &variant), "CrossEntropy");
    let params = rust_fields!(Params:
        rows classes row_stride inner first_row groups_x ignore_index sample_weight_divisor
        sample_weight_modulus sample_weights_first_row denominator_rows partials logits_base labels_base
        sample_weights_base grad_out_base logit_grads_base row_losses_base row_stats_base gathered_base target_probs_base
        external_base);
    assert_eq!(fields(&module, "Params"), params);
    assert_eq!(params.len() * 4, size_of::<Params>(), "a field of Params is not listed");
    let mut table = rust_fields!(TotalsWords:
        loss loss_sum denominator weight_sum sample_weight_sum valid_rows ignored_rows out_of_range_rows
        nonfinite_rows first_bad_row correct_rows nonzero_rows grad_scale reserved_1 nonfinite_weights reserved_3);
    table.push(("values".into(), wgpu_cross_entropy::kernels::TOTALS_SIZE as u32));
    assert_eq!(fields(&module, "Table"), table);
    assert_eq!(size_of::<TotalsWords>() as u64, wgpu_cross_entropy::kernels::TOTALS_SIZE);
}

#[test]
fn structs_of_sigmoid_losses_agree_between_rust_and_wgsl() {
    let (module, _) = validate(&wgsl::source(Stage::BinaryElements, &Variant::default()), "BinaryElements");
    let params = rust_fields!(BinaryParams:
        elements columns row_stride inner block first_within first_row batch_elements groups_x partials partials_at
        positions column_groups focal_gamma alpha_positive alpha_negative smoothing_scale smoothing_half
        clip_eps clip_least clip_logit clip_odds log_eps threshold ignore_value pos_weight_min pos_weight_max logits_base targets_base element_weights_base
        sample_weights_base grad_out_base logit_grads_base element_losses_base binary_counts_base external_base);
    assert_eq!(fields(&module, "Params"), params);
    assert_eq!(params.len() * 4, size_of::<BinaryParams>(), "a field of BinaryParams is not listed");
    // The totals are the softmax's, word by word.
    let (softmax, _) = validate(&wgsl::source(Stage::CrossEntropy, &Variant::default()), "CrossEntropy");
    let mut table = fields(&softmax, "Table");
    for (softmax, sigmoid) in [("reserved_1", "correct_weight"), ("nonfinite_weights", "reserved_2")] {
        table.iter_mut().find(|(name, _)| name == softmax).expect("a word of the table").0 = sigmoid.into();
    }
    assert_eq!(fields(&module, "Table"), table);
    // A partial sum takes eleven words of the table, and the shader says so.
    let words = fields(&module, "Sums").len();
    let (_, constant) = module
        .constants
        .iter()
        .find(|(_, constant)| constant.name.as_deref() == Some("SUMS_WORDS"))
        .expect("a constant SUMS_WORDS");
    let naga::Expression::Literal(naga::Literal::U32(value)) = module.global_expressions[constant.init]
    else {
        panic!("SUMS_WORDS is no literal")
    };
    assert_eq!((words, value), (11, 11));
}

/// Partial sums are as large as the scratch that the host makes for them.
#[test]
fn partial_sums_fit_their_scratch() {
    use wgpu_cross_entropy::kernels::{DenominatorKernel, LossTotalKernel};
    for (stage, size) in [
        (Stage::DenominatorRows, DenominatorKernel::partials_size(wgpu_cross_entropy::Targets::Labels, 1)),
        (Stage::LossTotalRows, LossTotalKernel::partials_size(1)),
    ] {
        let (module, _) = validate(&wgsl::source(stage, &Variant::default()), stage.file());
        let (_, ty) =
            module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some("Sums")).expect("a struct Sums");
        let naga::TypeInner::Struct { span, .. } = ty.inner else { panic!("Sums is no struct") };
        assert_eq!(u64::from(span), size, "{stage:?}");
    }
}

/// The telemetry lies as the host decodes it.
#[test]
fn the_telemetry_agrees() {
    use wgpu_cross_entropy::{ClassStats, TelemetryLayout};
    let (module, _) =
        validate(&wgsl::source(Stage::LossTotalClasses, &Variant::default()), "LossTotalClasses");
    let constant = |name: &str| {
        let (_, constant) = module
            .constants
            .iter()
            .find(|(_, constant)| constant.name.as_deref() == Some(name))
            .unwrap_or_else(|| panic!("no constant {name}"));
        match module.global_expressions[constant.init] {
            naga::Expression::Literal(naga::Literal::U32(value)) => u64::from(value),
            _ => panic!("{name} is no literal"),
        }
    };
    for (name, byte) in [
        ("CLASS_WORDS", TelemetryLayout::CLASS_SIZE),
        ("ROWS_AT", TelemetryLayout::ROWS),
        ("CORRECT_AT", TelemetryLayout::CORRECT),
        ("UNSUMMED_AT", TelemetryLayout::UNSUMMED),
        ("LOSS_AT", TelemetryLayout::LOSS),
        ("WEIGHT_AT", TelemetryLayout::WEIGHT),
        ("CORRECT_WEIGHT_AT", TelemetryLayout::CORRECT_WEIGHT),
    ] {
        assert_eq!(constant(name) * 4, byte, "{name}");
    }
    let source = wgsl::source(Stage::LossTotalClasses, &Variant::default());
    assert!(source.text.contains(&format!("< {:#x}u", ClassStats::SUM_LIMIT.to_bits())), "SUM_LIMIT");
}

/// The one number that both sides clamp logits to.
#[test]
fn the_logit_limit_agrees() {
    let (module, _) = validate(&wgsl::source(Stage::CrossEntropy, &Variant::default()), "CrossEntropy");
    let (_, constant) = module
        .constants
        .iter()
        .find(|(_, constant)| constant.name.as_deref() == Some("LOGIT_LIMIT"))
        .expect("a constant LOGIT_LIMIT");
    let naga::Expression::Literal(naga::Literal::F32(value)) = module.global_expressions[constant.init]
    else {
        panic!("LOGIT_LIMIT is no literal")
    };
    assert_eq!(value, LOGIT_LIMIT);
}

/// What `print_wgsl` prints is a whole module, and its header tells the truth about it.
#[test]
fn print_wgsl_prints_what_can_be_pasted() {
    let run = |arguments: &[&str]| {
        print_wgsl::asked(lexopt::Parser::from_args(arguments)).and_then(|asked| print_wgsl::printed(&asked))
    };
    let cases: [&[&str]; 6] = [
        &["cross_entropy"],
        &["cross_entropy", "--f16", "--classes", "100", "--live-weights", "--in-place"],
        &["cross_entropy_forward", "--classes", "1000", "--subgroups", "32", "--label-smoothing", "0.1"],
        &["denominator/soft", "--targets", "soft", "--sample-weights"],
        &["class_weights/weights", "--live-weights"],
        &["binary_cross_entropy/elements", "--read"],
    ];
    for arguments in cases {
        let text = run(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        let source = Source { text: text.clone(), bindings: Vec::new(), constants: Vec::new() };
        let (module, _) = validate(&source, &format!("{arguments:?}"));
        assert!(module.overrides.is_empty(), "{arguments:?}");
        let bindings =
            module.global_variables.iter().filter(|(_, variable)| variable.binding.is_some()).count();
        assert_eq!(text.matches("// @group(0) @binding(").count(), bindings, "{arguments:?}");
        let size = module.entry_points[0].workgroup_size[0];
        assert!(text.contains(&format!("workgroups of {size}; params.groups_x")), "{arguments:?}");
    }
    assert_eq!(run(&["--list"]).expect("a list").lines().count(), Stage::ALL.len());
    let message = run(&["denominator"]).expect_err("not one text").to_string();
    assert!(message.ends_with("denominator/rows, denominator/soft, denominator/finish"), "{message}");
}
