//! The prior's weights for `dalle-kernels`, which samples on the CPU, several times faster than Burn's CPU backend.

use std::collections::VecDeque;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor, TensorData};
use dalle_kernels::prior::{PriorSizes, Sampler};
use dalle_kernels::storage::Storage;

use super::Prior;
use crate::config::ModelConfig;
use crate::has_kernels;
use crate::precision::Precision;
use crate::transformer::Layer;

/// The sizes of a model's prior, as `dalle-kernels` names them.
pub fn kernel_sizes(config: &ModelConfig) -> PriorSizes {
    PriorSizes {
        layers: config.prior.layers,
        heads: config.prior.heads,
        head: config.prior.head_dim,
        conv_kernel: config.prior.conv_kernel,
        text: config.text_length,
        grid: config.geometry().grid,
        text_vocab: config.text_vocab,
        image_vocab: config.dvae.vocab,
    }
}

/// How the kernels keep numbers of a type.
pub(crate) fn storage(precision: Precision) -> Storage {
    match precision {
        Precision::F32 => Storage::F32,
        Precision::Bf16 => Storage::Bf16,
        Precision::F16 => Storage::F16,
    }
}

/// Reads the weights of one part of a prior, and frees them.
type Part = Box<dyn FnOnce(&mut Read)>;

fn part(module: impl Module + 'static) -> Part {
    Box::new(move |read| module.visit(read))
}

/// Parameters in the order of the module, in their own type.
struct Read(VecDeque<TensorData>);

impl ModuleVisitor for Read {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push_back(param.val().into_data());
    }
}

impl Prior {
    /// The same prior for `dalle-kernels`, with its layers' matrices in the type that they have. The weights are moved part by part,
    /// so that they are not in memory twice.
    ///
    /// # Errors
    /// The prior, if it is not on the CPU or has sizes without kernels.
    pub fn into_kernels(self, config: &ModelConfig) -> Result<Sampler, Box<Self>> {
        let sizes = kernel_sizes(config);
        if !has_kernels(&self.device()) || !Sampler::supports(&sizes) {
            return Err(Box::new(self));
        }
        let storage = match self.layers.first().map(Layer::dtype) {
            Some(DType::F16) => Storage::F16,
            Some(DType::BF16) => Storage::Bf16,
            _ => Storage::F32,
        };
        let Self { embed, layers, norm, text_logits, image_logits } = self;
        let mut parts = std::iter::once(part(embed)).chain(layers.into_iter().map(part)).chain([
            part(norm),
            part(text_logits),
            part(image_logits),
        ]);
        let mut read = Read(VecDeque::new());
        let sampler = Sampler::new(sizes, storage, |parameter| {
            while read.0.is_empty()
                && let Some(part) = parts.next()
            {
                part(&mut read);
            }
            let data = read.0.pop_front().ok_or_else(|| parameter.name.clone())?;
            Ok::<Vec<f32>, String>(match data.as_slice() {
                Ok(values) => values.to_vec(),
                // 16 bits.
                Err(_) => data.iter().collect(),
            })
        });
        Ok(sampler.expect("the kernels have the parameters of the module"))
    }
}
