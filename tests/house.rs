//! One stem, five places: a kernel's shader, its host side, its oracle, its tests and its benchmark share one name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The kernels, in the order of the alphabet.
const STEMS: [&str; 10] = [
    "binary_counts",
    "binary_cross_entropy",
    "class_counts",
    "class_weights",
    "cost_gather",
    "cross_entropy",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "denominator",
    "loss_total",
];

/// Each place, and what lies there beside the kernels.
const PLACES: [(&str, &[&str]); 5] = [
    ("shaders", &["parts"]),
    ("src/kernels", &["mod", "table"]),
    ("src/cpu", &["mod"]),
    ("tests/kernels", &["main", "support", "errors", "labels", "properties"]),
    ("benches/kernels", &["main", "support", "data"]),
];

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_kernel_has_the_same_name_in_all_places() {
    let expected: BTreeSet<String> = STEMS.iter().map(|stem| (*stem).to_owned()).collect();
    let mut wrong = Vec::new();
    for (place, others) in PLACES {
        let stem = |path: &PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let mut found: BTreeSet<String> = entries(&root().join(place)).iter().filter_map(stem).collect();
        found.retain(|stem| !others.contains(&stem.as_str()));
        let missing: Vec<_> = expected.difference(&found).collect();
        let extra: Vec<_> = found.difference(&expected).collect();
        if !missing.is_empty() || !extra.is_empty() {
            wrong.push(format!("{place} lacks {missing:?} and has {extra:?} besides"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_shader_says_what_it_does_in_its_first_line() {
    let mut folders = vec![root().join("shaders")];
    let mut shaders = 0;
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            let first = text.lines().next().unwrap_or_default();
            let words = first.strip_prefix("// ").map_or(0, |comment| comment.split_whitespace().count());
            assert!(words >= 3, "{} starts with {first:?}, not with what it does", path.display());
            shaders += 1;
        }
    }
    assert!(shaders > STEMS.len(), "only {shaders} shaders were found");
}

/// The page's snippets are compiled as tests of that package's docs, which takes all of burn; a check of its example takes
/// less, and is in CI.
#[test]
fn the_snippets_for_burn_are_those_of_its_example() {
    let read = |path: &str| std::fs::read_to_string(root().join(path));
    // The published package has the page, and not the example.
    let Ok(example) = read("integrations/burn/examples/snippets.rs") else { return };
    let page = read("docs/burn.md").expect("the page");
    let example: Vec<&str> = example.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    let mut snippets = 0;
    for block in page.split("```rust").skip(1) {
        let (_, code) = block.split_once('\n').expect("a line after the fence");
        let code = code.split("```").next().unwrap_or_default();
        let lines: Vec<&str> = code.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)).collect();
        let found = example.windows(lines.len()).any(|part| part == lines);
        assert!(found, "this snippet of docs/burn.md is not in the example:\n{code}");
        snippets += 1;
    }
    assert!(snippets > 0, "docs/burn.md has no snippets");
}
