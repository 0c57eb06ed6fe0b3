//! The examples for engines, on every adapter: by text alone, and with a plan recorded between the engine's own passes;
//! and the one for testers.

#[path = "../examples/check_my_loss.rs"]
#[allow(dead_code, reason = "the example's main is not called")]
mod check_my_loss;
#[path = "../examples/embed_plan.rs"]
#[allow(dead_code, reason = "the example's main is not called")]
mod embed_plan;
#[path = "../examples/embed_text.rs"]
#[allow(dead_code, reason = "the example's main is not called")]
mod embed_text;

use wgpu_cross_entropy::tolerance::Worst;
use wgpu_cross_entropy::wgsl::Strategy;
use wgpu_cross_entropy::{Options, Visits, wgpu};

/// Every adapter that computes; one at least.
async fn adapters() -> Vec<wgpu::Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let mut adapters = instance.enumerate_adapters(wgpu::Backends::all()).await;
    adapters.retain(|adapter| {
        let computes = wgpu::DownlevelFlags::COMPUTE_SHADERS;
        adapter.get_downlevel_capabilities().flags.contains(computes)
    });
    assert!(!adapters.is_empty(), "there is no adapter, software or not");
    adapters
}

fn assert_passed(adapter: &wgpu::Adapter, what: &str, outputs: &[Worst]) {
    let info = adapter.get_info();
    assert!(outputs.len() >= 3, "{what} compares too little");
    for worst in outputs {
        println!("{} ({}), {what}: {worst}", info.name, info.backend);
        assert!(worst.passed(), "{} ({}), {what}: {worst}", info.name, info.backend);
    }
}

#[test]
fn an_engine_with_pipelines_of_its_own() {
    pollster::block_on(async {
        for adapter in adapters().await {
            for visits in [Visits::Fused, Visits::Split] {
                // The table's strategy, and the one with dispatches of its own.
                for strategy in [None, Some(Strategy::Split)] {
                    let options = Options { strategy, ..Options::default() };
                    let outputs = embed_text::check(&adapter, visits, &options).await.expect("a sound step");
                    assert_passed(&adapter, &format!("embed_text, {visits:?}, {strategy:?}"), &outputs);
                }
            }
        }
    });
}

#[test]
fn an_engine_that_records_the_plan() {
    pollster::block_on(async {
        for adapter in adapters().await {
            let outputs = embed_plan::check(&adapter).await.expect("a sound step");
            assert_passed(&adapter, "embed_plan", &outputs);
        }
    });
}

#[test]
fn a_loss_of_ones_own() {
    let [sound, textbook] = check_my_loss::check().expect("sound inputs");
    assert!(sound.passed(), "{sound}");
    let failures: Vec<_> = textbook.failures().map(|worst| worst.name).collect();
    assert!(failures.contains(&"logit_grads"), "{textbook}");
}
