//! Schedule and sizes of the training of CLIP, with the published ones.

use crate::schedule::WarmupCosine;

/// Schedule and sizes of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipSchedule {
    /// Pairs per update. Each pair is contrasted with all others.
    pub batch: usize,
    /// Parts in which an update's batch is computed, one after the other.
    pub accumulate: usize,
    /// Learning rate.
    pub learning_rate: WarmupCosine,
    /// Probability that BPE drops a merge.
    pub bpe_dropout: f32,
    /// Probability that an image is replaced by its reconstruction by the dVAE.
    pub reconstructed: f32,
    /// Seed of all random numbers.
    pub seed: u64,
}

impl ClipSchedule {
    /// Updates of the run in CLIP's paper: 32 epochs of 400 million pairs.
    pub const PAPER_STEPS: u64 = 390_000;
    /// The schedule of ViT-B/32 in CLIP's paper (tables 18 and 20 of arXiv 2103.00020).
    pub const PAPER: Self = Self {
        batch: 32_768,
        accumulate: 1,
        learning_rate: WarmupCosine { peak: 5e-4, warmup: 2_000, updates: Self::PAPER_STEPS },
        bpe_dropout: 0.0,
        reconstructed: 0.0,
        seed: 0,
    };
}
