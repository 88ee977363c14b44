//! Schedule and sizes of the training of the prior, with the published ones.

use crate::schedule::WarmupCosine;

/// Schedule and sizes of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriorSchedule {
    /// Pairs per update.
    pub batch: usize,
    /// Parts in which an update's batch is computed, one after the other.
    pub accumulate: usize,
    /// Learning rate.
    pub learning_rate: WarmupCosine,
    /// Probability that BPE drops a merge (0.1 in the paper).
    pub bpe_dropout: f32,
    /// Share of pairs trained without their caption, for classifier-free guidance.
    pub caption_dropout: f32,
    /// Highest share of an image's tokens that the prior sees replaced by others, while it still predicts the true ones. The share of
    /// each pair is uniform between 0 and this. It keeps the prior from knowing a drawing of a small dataset by its first tokens, without
    /// its caption. 0 in the paper.
    pub image_noise: f32,
    /// Seed of all random numbers.
    pub seed: u64,
}

impl PriorSchedule {
    /// Updates of the paper's run (appendix B.2).
    pub const PAPER_STEPS: u64 = 430_000;
    /// The paper's schedule (appendix B.2); but a cosine takes the place of its halvings at plateaus.
    pub const PAPER: Self = Self {
        batch: 1024,
        accumulate: 1,
        learning_rate: WarmupCosine { peak: 4.5e-4, warmup: 5_000, updates: Self::PAPER_STEPS },
        bpe_dropout: 0.1,
        caption_dropout: 0.0,
        image_noise: 0.0,
        seed: 0,
    };
}
