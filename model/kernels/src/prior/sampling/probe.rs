//! What a layer attends to, for people to look at: plain loops over the keys that the kernels read.

use super::Sampler;
use super::layers::Engine;
use crate::prior::pattern::Pattern;
use crate::threads::Threads;

/// What one layer attends to when it predicts the next image token.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionWeights {
    /// Which image slots the layer sees.
    pub pattern: Pattern,
    /// Weights of the text slots, `[heads, text]`.
    pub text: Vec<f32>,
    /// Raster positions of the image slots that it sees.
    pub positions: Vec<usize>,
    /// Their weights, `[heads, positions]`. The weights of a head, text and image, add up to 1.
    pub image: Vec<f32>,
}

impl Sampler {
    /// What the layer `layer` attends to at the slot that predicts the token after `image`.
    ///
    /// # Panics
    /// As [`prefill`](Self::prefill), or if there is no such layer.
    pub fn attention(&self, caption: &[u32], image: &[u32], layer: usize) -> AttentionWeights {
        let sizes = &self.sizes;
        assert!(caption.len() < sizes.text, "a caption too long");
        assert!(image.len() < sizes.grid * sizes.grid, "nothing is left to predict");
        let pattern = Pattern::of_layer(layer, sizes.layers);
        let slots = sizes.text + image.len();
        let d = sizes.width();
        let qkv = Threads::enter(slots * d * d, |threads| {
            let engine = Engine { processor: self.processor, threads };
            let (_, x) = self.read(&engine, caption, image, layer);
            self.qkv(&engine, &self.weights.blocks[layer], &x, slots)
        });
        let positions: Vec<usize> = match image.len().checked_sub(1) {
            Some(query) => (0..=query).filter(|key| pattern.sees(sizes, query - key)).collect(),
            None => Vec::new(),
        };
        let seen = (0..sizes.text).chain(positions.iter().map(|position| sizes.text + position));
        let seen: Vec<usize> = seen.collect();
        let (mut text, mut shown) = (Vec::new(), Vec::new());
        for head in 0..sizes.heads {
            let query = self.head(&qkv, slots, (slots - 1, 1), 0, head);
            let keys = self.head(&qkv, slots, (0, slots), 1, head);
            let weights =
                softmax(seen.iter().map(|slot| dot(&query, &keys[slot * sizes.head..][..sizes.head])));
            text.extend_from_slice(&weights[..sizes.text]);
            shown.extend_from_slice(&weights[sizes.text..]);
        }
        AttentionWeights { pattern, text, positions, image: shown }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn softmax(scores: impl Iterator<Item = f32>) -> Vec<f32> {
    let scores: Vec<f32> = scores.collect();
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
    let total: f32 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}
