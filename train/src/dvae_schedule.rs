//! Schedules and sizes of the training of the dVAE, with the published ones.

use crate::schedule::CosineSchedule;

/// Schedules and sizes of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DvaeSchedule {
    /// Images per update.
    pub batch: usize,
    /// Parts in which an update's batch is computed, one after the other.
    pub accumulate: usize,
    /// Weight of the KL term: 0 → 6.6 over 5,000 updates in the paper.
    pub beta: CosineSchedule,
    /// Temperature of the relaxation: 1 → 1/16 over 150,000 updates.
    pub tau: CosineSchedule,
    /// Learning rate: 1e-4 → 1.25e-6 over 1,200,000 updates.
    pub learning_rate: CosineSchedule,
    /// Train the decoder alone, on the codes that stage 2 sees, which the encoder goes on giving. Not the paper's.
    pub decoder_only: bool,
    /// Seed of all random numbers.
    pub seed: u64,
}

impl DvaeSchedule {
    /// Updates of the paper's run (appendix A.2).
    pub const PAPER_STEPS: u64 = 3_000_000;
    /// The paper's schedules (appendix A.2).
    pub const PAPER: Self = Self {
        batch: 512,
        accumulate: 1,
        beta: CosineSchedule { from: 0.0, to: 6.6, updates: 5_000 },
        tau: CosineSchedule { from: 1.0, to: 1.0 / 16.0, updates: 150_000 },
        learning_rate: CosineSchedule { from: 1e-4, to: 1.25e-6, updates: 1_200_000 },
        decoder_only: false,
        seed: 0,
    };
}
