//! stub
pub mod cpu;
pub mod error;
mod inputs;
mod shape;
mod spec;
pub use inputs::{Inputs, Output, Totals, sample_weights_len};
pub use shape::{MAX_CLASSES, Shape};
pub use spec::{
    ClassWeights, CostMatrix, Denominator, LOGIT_LIMIT, LiveWeights, Reduction, SampleWeights, Spec,
    WeightScheme,
};
