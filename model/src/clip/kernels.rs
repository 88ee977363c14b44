//! CLIP's sizes for `dalle-kernels`, which trains it on the CPU.

use dalle_kernels::clip::{ClipSizes, TowerSizes};

use super::{ClipConfig, TowerConfig};
use crate::config::ModelConfig;

/// The sizes of a CLIP for a model, as `dalle-kernels` names them.
pub fn kernel_sizes(clip: &ClipConfig, model: &ModelConfig) -> ClipSizes {
    let tower =
        |tower: &TowerConfig| TowerSizes { width: tower.width, layers: tower.layers, heads: tower.heads };
    ClipSizes {
        embedding: clip.embedding,
        patch: clip.patch,
        side: model.image_size,
        text: model.text_length + 1,
        text_vocab: model.text_vocab,
        text_tower: tower(&clip.text),
        image_tower: tower(&clip.image),
    }
}
