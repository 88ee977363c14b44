//! Training: the loop, its stages (dVAE, prior, CLIP), optimizer, schedules and checkpoints.

pub mod augment;
pub mod bpe_dropout;
pub mod checkpoint;
pub mod clip_training;
pub mod dvae_training;
pub mod dvae_watch;
pub mod optimizer;
pub mod prior_training;
pub mod schedule;
pub mod tokens;
pub mod training;
