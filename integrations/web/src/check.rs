//! The golden cases of Keras, PyTorch and scikit-learn on the browser's device: the same loader, mapping, oracle and
//! tolerances as in the native tests, the files from the server.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value as Json, json};
use wasm_bindgen::prelude::*;
use wgpu_cross_entropy::Options;
use wgpu_cross_entropy::wgsl::Strategy;

use crate::cases::{self, Stop};
use crate::golden::{self, Case, Goldens};
use crate::{on_device, work};

/// A folder of cases that is being fetched.
#[wasm_bindgen]
pub struct Folder {
    cases: Vec<Case>,
    files: BTreeMap<String, Vec<u8>>,
}

#[wasm_bindgen]
impl Folder {
    /// From the bytes of `index.json`.
    #[wasm_bindgen(constructor)]
    pub fn new(index: &[u8]) -> Result<Folder, JsError> {
        Ok(Self { cases: golden::read_index(index)?, files: BTreeMap::new() })
    }

    /// The names of the files to be fetched from beside it.
    pub fn files(&self) -> Vec<String> {
        golden::files_of(&self.cases).into_iter().map(str::to_owned).collect()
    }

    /// Takes a file.
    pub fn add(&mut self, name: String, bytes: Vec<u8>) {
        self.files.insert(name, bytes);
    }

    /// The cases, once all files are here.
    pub fn open(self) -> Result<Golden, JsError> {
        let Self { cases, mut files } = self;
        let read = |name: &str| {
            files.remove(name).ok_or_else(|| golden::Error(format!("{name} has not been fetched")))
        };
        Ok(Golden { goldens: Rc::new(Goldens::new(cases, read)?) })
    }
}

/// All cases, in memory.
#[wasm_bindgen]
pub struct Golden {
    goldens: Rc<Goldens>,
}

#[wasm_bindgen]
impl Golden {
    /// A run over them. `workgroups` forces the kernels that share a row out among the invocations of a workgroup, as
    /// GPUs get them for wide rows, on some cases of each op; else the device gets what the crate chooses for it, in all
    /// cases. The text is the same in every size of workgroup; with 32 invocations a software adapter has less to switch
    /// between.
    pub fn check(&self, device: &crate::Device, workgroups: bool) -> Check {
        let options = match workgroups {
            true => Options {
                strategy: Some(Strategy::Streaming),
                workgroup_size: Some(32),
                ..Options::default()
            },
            false => Options::default(),
        };
        Check {
            goldens: Rc::clone(&self.goldens),
            device: on_device::Device::with_options(device.gpu.clone(), options),
            every: if workgroups { 8 } else { 1 },
            met: BTreeMap::new(),
        }
    }
}

/// A run over the golden cases.
#[wasm_bindgen]
pub struct Check {
    goldens: Rc<Goldens>,
    device: on_device::Device,
    /// Of how many cases of an op one runs.
    every: usize,
    /// Cases that the crate can say, by op.
    met: BTreeMap<String, usize>,
}

#[wasm_bindgen]
impl Check {
    /// How many cases there are, those that the crate cannot say among them.
    pub fn cases(&self) -> usize {
        self.goldens.cases.len()
    }

    /// How many cases have to run.
    pub fn expected(&self) -> usize {
        on_device::RUN.iter().map(|(_, cases)| cases.div_ceil(self.every)).sum()
    }

    /// Where the counts of cases that the crate can say are not as they have to be: each op, what came and what has to.
    pub fn miscounted(&self) -> Vec<String> {
        let met = |op: &str| self.met.get(op).copied().unwrap_or(0);
        let wrong = on_device::RUN.iter().filter(|(op, cases)| met(op) != *cases);
        let unknown = self.met.iter().filter(|(op, _)| on_device::RUN.iter().all(|(known, _)| known != op));
        wrong
            .map(|(op, cases)| format!("{op}: {} of {cases} cases came", met(op)))
            .chain(unknown.map(|(op, met)| format!("{op}: {met} cases came, and none was expected")))
            .collect()
    }

    /// Runs a case: JSON of `case`, `verdict` (`passed`, `failed`, `skipped`: not for the
    /// crate to say, `left_out`: of which others run) and `messages`.
    pub async fn run(&mut self, index: usize) -> Result<String, JsError> {
        let goldens = Rc::clone(&self.goldens);
        let case = goldens.cases.get(index).ok_or_else(|| JsError::new("there is no such case"))?;
        let verdict = |verdict: &str, messages: Vec<String>| json!({ "case": case.id(), "verdict": verdict, "messages": messages });
        let work = match cases::work(&goldens, case) {
            Ok(work) => work,
            Err(Stop::Unsupported { reason }) => return Ok(verdict("skipped", vec![reason]).to_string()),
            Err(Stop::Malformed(what)) => return Ok(verdict("failed", vec![what]).to_string()),
        };
        let met = self.met.entry(case.op.clone()).or_default();
        *met += 1;
        if !(*met - 1).is_multiple_of(self.every) {
            return Ok(verdict("left_out", Vec::new()).to_string());
        }
        let messages = match self.compare(&work).await {
            Ok(messages) => messages,
            Err(message) => vec![message],
        };
        let passed = if messages.is_empty() { "passed" } else { "failed" };
        let line: Json = verdict(passed, messages);
        Ok(line.to_string())
    }
}

impl Check {
    /// What is wrong with the device's answers.
    async fn compare(&mut self, work: &work::Work) -> Result<Vec<String>, String> {
        let solved = work.solve().map_err(|error| error.to_string())?;
        let answers =
            self.device.answers(&work.calls, &solved).await.map_err(|refusal| refusal.to_string())?;
        let oracle: Vec<_> = solved.into_iter().map(|solved| solved.answer).collect();
        Ok(work.failures(&answers, Some(&oracle)).iter().map(ToString::to_string).collect())
    }
}
