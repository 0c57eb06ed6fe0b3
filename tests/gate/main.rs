//! Every text that the crate can emit, through naga: parsed, validated and written for every back end.
//!
//! A plain run takes a cover of all pairs of choices. With `SHADER_GATE_FOLDER` it takes every text of the crate's own
//! pipelines too, and what is written is kept there for the other compilers: see `tests/shader_gate.sh`. With
//! `SHADER_GATE_COVER` it stays with the cover; with `SHADER_GATE_FULL` it takes each text with each set of constants,
//! embedded forms go to every back end and all HLSL to DXC.

mod forms;
mod writers;

use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use forms::{Form, Job, jobs};
use wgpu_cross_entropy::wgsl::{self, Source, Stage, Strategy, Variant};
use writers::Target;

/// What became of one text in one column of the table.
#[derive(Clone)]
enum Written {
    /// Accepted, or for another compiler to judge: the name of a file, which is the hash of its contents.
    File(String),
    /// It does not apply; the table gives the reason.
    Hole(&'static str),
    /// Refused.
    Refused(String),
}

/// FNV-1a: a name for contents that is the same in every run.
fn hash(bytes: &[u8]) -> String {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Runs `work` on every item, on all cores, and keeps the order.
fn on_all_cores<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    let result = work(item);
                    done.lock().expect("no thread panics with the lock").push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no thread panics with the lock");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Where files for the other compilers go.
struct Folder(Option<PathBuf>);

impl Folder {
    fn make(&self, name: &str) {
        if let Some(folder) = &self.0 {
            std::fs::create_dir_all(folder.join(name)).expect("a folder that can be written");
        }
    }

    /// Equal contents have one file, however many texts they come from.
    fn keep(&self, column: &str, ending: &str, contents: &[u8]) -> String {
        let hash = hash(contents);
        self.write(&Path::new(column).join(format!("{hash}.{ending}")), contents);
        hash
    }

    fn write(&self, path: &Path, contents: &[u8]) {
        if let Some(folder) = &self.0 {
            let path = folder.join(path);
            if !path.exists() {
                std::fs::write(path, contents).expect("a folder that can be written");
            }
        }
    }
}

/// Every column for one text.
fn columns(job: &Job, folder: &Folder, full: bool) -> BTreeMap<String, Written> {
    let mut written = BTreeMap::new();
    let mut put = |column: &str, result: Written| _ = written.insert(column.to_owned(), result);
    // For CPU drivers of Vulkan.
    match job.int64 {
        true => put("tint", Written::Hole("no-64-bit-words-in-browsers")),
        false => put("tint", Written::File(folder.keep("tint", "wgsl", job.tint_text().as_bytes()))),
    }
    let program = match writers::validated(&job.source) {
        Ok(program) => {
            put("naga", Written::File(hash(job.source.text.as_bytes())));
            Some(program)
        }
        Err(message) => {
            put("naga", Written::Refused(message));
            None
        }
    };
    for target in Target::ALL {
        let dxc = target.name.replace("hlsl", "dxc");
        let skipped = match (target.hole(job), job.form) {
            (Some(reason), _) => Some(reason),
            (None, Form::Pipeline) => None,
            (None, Form::AsUsed) => Some("same-program-as-read_write"),
            (None, Form::ReadWrite) => (!full && !job.in_cover).then_some("cover-of-pairs"),
        };
        let result = match (skipped, &program) {
            (Some(reason), _) => Written::Hole(reason),
            (None, None) => Written::Refused("naga did not take the text".into()),
            (None, Some(program)) => match target.write(program, job.form.checks()) {
                Ok(contents) => Written::File(match target.ending {
                    Some(ending) => folder.keep(target.name, ending, &contents),
                    None => hash(&contents),
                }),
                Err(message) => Written::Refused(message),
            },
        };
        if target.is_hlsl() {
            put(
                &dxc,
                match &result {
                    Written::File(_) if !full && !job.in_cover => Written::Hole("cover-of-pairs"),
                    result => result.clone(),
                },
            );
        }
        put(target.name, result);
    }
    written
}

/// A line of the list for the other compilers.
fn line(job: &Job, written: &BTreeMap<String, Written>) -> String {
    let of = |take: fn(&Written) -> Option<String>| -> BTreeMap<&str, String> {
        written.iter().filter_map(|(column, result)| Some((column.as_str(), take(result)?))).collect()
    };
    let files = of(|result| match result {
        Written::File(name) => Some(name.clone()),
        _ => None,
    });
    let holes = of(|result| match result {
        Written::Hole(reason) => Some((*reason).to_owned()),
        _ => None,
    });
    let refused = of(|result| match result {
        Written::Refused(message) => Some(message.clone()),
        _ => None,
    });
    json!({
        "stage": format!("{:?}", job.stage),
        "form": job.form.name(),
        "what": job.what,
        "constants": job.source.constants.iter().copied().collect::<BTreeMap<_, _>>(),
        "read_only": job.source.bindings.iter().map(|binding| binding.read_only).collect::<Vec<_>>(),
        "files": files,
        "holes": holes,
        "refused": refused,
    })
    .to_string()
}

#[test]
fn naga_takes_every_text_and_writes_it_for_every_back_end() {
    let folder = Folder(std::env::var_os("SHADER_GATE_FOLDER").map(PathBuf::from));
    let full = std::env::var_os("SHADER_GATE_FULL").is_some();
    for name in ["tint"].into_iter().chain(Target::ALL.iter().filter(|t| t.ending.is_some()).map(|t| t.name))
    {
        folder.make(name);
    }
    let began = std::time::Instant::now();
    let mut jobs = jobs();
    println!("the texts took {:.0} s", began.elapsed().as_secs_f64());
    let all = jobs.len();
    let every_text = folder.0.is_some() && std::env::var_os("SHADER_GATE_COVER").is_none();
    jobs.retain(|job| full || job.in_cover || every_text && job.new_text && job.form == Form::Pipeline);
    let results = on_all_cores(&jobs, |job| columns(job, &folder, full));

    let mut counts: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    let mut refused = Vec::new();
    for (job, written) in jobs.iter().zip(&results) {
        for (column, result) in written {
            let kind = match result {
                Written::File(_) => 0,
                Written::Hole(_) => 1,
                Written::Refused(message) => {
                    refused.push(format!("{column}: {} {}: {message}", job.form.name(), job.what));
                    2
                }
            };
            counts.entry(column).or_default()[kind] += 1;
        }
    }
    if folder.0.is_some() {
        let lines: Vec<String> = jobs.iter().zip(&results).map(|(job, written)| line(job, written)).collect();
        let mut list = lines.join("\n").into_bytes();
        writeln!(list).expect("memory");
        folder.write(Path::new("list.jsonl"), &list);
        plant(&folder);
    }
    let in_cover = jobs.iter().filter(|job| job.in_cover).count();
    println!("{} texts of {all}, {in_cover} of them in the cover; the others are left out", jobs.len());
    for (column, [files, holes, refused]) in &counts {
        println!("{column:<10} written {files:>6}, left out for a reason {holes:>6}, refused {refused:>6}");
    }
    let first = &refused[..refused.len().min(3)];
    assert!(refused.is_empty(), "{} refused, the first:\n{}", refused.len(), first.join("\n"));
    if every_text {
        let taken: HashSet<&str> = jobs.iter().map(|job| job.source.text.as_str()).collect();
        let all = on_all_cores(&wgsl::all(), |(stage, variant)| wgsl::source(*stage, variant).text);
        assert!(all.iter().all(|text| taken.contains(text.as_str())), "every text is there");
    }
    assert!(jobs.len() > 500 && counts["naga"][0] == jobs.len());
}

/// A kernel with a fault in its first line.
fn with_fault(fault: &str) -> Source {
    let variant = Variant { strategy: Strategy::Streaming, ..Variant::default() };
    let mut source = wgsl::source(Stage::CrossEntropy, &variant);
    let (before, main) = source.text.split_once("fn main(").expect("an entry point");
    let main = main.replacen("{\n", &format!("{{\n{fault}\n"), 1);
    source.text = format!("{before}fn main({main}");
    source
}

/// Only some invocations reach this barrier. naga 30 does not see it; browsers do.
const BARRIER: &str = "if (lane.index > 3u) { workgroupBarrier(); }";
const WRONG_TYPE: &str = "let planted: f32 = params.rows;";

/// One faulty file for each compiler that is to come: a gate whose compiler accepts it has no compiler.
fn plant(folder: &Folder) {
    folder.write(Path::new("tint/planted_barrier.wgsl"), with_fault(BARRIER).text.as_bytes());
    folder.write(Path::new("tint/planted_type.wgsl"), with_fault(WRONG_TYPE).text.as_bytes());
    let read_only: Vec<bool> = with_fault("").bindings.iter().map(|binding| binding.read_only).collect();
    folder.write(Path::new("planted.json"), json!(read_only).to_string().as_bytes());
    let program = writers::validated(&with_fault("")).expect("without a fault");
    for target in Target::ALL {
        let Some(ending) = target.ending else { continue };
        let mut contents = target.write(&program, false).expect("without a fault");
        match ending {
            // The last instruction is missing, which closes the last function.
            "spv" => contents.truncate(contents.len() - 4),
            _ => contents.extend_from_slice(b"\nuint planted(float x) { return x.w; }\n"),
        }
        folder.write(&Path::new(target.name).join(format!("planted.{ending}")), &contents);
    }
}

#[test]
fn naga_refuses_a_wrong_type() {
    assert!(writers::validated(&with_fault("")).is_ok());
    assert!(writers::validated(&with_fault(WRONG_TYPE)).is_err());
}
