//! A page for each kind of user, from `cargo add` to a step.
//!
//! * [`raw_wgpu`]: an engine of one's own on wgpu, with the plan or with our text in its own pipelines.
//! * [`testers`]: the oracle and its tolerances in the tests of another loss.

#[doc = include_str!("../docs/raw_wgpu.md")]
pub mod raw_wgpu {}

#[doc = include_str!("../docs/testers.md")]
pub mod testers {}
