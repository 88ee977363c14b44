//! Inception v3 (Szegedy et al. 2016) with torchvision's tensor names: 2048 features of 299×299 pixels, and class probabilities.
//!
//! Two sets of weights use these names. torchvision's `inception_v3` has ImageNet's 1000 classes. The port of the network behind
//! published FIDs (`pt_inception-2015-12-05`) has 1008 outputs; its average pooling excludes the padding, and its last module uses
//! max pooling instead.

use anyhow::{Result, ensure};
use dalle_model::burn::tensor::activation::relu;
use dalle_model::burn::tensor::module::{avg_pool2d, max_pool2d};
use dalle_model::burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use dalle_model::burn::tensor::{Device, Tensor};
use image::RgbImage;

use super::extractor::{Extracted, Extractor, Names, extracted, pool, to_tensor};
use super::weights::{Conv, Linear, Weights};

/// Side of the input in pixels.
const SIDE: u32 = 299;
const FEATURES: usize = 2048;
/// Number of classes of torchvision's network, and of the one behind published FIDs.
const TORCHVISION: usize = 1000;
const PUBLISHED: usize = 1008;

/// The network.
pub struct Inception {
    /// Convolutions, and whether max pooling halves the map after each.
    stem: Vec<(Conv, bool)>,
    modules: Vec<Vec<Branch>>,
    classes: Linear,
    names: Names,
    device: Device,
}

/// A branch of a module: optional pooling, a chain of convolutions, and optionally two parallel convolutions at the end.
struct Branch {
    pooling: Option<Pooling>,
    chain: Vec<Conv>,
    fork: Vec<Conv>,
}

#[derive(Clone, Copy)]
enum Pooling {
    /// 3×3 average pooling with stride 1; `padding` says whether it includes the padding.
    Mean { padding: bool },
    /// 3×3 max pooling with stride 1.
    Maximum,
    /// 3×3 max pooling with stride 2.
    Shrink,
}

impl Pooling {
    fn forward(self, x: Tensor<4>) -> Tensor<4> {
        let maximum = MaxPoolOptions::new([3, 3]);
        match self {
            Self::Mean { padding } => {
                let options = AvgPoolOptions::new([3, 3]).with_stride([1, 1]).with_padding([1, 1]);
                avg_pool2d(x, options.with_count_include_pad(padding))
            }
            Self::Maximum => max_pool2d(x, maximum.with_stride([1, 1]).with_padding([1, 1])),
            Self::Shrink => max_pool2d(x, maximum.with_stride([2, 2])),
        }
    }
}

impl Branch {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mut x = self.pooling.map_or(x.clone(), |pooling| pooling.forward(x));
        for conv in &self.chain {
            x = relu(conv.forward(x));
        }
        if self.fork.is_empty() {
            return x;
        }
        Tensor::cat(self.fork.iter().map(|conv| relu(conv.forward(x.clone()))).collect(), 1)
    }
}

/// A convolution in a table: name, output channels, kernel height and width.
type ConvSpec = (&'static str, usize, usize, usize);

/// Builds the branches of modules from the weights.
struct ModuleBuilder<'w, 'd> {
    weights: &'w mut Weights<'d>,
    module: &'static str,
    n_in: usize,
}

impl ModuleBuilder<'_, '_> {
    /// Continues with the module of this name, whose input has `n_in` channels.
    fn at(&mut self, module: &'static str, n_in: usize) -> &mut Self {
        (self.module, self.n_in) = (module, n_in);
        self
    }

    /// A chain of convolutions from the module's input; the last one has the given stride. With stride 1 they keep the map's size.
    fn chain(&mut self, specs: &[ConvSpec], stride: usize) -> Result<(Vec<Conv>, usize)> {
        let mut n_in = self.n_in;
        let mut chain = Vec::new();
        for (index, &spec) in specs.iter().enumerate() {
            chain.push(self.conv(spec, n_in, if index + 1 == specs.len() { stride } else { 1 })?);
            n_in = spec.1;
        }
        Ok((chain, n_in))
    }

    fn conv(&mut self, (name, out, height, width): ConvSpec, n_in: usize, stride: usize) -> Result<Conv> {
        let padding = if stride == 1 { [height / 2, width / 2] } else { [0, 0] };
        basic(self.weights, &format!("{}.{name}", self.module), [out, n_in, height, width], stride, padding)
    }

    fn branch(&mut self, specs: &[ConvSpec]) -> Result<Branch> {
        Ok(Branch { pooling: None, chain: self.chain(specs, 1)?.0, fork: Vec::new() })
    }

    fn strided(&mut self, specs: &[ConvSpec]) -> Result<Branch> {
        Ok(Branch { pooling: None, chain: self.chain(specs, 2)?.0, fork: Vec::new() })
    }

    fn forked(&mut self, specs: &[ConvSpec], fork: [ConvSpec; 2]) -> Result<Branch> {
        let (chain, n_in) = self.chain(specs, 1)?;
        let fork = fork.into_iter().map(|spec| self.conv(spec, n_in, 1)).collect::<Result<_>>()?;
        Ok(Branch { pooling: None, chain, fork })
    }

    fn pooled(&mut self, pooling: Pooling, out: usize) -> Result<Branch> {
        Ok(Branch { pooling: Some(pooling), ..self.branch(&[("branch_pool", out, 1, 1)])? })
    }
}

fn basic(
    weights: &mut Weights,
    name: &str,
    shape: [usize; 4],
    stride: usize,
    padding: [usize; 2],
) -> Result<Conv> {
    let options = ConvOptions::new([stride; 2], padding, [1; 2], 1);
    weights.conv(&format!("{name}.conv"), &format!("{name}.bn"), shape, options)
}

impl Inception {
    /// Builds the network from its weights.
    pub fn new(weights: &mut Weights) -> Result<Self> {
        let outputs = weights.rows("fc.weight");
        ensure!(
            [TORCHVISION, PUBLISHED].contains(&outputs),
            "`fc.weight` has {outputs} rows, expected {TORCHVISION} (torchvision) or {PUBLISHED} (pt_inception-2015-12-05)"
        );
        let published = outputs == PUBLISHED;
        let mean = Pooling::Mean { padding: !published };
        let mut stem = Vec::new();
        let mut n_in = 3;
        for (name, out, kernel, stride, padding, shrink) in [
            ("Conv2d_1a_3x3", 32, 3, 2, 0, false),
            ("Conv2d_2a_3x3", 32, 3, 1, 0, false),
            ("Conv2d_2b_3x3", 64, 3, 1, 1, true),
            ("Conv2d_3b_1x1", 80, 1, 1, 0, false),
            ("Conv2d_4a_3x3", 192, 3, 1, 0, true),
        ] {
            stem.push((basic(weights, name, [out, n_in, kernel, kernel], stride, [padding; 2])?, shrink));
            n_in = out;
        }
        let mut build = ModuleBuilder { weights: &mut *weights, module: "", n_in: 0 };
        let modules = vec![
            module_a(build.at("Mixed_5b", 192), 32, mean)?,
            module_a(build.at("Mixed_5c", 256), 64, mean)?,
            module_a(build.at("Mixed_5d", 288), 64, mean)?,
            module_b(build.at("Mixed_6a", 288))?,
            module_c(build.at("Mixed_6b", 768), 128, mean)?,
            module_c(build.at("Mixed_6c", 768), 160, mean)?,
            module_c(build.at("Mixed_6d", 768), 160, mean)?,
            module_c(build.at("Mixed_6e", 768), 192, mean)?,
            module_d(build.at("Mixed_7a", 768))?,
            module_e(build.at("Mixed_7b", 1280), mean)?,
            module_e(build.at("Mixed_7c", 2048), if published { Pooling::Maximum } else { mean })?,
        ];
        let classes = weights.linear("fc", [outputs, FEATURES])?;
        let names = if published {
            Names { network: "Inception v3 (2015-12-05)", distance: "FID", score: "IS" }
        } else {
            Names {
                network: "Inception v3 (torchvision)",
                distance: "FID (torchvision)",
                score: "IS (torchvision)",
            }
        };
        Ok(Self { stem, modules, classes, names, device: weights.device().clone() })
    }

    /// Pixels in −1..1, `[B, 3, H, W]`, to features `[B, 2048]` and logits `[B, classes]`.
    fn forward(&self, mut x: Tensor<4>) -> (Tensor<2>, Tensor<2>) {
        for (conv, shrink) in &self.stem {
            x = relu(conv.forward(x));
            if *shrink {
                x = Pooling::Shrink.forward(x);
            }
        }
        for module in &self.modules {
            x = Tensor::cat(module.iter().map(|branch| branch.forward(x.clone())).collect(), 1);
        }
        let features = pool(x);
        (features.clone(), self.classes.forward(features))
    }
}

fn module_a(build: &mut ModuleBuilder, pooled: usize, mean: Pooling) -> Result<Vec<Branch>> {
    Ok(vec![
        build.branch(&[("branch1x1", 64, 1, 1)])?,
        build.branch(&[("branch5x5_1", 48, 1, 1), ("branch5x5_2", 64, 5, 5)])?,
        build.branch(&[
            ("branch3x3dbl_1", 64, 1, 1),
            ("branch3x3dbl_2", 96, 3, 3),
            ("branch3x3dbl_3", 96, 3, 3),
        ])?,
        build.pooled(mean, pooled)?,
    ])
}

fn module_b(build: &mut ModuleBuilder) -> Result<Vec<Branch>> {
    Ok(vec![
        build.strided(&[("branch3x3", 384, 3, 3)])?,
        build.strided(&[
            ("branch3x3dbl_1", 64, 1, 1),
            ("branch3x3dbl_2", 96, 3, 3),
            ("branch3x3dbl_3", 96, 3, 3),
        ])?,
        Branch { pooling: Some(Pooling::Shrink), chain: Vec::new(), fork: Vec::new() },
    ])
}

fn module_c(build: &mut ModuleBuilder, width: usize, mean: Pooling) -> Result<Vec<Branch>> {
    Ok(vec![
        build.branch(&[("branch1x1", 192, 1, 1)])?,
        build.branch(&[
            ("branch7x7_1", width, 1, 1),
            ("branch7x7_2", width, 1, 7),
            ("branch7x7_3", 192, 7, 1),
        ])?,
        build.branch(&[
            ("branch7x7dbl_1", width, 1, 1),
            ("branch7x7dbl_2", width, 7, 1),
            ("branch7x7dbl_3", width, 1, 7),
            ("branch7x7dbl_4", width, 7, 1),
            ("branch7x7dbl_5", 192, 1, 7),
        ])?,
        build.pooled(mean, 192)?,
    ])
}

fn module_d(build: &mut ModuleBuilder) -> Result<Vec<Branch>> {
    Ok(vec![
        build.strided(&[("branch3x3_1", 192, 1, 1), ("branch3x3_2", 320, 3, 3)])?,
        build.strided(&[
            ("branch7x7x3_1", 192, 1, 1),
            ("branch7x7x3_2", 192, 1, 7),
            ("branch7x7x3_3", 192, 7, 1),
            ("branch7x7x3_4", 192, 3, 3),
        ])?,
        Branch { pooling: Some(Pooling::Shrink), chain: Vec::new(), fork: Vec::new() },
    ])
}

fn module_e(build: &mut ModuleBuilder, pooling: Pooling) -> Result<Vec<Branch>> {
    Ok(vec![
        build.branch(&[("branch1x1", 320, 1, 1)])?,
        build.forked(
            &[("branch3x3_1", 384, 1, 1)],
            [("branch3x3_2a", 384, 1, 3), ("branch3x3_2b", 384, 3, 1)],
        )?,
        build.forked(
            &[("branch3x3dbl_1", 448, 1, 1), ("branch3x3dbl_2", 384, 3, 3)],
            [("branch3x3dbl_3a", 384, 1, 3), ("branch3x3dbl_3b", 384, 3, 1)],
        )?,
        build.pooled(pooling, 192)?,
    ])
}

impl Extractor for Inception {
    fn names(&self) -> Names {
        self.names
    }

    fn extract(&self, images: &[RgbImage]) -> Result<Extracted> {
        let x = to_tensor(images, SIDE, &self.device).mul_scalar(2.0).sub_scalar(1.0);
        let (features, logits) = self.forward(x);
        Ok(extracted(features, logits))
    }
}
