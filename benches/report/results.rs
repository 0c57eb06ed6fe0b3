//! What a run found: as a table, as JSON, and several of them side by side.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use wgpu_cross_entropy::Gpu;

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub kernel: String,
    pub shape: String,
    pub rows: u32,
    pub classes: u32,
    pub dtype: String,
    pub strategy: String,
    pub ms: f64,
    pub gbps: f64,
    pub ceiling_fraction: f64,
    pub dispatches: usize,
}

impl Row {
    /// Names of the columns.
    pub const HEAD: &str = "kernel                            shape dtype strategy                           ms     GB/s ceiling dispatches";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<22} {:>16} {:<5} {:<27} {:>9.3} {:>8.2} {:>6.0}% {:>10}",
            self.kernel,
            self.shape,
            self.dtype,
            self.strategy,
            self.ms,
            self.gbps,
            100.0 * self.ceiling_fraction,
            self.dispatches,
        )
    }
}

/// The device, and what else a figure depends on.
#[derive(Clone, Debug)]
pub struct Machine {
    pub adapter: String,
    pub details: Value,
}

impl Machine {
    pub fn of(gpu: &Gpu) -> Self {
        let (info, limits) = (&gpu.info, gpu.device.limits());
        let details = json!({
            "backend": info.backend.to_string(),
            "device_type": format!("{:?}", info.device_type),
            "driver": info.driver,
            "driver_info": info.driver_info,
            "subgroup_sizes": [info.subgroup_min_size, info.subgroup_max_size],
            "max_storage_buffer_binding_size": limits.max_storage_buffer_binding_size,
            "max_compute_invocations_per_workgroup": limits.max_compute_invocations_per_workgroup,
            "max_compute_workgroup_storage_size": limits.max_compute_workgroup_storage_size,
            "crate_version": env!("CARGO_PKG_VERSION"),
            "wgpu_version": 30,
            "commit": commit(),
        });
        Self { adapter: info.name.clone(), details }
    }
}

/// The commit of this checkout; none outside of one.
fn commit() -> Option<String> {
    let output = std::process::Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Report {
    pub machine: Machine,
    pub ceiling_gbps: f64,
    pub rows: Vec<Row>,
}

impl Report {
    pub fn to_json(&self) -> Value {
        let results: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "kernel": row.kernel,
                    "shape": row.shape,
                    "rows": row.rows,
                    "classes": row.classes,
                    "dtype": row.dtype,
                    "strategy": row.strategy,
                    "ms": row.ms,
                    "gbps": row.gbps,
                    "ceiling_fraction": row.ceiling_fraction,
                    "dispatches": row.dispatches,
                })
            })
            .collect();
        json!({
            "adapter": self.machine.adapter,
            "ceiling_gbps": self.ceiling_gbps,
            "machine": self.machine.details,
            "results": results,
        })
    }
}

/// Prints runs side by side: a line a kernel, shape and type; for each run milliseconds and the share of its own copies.
pub fn compare(files: &[PathBuf]) -> Result<(), Box<dyn Error>> {
    let runs: Vec<Value> = files.iter().map(|file| load(file)).collect::<Result<_, _>>()?;
    print!("{:<22} {:>16} {:<5}", "kernel", "shape", "dtype");
    for run in &runs {
        let adapter = run["adapter"].as_str().unwrap_or("?");
        print!(" {:>24}", adapter.chars().take(24).collect::<String>());
    }
    println!();
    let key =
        |row: &Value| ["kernel", "shape", "dtype"].map(|name| row[name].as_str().unwrap_or("").to_owned());
    let mut keys: Vec<[String; 3]> = Vec::new();
    for row in runs.iter().flat_map(|run| run["results"].as_array().into_iter().flatten()) {
        if !keys.contains(&key(row)) {
            keys.push(key(row));
        }
    }
    for wanted in keys {
        print!("{:<22} {:>16} {:<5}", wanted[0], wanted[1], wanted[2]);
        for run in &runs {
            let found = run["results"].as_array().into_iter().flatten().find(|row| key(row) == wanted);
            match found.and_then(|row| row["ms"].as_f64().zip(row["ceiling_fraction"].as_f64())) {
                Some((ms, fraction)) => print!(" {:>13.3} ms {:>6.0}%", ms, 100.0 * fraction),
                None => print!(" {:>24}", "-"),
            }
        }
        println!();
    }
    Ok(())
}

/// A file that `--out` wrote, or one whose last line is what `--json` printed.
fn load(file: &Path) -> Result<Value, Box<dyn Error>> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let run: Value = serde_json::from_str(last).map_err(|error| format!("{}: {error}", file.display()))?;
    match run["results"].is_array() {
        true => Ok(run),
        false => Err(format!("{}: no results", file.display()).into()),
    }
}
