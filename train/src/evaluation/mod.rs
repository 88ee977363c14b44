//! Measures of a model's pictures.

pub mod retrieval;
