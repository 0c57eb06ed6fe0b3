#![doc = include_str!("../README.md")]
#![warn(missing_docs)]
#![deny(unsafe_code)]

#[cfg(not(target_family = "wasm"))]
mod autotune;
mod binary;
mod binary_config;
mod binary_plan;
pub mod binary_tolerance;
mod compare;
mod config;
pub mod cpu;
mod device;
pub mod error;
mod flow;
pub mod guide;
mod history;
mod host;
mod inputs;
pub mod kernels;
mod live_check;
mod pipeline;
mod pipelines;
mod plan;
mod self_check;
mod shape;
mod spec;
mod stats;
#[doc(hidden)]
pub mod testing;
pub mod tolerance;
mod validate;
pub mod wgsl;
#[cfg(not(target_family = "wasm"))]
pub use autotune::{Autotune, Timing};
pub use binary::{
    BinaryClip, BinaryDenominator, BinaryInputs, BinaryOutput, BinaryReduction, BinaryScores, BinarySpec,
    BinaryTotals, PosWeight,
};
pub use binary_config::{BinaryConfig, BinaryOptions, BinaryParams, ElementTile};
#[cfg(not(target_family = "wasm"))]
pub use binary_plan::compute_binary_blocking;
pub use binary_plan::{BinaryBatch, BinaryCrossEntropy, BoundBinaryStep, compute_binary};
pub use compare::{Answer, compare};
pub use config::{
    Config, DeviceClass, Dtype, LabelFormat, MAX_BLOCKS, MAX_GENERAL_BLOCKS, MAX_SCORES_BLOCKS,
    MAX_THREAD_CLASSES, Options, RULES, Rule, RuleLayout, STREAM_BLOCKS,
};
pub use device::{DeviceOptions, Gpu};
pub use flow::{FlowDispatch, Slot, Visits, flow};
pub use history::CountHistory;
#[cfg(not(target_family = "wasm"))]
pub use host::compute_blocking;
pub use host::{READ_TIMEOUT, compute, read, read_within};
pub use inputs::{Inputs, Output, Totals, sample_weights_len};
pub use live_check::{LiveCheck, LiveCheckOptions, LiveReport};
pub use pipeline::{Bound, Capabilities, Params, Tile, tiles_of_logits, tiles_of_rows};
pub use pipelines::Pipelines;
pub use plan::{Batch, BoundStep, CrossEntropy};
pub use self_check::{SelfCheck, SelfCheckOptions};
pub use shape::{MAX_CLASSES, Shape};
pub use spec::{
    ClassWeights, ClassesOver, Clip, ClipOrder, CostMatrix, CountsOver, Denominator, LOGIT_LIMIT, LiveCounts,
    LiveWeights, LogitBias, Reduction, SampleWeights, Scores, Spec, Targets, WeightScheme, WeightScope,
};
pub use stats::{ClassStats, NO_CLASS, RowRecord, TelemetryLayout};
pub use validate::Validation;
/// The `wgpu` of this crate's API.
pub use wgpu;
