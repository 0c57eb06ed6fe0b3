//! A rank that is lost in the middle of a run: the others end with an error within seconds, and the last checkpoint goes on.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs ranks, for at most two minutes.
fn mpirun(ranks: u32, arguments: &[&str]) -> (Output, Duration) {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120", "mpirun", "--allow-run-as-root", "--oversubscribe", "-n"]);
    command.arg(ranks.to_string()).arg(env!("CARGO_BIN_EXE_wgpu-cross-entropy-mpi")).arg("train");
    let began = Instant::now();
    let output = command.args(arguments).output().expect("mpirun");
    (output, began.elapsed())
}

fn losses(report: &Path) -> (u64, Vec<f64>) {
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let losses = report["losses"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap());
    (report["first_step"].as_u64().unwrap(), losses.collect())
}

/// Rank 1 of 2 gets a signal in step 12; the checkpoint of step 10 goes on, and its losses are those of a run that nothing
/// happened to, bit by bit.
fn lose_a_rank(signal: &str, expected: &str) {
    let folder = folder(signal);
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (checkpoint, whole, resumed) = (path("checkpoint"), path("whole.json"), path("resumed.json"));
    let _ = std::fs::remove_file(&checkpoint);
    let (output, took) = mpirun(
        2,
        &["--steps", "40", "--checkpoint", &checkpoint, "--fail", "1", "12", signal, "--patience", "5"],
    );
    let said = String::from_utf8_lossy(&output.stderr);
    println!("{signal}: ended after {took:?}\n{said}");
    assert!(!output.status.success(), "the run went on");
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert!(said.contains(expected), "no word of what happened");

    let (output, _) = mpirun(2, &["--steps", "20", "--resume", &checkpoint, "--report", &resumed]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (output, _) = mpirun(2, &["--steps", "20", "--report", &whole]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ((first, resumed), (_, whole)) = (losses(resumed.as_ref()), losses(whole.as_ref()));
    assert_eq!((first, resumed.len()), (10, 10));
    assert_eq!(resumed, whole[10..]);
}

/// mpirun sees a rank that is dead, and ends the others.
#[test]
fn a_rank_is_killed() {
    lose_a_rank("KILL", "exited on signal 9");
}

/// Nobody sees a rank that only hangs, but the one that waits for it.
#[test]
fn a_rank_is_stuck() {
    lose_a_rank("STOP", "did not finish within 5s: a rank is gone or stuck");
}

/// A checkpoint that was cut off, or is something else, is refused by name.
#[test]
fn what_is_no_checkpoint_is_refused() {
    let path = folder("refused").join("checkpoint");
    for bytes in [&b"something else"[..], b"wce-mpi1", b"wce-mpi1\x01\0\0\0\xff\xff\xff\xff"] {
        std::fs::write(&path, bytes).unwrap();
        let (output, _) = mpirun(1, &["--steps", "2", "--resume", path.to_str().unwrap()]);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("is no checkpoint"));
    }
}
