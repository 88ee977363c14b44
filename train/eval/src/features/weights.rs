//! Layers of pretrained feature networks, built from their checkpoints. Shapes are checked, and BatchNorm is folded into the
//! preceding convolution.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use dalle_model::burn::tensor::module::conv2d;
use dalle_model::burn::tensor::ops::ConvOptions;
use dalle_model::burn::tensor::{Device, Tensor, TensorData};

use dalle_import::Array;

/// ε of both networks' BatchNorm.
const EPSILON: f64 = 1e-3;

/// The tensors of a checkpoint. A network removes those it uses.
pub struct Weights<'a> {
    arrays: BTreeMap<String, Array>,
    device: &'a Device,
}

impl<'a> Weights<'a> {
    /// The tensors, and the device to build the network on.
    pub fn new(arrays: BTreeMap<String, Array>, device: &'a Device) -> Self {
        Self { arrays, device }
    }

    /// The device to build the network on.
    pub fn device(&self) -> &Device {
        self.device
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.arrays.contains_key(name)
    }

    /// Size of a tensor's first dimension; 0 if there is no such tensor.
    pub fn rows(&self, name: &str) -> usize {
        self.arrays.get(name).and_then(|array| array.shape.first()).copied().unwrap_or(0)
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let array =
            self.arrays.remove(name).with_context(|| format!("the weights contain no tensor `{name}`"))?;
        ensure!(array.shape == shape, "`{name}` has shape {:?}, expected {shape:?}", array.shape);
        Ok(array.values)
    }

    /// A convolution without bias, `[out, in / groups, height, width]`, with the BatchNorm that follows it.
    pub fn conv(
        &mut self,
        conv: &str,
        norm: &str,
        shape: [usize; 4],
        options: ConvOptions<2>,
    ) -> Result<Conv> {
        let mut kernel = self.take(&format!("{conv}.weight"), &shape)?;
        let mut statistic = |name: &str| self.take(&format!("{norm}.{name}"), &shape[..1]);
        let (gain, mut bias) = (statistic("weight")?, statistic("bias")?);
        let (mean, variance) = (statistic("running_mean")?, statistic("running_var")?);
        let each = kernel.len() / shape[0];
        for (channel, part) in kernel.chunks_mut(each).enumerate() {
            let scale = f64::from(gain[channel]) / (f64::from(variance[channel]) + EPSILON).sqrt();
            part.iter_mut().for_each(|weight| *weight = (f64::from(*weight) * scale) as f32);
            bias[channel] = (f64::from(bias[channel]) - f64::from(mean[channel]) * scale) as f32;
        }
        Ok(Conv {
            kernel: Tensor::from_data(TensorData::new(kernel, shape), self.device),
            bias: Tensor::from_data(TensorData::new(bias, [shape[0]]), self.device),
            options,
        })
    }

    /// A linear layer, `[out, in]`.
    pub fn linear(&mut self, name: &str, shape: [usize; 2]) -> Result<Linear> {
        let matrix = self.take(&format!("{name}.weight"), &shape)?;
        let bias = self.take(&format!("{name}.bias"), &shape[..1])?;
        Ok(Linear {
            matrix: Tensor::<2>::from_data(TensorData::new(matrix, shape), self.device).transpose(),
            bias: Tensor::from_data(TensorData::new(bias, [1, shape[0]]), self.device),
        })
    }

    /// Checks that no tensors are left except those used only in training.
    pub fn finish(self) -> Result<()> {
        let training = |name: &str| name.ends_with(".num_batches_tracked") || name.starts_with("AuxLogits.");
        match self.arrays.into_keys().find(|name| !training(name)) {
            Some(name) => anyhow::bail!("the weights contain `{name}`, which is not part of the network"),
            None => Ok(()),
        }
    }
}

/// A convolution with the following BatchNorm folded in.
pub struct Conv {
    kernel: Tensor<4>,
    bias: Tensor<1>,
    /// Stride, padding, dilation and groups.
    pub options: ConvOptions<2>,
}

impl Conv {
    /// `[B, in, H, W] → [B, out, H', W']`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d(x, self.kernel.clone(), Some(self.bias.clone()), self.options.clone())
    }

    /// [`Self::forward`] with TensorFlow's `SAME` padding: an output of ⌈size / stride⌉, an odd row or column of padding at the end.
    pub fn forward_same(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let [_, _, down, across] = self.kernel.dims();
        let padding = |size: usize, kernel: usize, stride: usize| {
            let missing = ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
            (missing / 2, missing - missing / 2)
        };
        let stride = self.options.stride;
        let options = ConvOptions {
            padding: [padding(height, down, stride[0]), padding(width, across, stride[1])],
            ..self.options.clone()
        };
        conv2d(x, self.kernel.clone(), Some(self.bias.clone()), options)
    }
}

/// A linear layer.
pub struct Linear {
    matrix: Tensor<2>,
    bias: Tensor<2>,
}

impl Linear {
    /// `[B, in] → [B, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.matrix.clone()) + self.bias.clone()
    }
}
