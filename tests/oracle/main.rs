//! Proves the CPU oracle: central differences, cases of other frameworks, and properties.
//!
//! Needs no GPU.

mod differences;
#[path = "../support/golden.rs"]
mod golden;
mod goldens;
mod properties;
