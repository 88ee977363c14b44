//! The parameters that sampling images reads, and loading them one after the other.

use super::layers::{LinearWeights, NormWeights};
use crate::parameters::Parameter;
use crate::prior::network::{PriorNetwork, PriorSizes};
use crate::skinny::Matrix;
use crate::storage::Storage;

/// A layer.
#[derive(Clone, Debug)]
pub(super) struct SamplerBlock {
    pub norm_attention: NormWeights,
    pub qkv: LinearWeights,
    pub projection: LinearWeights,
    pub norm_mlp: NormWeights,
    pub fc1: LinearWeights,
    pub fc2: LinearWeights,
}

/// Embeddings, `[rows, d]` each.
#[derive(Clone, Debug)]
pub(super) struct SamplerEmbed {
    pub text: Vec<f32>,
    pub padding: Vec<f32>,
    pub text_position: Vec<f32>,
    pub image: Vec<f32>,
    pub row: Vec<f32>,
    pub column: Vec<f32>,
}

/// All that is read.
#[derive(Clone, Debug)]
pub(super) struct SamplerWeights {
    pub embed: SamplerEmbed,
    pub blocks: Vec<SamplerBlock>,
    pub norm: NormWeights,
    pub image_logits: LinearWeights,
}

impl SamplerWeights {
    /// Weights of a network, whose parameters `read` gives in order. The matrices of the layers are kept in `storage`, all else in
    /// f32.
    pub fn new<E>(
        sizes: &PriorSizes,
        storage: Storage,
        mut read: impl FnMut(&Parameter) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        let network = PriorNetwork::new(*sizes);
        let mut parameters = network.parameters.iter();
        let mut next = || {
            let parameter = parameters.next().expect("the network's list has every parameter");
            let values = read(parameter)?;
            assert_eq!(values.len(), parameter.length(), "{}", parameter.name);
            Ok(values)
        };
        let d = sizes.width();
        let embed = SamplerEmbed {
            text: next()?,
            padding: next()?,
            text_position: next()?,
            image: next()?,
            row: next()?,
            column: next()?,
        };
        let mut blocks = Vec::with_capacity(sizes.layers);
        for _ in 0..sizes.layers {
            blocks.push(SamplerBlock {
                norm_attention: NormWeights { gamma: next()?, beta: next()? },
                qkv: linear(&mut next, d, 3 * d, storage)?,
                projection: linear(&mut next, d, d, storage)?,
                norm_mlp: NormWeights { gamma: next()?, beta: next()? },
                fc1: linear(&mut next, d, 4 * d, storage)?,
                fc2: linear(&mut next, 4 * d, d, storage)?,
            });
        }
        let norm = NormWeights { gamma: next()?, beta: next()? };
        // Logits of text, which sampling an image does not need.
        next()?;
        next()?;
        let image_logits = linear(&mut next, d, sizes.image_vocab, Storage::F32)?;
        Ok(Self { embed, blocks, norm, image_logits })
    }
}

fn linear<E>(
    next: &mut impl FnMut() -> Result<Vec<f32>, E>,
    k: usize,
    n: usize,
    storage: Storage,
) -> Result<LinearWeights, E> {
    let w = next()?;
    let mut bias = next()?;
    // The product of f16 reads finite values only. One that is too large for the type must still show in the result.
    if storage == Storage::F16 && w.iter().any(|w| !half::f16::from_f32_const(*w).is_finite()) {
        bias.fill(f32::NAN);
    }
    Ok(LinearWeights { matrix: Matrix::new(&w, k, n, storage), bias })
}
