//! The golden cases of Keras, PyTorch and scikit-learn on a device: the first Vulkan adapter, or the first of all
//! where there is none. `examples/check_cases.rs` takes every adapter and any folder.

#[path = "support/cases.rs"]
mod cases;
#[path = "support/golden.rs"]
mod golden;
#[path = "support/on_device.rs"]
mod on_device;
#[path = "support/rules.rs"]
mod rules;
#[path = "support/work.rs"]
mod work;

use std::collections::BTreeMap;
use std::io::Write;

use cases::Stop;
use golden::Goldens;
use on_device::{Device, RUN};
use wgpu_cross_entropy::{DeviceOptions, Gpu};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

#[test]
fn a_device_equals_the_frameworks() {
    let mut gpus = pollster::block_on(Gpu::all(&DeviceOptions::default()));
    gpus.sort_by_key(|gpu| gpu.info.backend != wgpu::Backend::Vulkan);
    let mut device = Device::new(gpus.into_iter().next().expect("an adapter"));
    let goldens = Goldens::open(FOLDER).unwrap();
    let mut run: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for case in &goldens.cases {
        let work = match cases::work(&goldens, case) {
            Ok(work) => work,
            Err(Stop::Unsupported { .. }) => continue,
            Err(Stop::Malformed(what)) => panic!("{}: {what}", case.id()),
        };
        let solved = work.solve().unwrap();
        match pollster::block_on(device.answers(&work.calls, &solved)) {
            Err(refusal) => failures.push(format!("{}: {refusal}", case.id())),
            Ok(answers) => {
                let oracle: Vec<_> = solved.into_iter().map(|solved| solved.answer).collect();
                let wrong = work.failures(&answers, Some(&oracle));
                failures.extend(wrong.iter().map(|failure| format!("{}: {failure}", case.id())));
            }
        }
        *run.entry(&case.op).or_default() += 1;
    }
    // Written past the test harness, which keeps what passing tests print: CI shows how many cases ran.
    let mut out = std::io::stdout();
    writeln!(out, "\ngolden cases on {}:", device.describe()).unwrap();
    for (op, run) in &run {
        writeln!(out, "{op:<32}{run:>6}").unwrap();
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(run.into_iter().collect::<Vec<_>>(), RUN);
}
