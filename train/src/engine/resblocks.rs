//! Where the engine gets the weights of resblocks.

use anyhow::Result;
use dalle_model::burn::module::Module;
use dalle_model::burn::tensor::{Bool, Gradients as Tape, Tensor};
use dalle_model::prior::Prior;
use dalle_model::transformer::{AttentionBlock, Layer, MlpBlock};

use crate::gradients::Gradients;

/// The weights of one resblock.
#[derive(Clone, Debug)]
pub enum Resblock {
    /// Those with an even index.
    Attention(AttentionBlock),
    /// Those with an odd index.
    Mlp(MlpBlock),
}

impl Resblock {
    /// What the resblock adds to its input: `[B, T, D] → [B, T, D]`, f32. The mask, of its layer, counts for attention alone.
    pub fn residual(&self, x: Tensor<3>, mask: &Tensor<4, Bool>) -> Tensor<3> {
        match self {
            Self::Attention(block) => block.residual(x, mask.clone()),
            Self::Mlp(block) => block.residual(x),
        }
    }

    /// The same weights, tracked.
    pub(super) fn tracked(self) -> Self {
        match self {
            Self::Attention(block) => Self::Attention(block.train()),
            Self::Mlp(block) => Self::Mlp(block.train()),
        }
    }

    /// The gradients of its weights, as those of resblock `index` of a prior, that a backward pass left.
    pub(super) fn gradients(&self, tape: Tape, index: usize) -> Gradients {
        let path = |kind: &str| vec!["layers".to_owned(), (index / 2).to_string(), kind.to_owned()];
        match self {
            Self::Attention(block) => Gradients::collect_part(tape, block, path("attention")),
            Self::Mlp(block) => Gradients::collect_part(tape, block, path("mlp")),
        }
    }
}

/// The resblocks of a prior, two for each layer.
pub trait Resblocks {
    /// How many there are.
    fn count(&self) -> usize;

    /// Says that resblock `index` is wanted next, while the one before is computed: a rank that shares its weights with others begins to
    /// gather them.
    ///
    /// # Errors
    /// The weights cannot be had.
    fn prefetch(&mut self, _index: usize) -> Result<()> {
        Ok(())
    }

    /// The weights of resblock `index`, without autodiff. The engine drops them before it asks for the next but one.
    ///
    /// # Errors
    /// The weights cannot be had.
    fn get(&mut self, index: usize) -> Result<Resblock>;
}

/// Resblocks that are all in memory.
pub struct InMemory(Vec<Layer>);

impl InMemory {
    /// Those of a prior. Their weights are shared, not copied.
    pub fn new(prior: &Prior) -> Self {
        Self(prior.layers().iter().map(|layer| layer.clone().valid()).collect())
    }
}

impl Resblocks for InMemory {
    fn count(&self) -> usize {
        2 * self.0.len()
    }

    fn get(&mut self, index: usize) -> Result<Resblock> {
        let layer = &self.0[index / 2];
        Ok(if index.is_multiple_of(2) {
            Resblock::Attention(layer.attention.clone())
        } else {
            Resblock::Mlp(layer.mlp.clone())
        })
    }
}
