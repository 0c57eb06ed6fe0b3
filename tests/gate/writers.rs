//! naga's back ends, set up as wgpu sets them up.

use naga::back::{glsl, hlsl, msl, pipeline_constants, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{Module, ShaderStage};
use std::fmt::Display;

use super::forms::Job;
use wgpu_cross_entropy::wgsl::Source;

const STAGE: ShaderStage = ShaderStage::Compute;

/// A validated module, its pipeline constants replaced by their values.
pub struct Program {
    module: Module,
    info: ModuleInfo,
}

/// Parses and validates a text, and sets its constants.
pub fn validated(source: &Source) -> Result<Program, String> {
    let module =
        naga::front::wgsl::parse_str(&source.text).map_err(|error| error.emit_to_string(&source.text))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|error| error.emit_to_string(&source.text))?;
    let constants = source.constants.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    let (module, info) =
        pipeline_constants::process_overrides(&module, &info, Some((STAGE, "main")), &constants)
            .map_err(|error| error.to_string())?;
    Ok(Program { module: module.into_owned(), info: info.into_owned() })
}

/// One back end in one version.
pub struct Target {
    /// Its name: of the folder and in the list.
    pub name: &'static str,
    /// What its files end with; none where no other compiler looks at them.
    pub ending: Option<&'static str>,
    writer: Writer,
}

enum Writer {
    Spirv(u8, u8),
    Msl(u8, u8),
    Hlsl(hlsl::ShaderModel),
    Glsl(glsl::Version),
}

impl Target {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self { name: "spirv_1_3", ending: Some("spv"), writer: Writer::Spirv(1, 3) },
        Self { name: "spirv_1_6", ending: Some("spv"), writer: Writer::Spirv(1, 6) },
        Self { name: "msl_2_4", ending: None, writer: Writer::Msl(2, 4) },
        Self { name: "msl_3_2", ending: None, writer: Writer::Msl(3, 2) },
        Self { name: "hlsl_6_0", ending: Some("hlsl"), writer: Writer::Hlsl(hlsl::ShaderModel::V6_0) },
        Self { name: "hlsl_6_6", ending: Some("hlsl"), writer: Writer::Hlsl(hlsl::ShaderModel::V6_6) },
        Self { name: "essl_310", ending: Some("comp"), writer: Writer::Glsl(glsl::Version::new_gles(310)) },
        Self { name: "glsl_430", ending: Some("comp"), writer: Writer::Glsl(glsl::Version::Desktop(430)) },
    ];

    /// Why this text is not meant for this back end, if it is not.
    pub fn hole(&self, job: &Job) -> Option<&'static str> {
        let glsl = matches!(self.writer, Writer::Glsl(_));
        let f16 = job.source.text.contains("enable f16;");
        match () {
            () if glsl && job.subgroups => Some("no-subgroups-on-gl"),
            () if glsl && f16 => Some("no-f16-on-gl"),
            () if glsl && job.int64 => Some("no-64-bit-words-on-gl"),
            () => None,
        }
    }

    /// Whether DXC takes what this one writes.
    pub fn is_hlsl(&self) -> bool {
        matches!(self.writer, Writer::Hlsl(_))
    }

    /// The translation.
    pub fn write(&self, program: &Program, checks: bool) -> Result<Vec<u8>, String> {
        let Program { module, info } = program;
        let policy = if checks { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked };
        let policies =
            BoundsCheckPolicies { index: policy, buffer: policy, image_load: policy, binding_array: policy };
        match self.writer {
            Writer::Spirv(major, minor) => {
                use spv::ZeroInitializeWorkgroupMemoryMode as Zero;
                let options = spv::Options {
                    lang_version: (major, minor),
                    bounds_check_policies: policies,
                    zero_initialize_workgroup_memory: if checks { Zero::Polyfill } else { Zero::None },
                    force_loop_bounding: checks,
                    emit_int_div_checks: checks,
                    ..Default::default()
                };
                let pipeline = spv::PipelineOptions { shader_stage: STAGE, entry_point: "main".into() };
                let words = spv::write_vec(module, info, &options, Some(&pipeline)).map_err(text)?;
                Ok(words.into_iter().flat_map(u32::to_le_bytes).collect())
            }
            Writer::Msl(major, minor) => {
                let options = msl::Options {
                    lang_version: (major, minor),
                    fake_missing_bindings: true,
                    bounds_check_policies: policies,
                    zero_initialize_workgroup_memory: checks,
                    force_loop_bounding: checks,
                    emit_int_div_checks: checks,
                    ..Default::default()
                };
                let (written, _) =
                    msl::write_string(module, info, &options, &msl::PipelineOptions::default())
                        .map_err(text)?;
                entry(written, "kernel void main_(")
            }
            Writer::Hlsl(shader_model) => {
                let options = hlsl::Options {
                    shader_model,
                    fake_missing_bindings: true,
                    zero_initialize_workgroup_memory: checks,
                    restrict_indexing: checks,
                    force_loop_bounding: checks,
                    ..Default::default()
                };
                let mut written = String::new();
                hlsl::Writer::new(&mut written, &options, &hlsl::PipelineOptions::default())
                    .write(module, info, None)
                    .map_err(text)?;
                entry(written, "[numthreads(")
            }
            Writer::Glsl(version) => {
                // A number for each buffer, as wgpu gives them on GL.
                let bindings = module.global_variables.iter().filter_map(|(_, variable)| variable.binding);
                let options = glsl::Options {
                    version,
                    binding_map: bindings.map(|binding| (binding, binding.binding as u8)).collect(),
                    zero_initialize_workgroup_memory: checks,
                    ..Default::default()
                };
                let pipeline = glsl::PipelineOptions {
                    shader_stage: STAGE,
                    entry_point: "main".into(),
                    multiview: None,
                };
                let mut written = String::new();
                glsl::Writer::new(&mut written, module, info, &options, &pipeline, policies)
                    .and_then(|mut writer| writer.write())
                    .map_err(text)?;
                // naga writes `mix` for `select`, which takes integers from GLSL 4.50 and ESSL 3.10 on, and does not say
                // that it takes them below 4.50 by an extension; drivers do not insist.
                if version == glsl::Version::Desktop(430) {
                    let (first, rest) = written.split_once('\n').ok_or("no line")?;
                    written = format!("{first}\n#extension GL_EXT_shader_integer_mix : require\n{rest}");
                }
                entry(written, "void main(")
            }
        }
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

/// The text, if it has an entry point.
fn entry(written: String, mark: &str) -> Result<Vec<u8>, String> {
    match written.contains(mark) {
        true => Ok(written.into_bytes()),
        false => Err(format!("there is no {mark:?} in what was written")),
    }
}
