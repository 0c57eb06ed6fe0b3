//! A fuzzer of everything that is loaded: folders of golden cases (`examples/check_cases.rs` reads them), saved count
//! histories, telemetry. What is malformed gives an error; nothing panics.
//!
//! `WGPU_CROSS_ENTROPY_FUZZ_FILES=100000` is a longer run, `WGPU_CROSS_ENTROPY_FUZZ_SEED` another one.

use crate::cases::{self, Stop};
use crate::golden::{Goldens, INDEX, read_index};
use proptest::collection::vec;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use wgpu_cross_entropy::{
    ClassStats, ClassWeights, CountHistory, CountsOver, LiveCounts, Spec, TelemetryLayout, Totals,
    WeightScheme,
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

/// Small groups of every kind: labels, soft targets, probabilities, 16 bits, weights, generated inputs.
const GROUPS: [&str; 9] = [
    "effective_number",
    "keras_bce",
    "keras_probs",
    "keras_temporal",
    "sklearn_weights",
    "torch_ce_edge",
    "torch_ce_half",
    "torch_ce_soft",
    "torch_nll",
];

fn environment(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// Puts something else in the place of one value anywhere below, takes it away, or gives it another name.
fn spoil(value: &mut Value, rng: &mut StdRng) {
    let deeper = rng.random_range(0..8) != 0;
    match value {
        Value::Object(map) if deeper && !map.is_empty() => {
            let key = map.keys().nth(rng.random_range(0..map.len())).cloned().unwrap_or_default();
            match rng.random_range(0..12) {
                0 => drop(map.remove(&key)),
                1 => {
                    let taken = map.remove(&key).unwrap_or_default();
                    map.insert(format!("{key}_"), taken);
                }
                _ => map.get_mut(&key).into_iter().for_each(|below| spoil(below, rng)),
            }
        }
        Value::Array(list) if deeper && !list.is_empty() => {
            let at = rng.random_range(0..list.len());
            match rng.random_range(0..8) {
                0 => drop(list.remove(at)),
                1 => list.push(list[at].clone()),
                _ => spoil(&mut list[at], rng),
            }
        }
        // Lengths of some millions would only be slow.
        _ => {
            *value = match rng.random_range(0..16) {
                0 => Value::Null,
                1 => json!(0),
                2 => json!(-1),
                3 => json!(1),
                4 => json!(rng.random_range(0..1000)),
                5 => json!(u64::MAX),
                6 => json!(i64::MIN),
                7 => json!(1u64 << 32),
                8 => json!(1e300),
                9 => json!(-0.5),
                10 => json!("labels"),
                11 => json!("F16"),
                12 => json!([]),
                13 => json!({}),
                14 => json!([0, u64::MAX, 3]),
                _ => json!(true),
            }
        }
    }
}

/// Changes some bytes: bits, whole bytes, a length, the end.
fn spoil_bytes(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..4) {
        if bytes.is_empty() {
            return;
        }
        // The header is the first few thousand bytes.
        let within = if rng.random() { bytes.len() } else { bytes.len().min(2000) };
        let at = rng.random_range(0..within);
        match rng.random_range(0..6) {
            0 => bytes.truncate(at),
            1 => bytes.extend([0; 8]),
            2 => bytes[at] = rng.random(),
            3 => bytes[..8.min(at)].fill(rng.random()),
            4 => drop(bytes.drain(at..(at + 4).min(bytes.len()))),
            _ => bytes[at] ^= 1 << rng.random_range(0..8),
        }
    }
}

/// Reads a folder of one case, and asks the oracle whatever it asks.
fn read_and_solve(index: &[u8], files: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    let read = |name: &str| {
        files.get(name).cloned().ok_or_else(|| crate::golden::Error(format!("{name}: there is no such file")))
    };
    let listed = read_index(index).map_err(|error| error.to_string())?;
    let goldens = Goldens::new(listed, read).map_err(|error| error.to_string())?;
    for case in &goldens.cases {
        match cases::work(&goldens, case) {
            Ok(work) => drop(work.solve().map_err(|error| error.to_string())?),
            Err(Stop::Unsupported { reason }) => return Err(reason),
            Err(Stop::Malformed(what)) => return Err(what),
        }
    }
    Ok(())
}

#[test]
fn folders_of_cases() {
    let read = |name: &str| std::fs::read(Path::new(FOLDER).join(name)).unwrap();
    let index: Value = serde_json::from_slice(&read(INDEX)).unwrap();
    let small = |case: &&Value| GROUPS.contains(&case["group"].as_str().unwrap_or_default());
    let listed: Vec<&Value> = index["cases"].as_array().unwrap().iter().filter(small).collect();
    let whole: BTreeMap<String, Vec<u8>> = GROUPS
        .iter()
        .map(|group| format!("{group}.safetensors"))
        .map(|name| (name.clone(), read(&name)))
        .collect();

    let (runs, seed) =
        (environment("WGPU_CROSS_ENTROPY_FUZZ_FILES", 3000), environment("WGPU_CROSS_ENTROPY_FUZZ_SEED", 1));
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut sound, mut refused, mut panics) = (0, 0, Vec::new());
    for _ in 0..runs {
        let mut case = listed[rng.random_range(0..listed.len())].clone();
        let name = case["file"].as_str().unwrap().to_owned();
        let mut files = BTreeMap::from([(name.clone(), whole[&name].clone())]);
        match rng.random_range(0..4) {
            0 => spoil_bytes(files.get_mut(&name).unwrap(), &mut rng),
            _ => (0..rng.random_range(1..3)).for_each(|_| spoil(&mut case, &mut rng)),
        }
        let mut bytes = serde_json::to_vec(&json!({ "format": "loss-goldens-1", "cases": [case] })).unwrap();
        if rng.random_range(0..8) == 0 {
            spoil_bytes(&mut bytes, &mut rng);
        }
        match catch_unwind(AssertUnwindSafe(|| read_and_solve(&bytes, &files))) {
            Ok(Ok(())) => sound += 1,
            Ok(Err(why)) => {
                assert!(!why.is_empty());
                refused += 1;
            }
            Err(_) => panics.push(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }
    println!(
        "files: seed {seed}: {runs} spoiled folders, {refused} refused with a reason, {sound} still sound"
    );
    assert!(panics.is_empty(), "{} panics, the first at\n{}", panics.len(), panics[0]);
    assert!(refused > runs / 4 && sound > 0, "{refused} refused, {sound} sound of {runs}");
}

fn histories() -> impl Strategy<Value = CountHistory> {
    let over = prop_oneof![
        (0.0f32..0.9999).prop_map(|momentum| CountsOver::Ema { momentum }),
        Just(CountsOver::Cumulative)
    ];
    (over, 1u32..9).prop_map(|(over, classes)| {
        let class_weights: ClassWeights = WeightScheme::Balanced.into();
        let live_counts = LiveCounts { over, ..LiveCounts::default() };
        CountHistory::new(&Spec { class_weights, live_counts, ..Spec::default() }, classes).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A history that is taken is the bytes that were given, and answers all questions; any other is an error.
    #[test]
    fn saved_histories(history in histories(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..5), cut in 0usize..12) {
        let mut bytes = history.as_bytes().to_vec();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(bytes.len() - cut.saturating_sub(8));
        match CountHistory::from_bytes(&bytes) {
            Ok(read) => {
                prop_assert_eq!(read.as_bytes(), &bytes[..]);
                prop_assert!(read.counts().iter().all(|count| !count.is_nan()), "{:?}", read.counts());
                let _ = read.steps();
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..400), classes in prop_oneof![0u32..4, Just(u32::MAX)], confusion: bool) {
        let _ = CountHistory::from_bytes(&bytes);
        let need = TelemetryLayout::new(classes % 4, confusion).size();
        let stats = ClassStats::from_bytes(classes % 4, confusion, &bytes);
        prop_assert_eq!(stats.is_ok(), bytes.len() as u64 == need);
        prop_assert_eq!(Totals::from_bytes(&bytes).is_some(), bytes.len() >= 64);
        // More classes than memory has bytes.
        if classes == u32::MAX {
            prop_assert!(ClassStats::from_bytes(classes, confusion, &bytes).is_err());
        }
    }

    /// Telemetry of any content is numbers.
    #[test]
    fn any_telemetry(words in vec(any::<u32>(), 2 * 16 + 8)) {
        let stats = ClassStats::from_bytes(2, true, bytemuck::cast_slice(&words)).unwrap();
        prop_assert!(stats.loss.iter().chain(&stats.weight).chain(&stats.correct_weight).all(|sum| sum.is_finite()));
    }
}
