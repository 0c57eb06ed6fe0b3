//! N ranks train one model on shards of the wine-quality rows: class counts, denominators and gradients are all-reduced,
//! and every N gives the same losses and weights.
//!
//! ```text
//! mpirun -n 2 wgpu-cross-entropy-mpi train --report two.json [--steps 60] [--local-weights]
//!     [--checkpoint FILE] [--resume FILE] [--fail RANK STEP KILL|STOP] [--patience SECONDS]
//! wgpu-cross-entropy-mpi compare one.json two.json four.json --local local.json
//! ```
//!
//! `run.sh` does all of it.

mod checkpoint;
mod comm;
mod compare;
mod model;
mod train;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("train") => train::Options::parse(&arguments[1..]).and_then(|options| train::run(&options)),
        Some("compare") => compare::run(&arguments[1..]),
        _ => Err("train or compare?".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Whatever ends a run, in words.
pub type Failure = Box<dyn std::error::Error>;
