//! CLIP's layers and where their parameters are.

use crate::grid::UNIT;
use crate::parameters::{Builder, Parameter};
use crate::transformer::attention::Heads;
use crate::transformer::layers::{BlockOffsets, NormOffsets, block, norm};

/// The sizes of a tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TowerSizes {
    /// Width of the residual stream.
    pub width: usize,
    /// Resblock pairs.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
}

impl TowerSizes {
    pub(super) fn all_heads(&self) -> Heads {
        Heads { count: self.heads, head: self.width / self.heads }
    }
}

/// The sizes of a CLIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipSizes {
    /// Width of the joint space.
    pub embedding: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// Side of an image in pixels.
    pub side: usize,
    /// Slots of the longest caption, start and end tokens included.
    pub text: usize,
    /// Text ids, without start and end.
    pub text_vocab: usize,
    /// The tower of captions.
    pub text_tower: TowerSizes,
    /// The tower of images.
    pub image_tower: TowerSizes,
}

impl ClipSizes {
    /// Patches of a row of an image.
    pub(super) fn grid(&self) -> usize {
        self.side / self.patch
    }

    /// Slots of the image tower: the class token and the patches.
    pub(super) fn image(&self) -> usize {
        1 + self.grid().pow(2)
    }

    /// Values of a patch.
    pub(super) fn patch_values(&self) -> usize {
        3 * self.patch * self.patch
    }

    /// Whether there are kernels for these sizes: widths of heads and features in whole cache lines.
    pub(super) fn supported(&self) -> bool {
        let whole = |tower: &TowerSizes| {
            tower.heads > 0
                && tower.width.is_multiple_of(tower.heads)
                && (tower.width / tower.heads).is_multiple_of(UNIT)
                && tower.width > 0
                && tower.layers > 0
        };
        whole(&self.text_tower)
            && whole(&self.image_tower)
            && self.embedding > 0
            && self.embedding.is_multiple_of(UNIT)
            && self.text > 2
            && self.patch > 0
            && self.side.is_multiple_of(self.patch)
            && self.side > 0
    }
}

/// Where the parameters of a tower's layers, last LayerNorm and projection are.
#[derive(Clone, Debug)]
pub(super) struct TowerOffsets {
    pub blocks: Vec<BlockOffsets>,
    pub norm: NormOffsets,
    /// `[width, embedding]`.
    pub projection: usize,
}

/// All layers.
#[derive(Clone, Debug)]
pub struct ClipNetwork {
    /// The sizes.
    pub sizes: ClipSizes,
    /// All parameters, in the order in which they follow each other.
    pub parameters: Vec<Parameter>,
    pub(super) token: usize,
    pub(super) text_position: usize,
    pub(super) text: TowerOffsets,
    /// `[3·patch², width]`.
    pub(super) patch: usize,
    pub(super) class: usize,
    pub(super) image_position: usize,
    pub(super) norm_before: NormOffsets,
    pub(super) image: TowerOffsets,
}

impl ClipNetwork {
    /// The layers of a CLIP.
    pub fn new(sizes: ClipSizes) -> Self {
        let mut builder = Builder::default();
        let b = &mut builder;
        let (text, image) = (sizes.text_tower, sizes.image_tower);
        let blocks = |b: &mut Builder, name: &str, tower: TowerSizes| {
            (0..tower.layers).map(|index| block(b, &format!("{name}.blocks.{index}"), tower.width)).collect()
        };
        let token = b.add("text.token".into(), vec![sizes.text_vocab + 2, text.width]);
        let text_position = b.add("text.position".into(), vec![sizes.text, text.width]);
        let text_offsets = TowerOffsets {
            blocks: blocks(b, "text", text),
            norm: norm(b, "text.norm", text.width),
            projection: b.add("text.projection".into(), vec![text.width, sizes.embedding]),
        };
        let patch = b.add("image.patch".into(), vec![sizes.patch_values(), image.width]);
        let class = b.add("image.class".into(), vec![image.width]);
        let image_position = b.add("image.position".into(), vec![sizes.image(), image.width]);
        let norm_before = norm(b, "image.norm_before", image.width);
        let image_offsets = TowerOffsets {
            blocks: blocks(b, "image", image),
            norm: norm(b, "image.norm_after", image.width),
            projection: b.add("image.projection".into(), vec![image.width, sizes.embedding]),
        };
        b.add("ln_scale".into(), vec![1]);
        Self {
            sizes,
            parameters: builder.parameters,
            token,
            text_position,
            text: text_offsets,
            patch,
            class,
            image_position,
            norm_before,
            image: image_offsets,
        }
    }

    /// Values of all parameters.
    pub fn length(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.offset + last.length())
    }
}
