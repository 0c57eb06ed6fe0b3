//! Proves the CPU oracle: central differences, cases of other frameworks, and properties.
//!
//! Needs no GPU.

#[path = "../support/cases.rs"]
mod cases;
mod differences;
#[path = "../support/golden.rs"]
mod golden;
mod goldens;
mod hostile_files;
mod properties;
#[path = "../support/rules.rs"]
mod rules;
mod schemes;
mod term_properties;
mod terms;
#[path = "../support/work.rs"]
mod work;
