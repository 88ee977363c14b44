//! Measures of a model's pictures.

pub mod best_of_n;
pub mod clip_score;
pub mod retrieval;
