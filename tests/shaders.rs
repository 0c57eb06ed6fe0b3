//! Every variant parses, validates and translates for every back end (naga).
use wgpu_cross_entropy::wgsl;
#[test]
fn parse() {
    let all = wgsl::all();
    println!("{} variants", all.len());
    for (stage, variant) in all {
        let source = wgsl::source(stage, &variant);
        let module = match naga::front::wgsl::parse_str(&source.text) {
            Ok(m) => m,
            Err(e) => panic!("{stage:?} {variant:?}\n{}", e.emit_to_string(&source.text)),
        };
        let mut v = naga::valid::Validator::new(
            naga::valid::ValidationFlags::all(),
            naga::valid::Capabilities::all(),
        );
        v.subgroup_stages(naga::valid::ShaderStages::COMPUTE)
            .subgroup_operations(naga::valid::SubgroupOperationSet::all());
        if let Err(e) = v.validate(&module) {
            panic!("{stage:?} {variant:?}\n{}", e.emit_to_string(&source.text));
        }
    }
}
