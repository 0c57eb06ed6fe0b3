//! The `rust-version` of this crate is what its dependencies need: no less, and no more.

use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::process::Command;

/// `cargo metadata` for all features and all targets. Offline first, for a test needs no network as a rule; it does
/// once where cargo has never fetched the packages of other platforms.
fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let run = |offline: &[&str]| {
        Command::new(&cargo)
            .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
            .args(offline)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs")
    };
    let mut output = run(&["--offline"]);
    if !output.status.success() {
        output = run(&[]);
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

/// `1.87` and `1.87.0` are one version.
fn version(text: &str) -> [u32; 3] {
    let mut numbers = text.split('.').map(|part| part.parse().expect("a number"));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn rust_version_is_what_the_dependencies_need() {
    let metadata = metadata();
    let by_id = |entries| -> HashMap<&str, &Value> {
        list(entries).iter().map(|entry| (text(&entry["id"]), entry)).collect()
    };
    let packages = by_id(&metadata["packages"]);
    let nodes = by_id(&metadata["resolve"]["nodes"]);
    let root = text(&metadata["resolve"]["root"]);

    // What a user of this crate builds: everything but development dependencies.
    let mut seen = HashSet::new();
    let mut open = vec![root];
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        for dependency in list(&nodes[id]["deps"]) {
            if list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev") {
                open.push(text(&dependency["pkg"]));
            }
        }
    }
    seen.remove(root);
    assert!(seen.len() > 10, "only {} dependencies were found", seen.len());

    let needs = |id: &str| packages[id]["rust_version"].as_str().map(version);
    let highest = seen.iter().copied().max_by_key(|id| needs(id)).expect("wgpu is one");
    assert_eq!(needs(root), needs(highest), "rust-version of Cargo.toml, and what {highest} needs");
}
