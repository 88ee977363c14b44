//! Training: the loop, its stages (dVAE, prior, CLIP), optimizer, schedules and checkpoints.

pub mod augment;
pub mod bpe_dropout;
pub mod checkpoint;
pub mod clip_data;
mod clip_kernels;
pub mod clip_schedule;
pub mod clip_training;
pub mod dvae_data;
pub mod dvae_health;
mod dvae_kernels;
pub mod dvae_schedule;
pub mod dvae_training;
pub mod engine;
mod event_file;
mod exact;
pub mod export;
mod flat;
pub mod gradients;
pub mod interrupt;
mod metric_log;
pub mod metrics;
pub mod optimizer;
pub mod power_sgd;
pub mod prefetch;
pub mod prior_data;
mod prior_kernels;
pub mod prior_schedule;
pub mod prior_training;
pub mod progress;
mod rank_log;
pub mod ranks;
pub mod reconstructed_dataset;
pub mod run_folder;
mod run_optimizer;
pub mod run_state;
pub mod schedule;
mod shard_file;
pub mod shards;
pub mod stage;
#[cfg(test)]
mod test_dataset;
pub mod token_dataset;
pub mod tokens;
pub mod training;

/// A device has a single random generator, which all tests of a process share. Tests that seed it hold this lock.
#[cfg(test)]
static DEVICE_RANDOM: std::sync::Mutex<()> = std::sync::Mutex::new(());
