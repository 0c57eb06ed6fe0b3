#![doc = include_str!("../../../docs/burn.md")]
#![warn(missing_docs)]
#![deny(unsafe_code)]

mod loss;
mod ops;
mod oracle;
mod recipe;
mod request;

pub use loss::{Computed, CrossEntropyLoss, CrossEntropyLossConfig, Extras};
pub use ops::CrossEntropyBackend;
pub use oracle::read_backs;
pub use request::{LossError, Request};
/// The crate whose kernels these are.
pub use wgpu_cross_entropy;
