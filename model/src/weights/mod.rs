//! Weights as safetensors: the content of `model.safetensors`, `encoder.safetensors`, `decoder.safetensors` and
//! `clip.safetensors`.
//!
//! A tensor's [`name`] is its path in the module (`groups.1.0.res_path.conv_2.w`). Loading requires exactly the module's tensors and
//! shapes. Files hold f32, f16 or bf16; a module keeps the type that it was created with.

mod load;
mod name;

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, FloatDType, Tensor, TensorData};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

pub use dalle_files::tensors::{TensorSource, WeightsError};
pub use dalle_files::{FILE_START, wrong_file};
pub use load::{check, from_safetensors, load};
pub use name::name;

/// Serialises the module's weights as a safetensors file, in `dtype` (F32, F16 or BF16).
///
/// # Errors
/// A weight is not finite in `dtype`.
pub fn to_safetensors<M: Module>(module: &M, dtype: FloatDType) -> Result<Vec<u8>, WeightsError> {
    serialise(module, dtype, None)
}

/// As [`to_safetensors`], with the text `value` under `key` in the metadata of the file's header. Loading ignores it.
///
/// # Errors
/// A weight is not finite in `dtype`.
pub fn to_safetensors_with<M: Module>(
    module: &M,
    dtype: FloatDType,
    (key, value): (&str, String),
) -> Result<Vec<u8>, WeightsError> {
    // A single entry, because the order of several would be random.
    serialise(module, dtype, Some(HashMap::from([(key.to_owned(), value)])))
}

fn serialise<M: Module>(
    module: &M,
    dtype: FloatDType,
    metadata: Option<HashMap<String, String>>,
) -> Result<Vec<u8>, WeightsError> {
    let mut collector = Collector { path: Vec::new(), dtype, tensors: Vec::new(), not_finite: None };
    module.visit(&mut collector);
    if let Some(name) = collector.not_finite {
        return Err(WeightsError::NotFinite(name));
    }
    let views = collector
        .tensors
        .iter()
        .map(|(name, data)| {
            let dtype = match data.dtype() {
                DType::F16 => Dtype::F16,
                DType::BF16 => Dtype::BF16,
                _ => Dtype::F32,
            };
            Ok((name.clone(), TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())?))
        })
        .collect::<Result<Vec<_>, WeightsError>>()?;
    Ok(safetensors::serialize(views, metadata)?)
}

/// Replaces `values` by the values of all parameters, in the module's order, which is that of `dalle-kernels`.
pub fn read_values(module: &impl Module, values: &mut Vec<f32>) {
    struct Read<'a>(&'a mut Vec<f32>);
    impl ModuleVisitor for Read<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let data = param.val().into_data();
            match data.as_slice::<f32>() {
                Ok(slice) => self.0.extend_from_slice(slice),
                Err(_) => self.0.extend(data.iter::<f32>()),
            }
        }
    }
    values.clear();
    module.visit(&mut Read(values));
}

/// Number of parameters in the part `path` of `module` (the whole module for ""). Allocates none.
pub fn count_parameters<M: Module>(module: &M, path: &str) -> u64 {
    Counter::count(module, path).total
}

/// Number of parameters of the largest tensor of `module`. Allocates none.
pub fn largest_tensor<M: Module>(module: &M) -> u64 {
    Counter::count(module, "").largest
}

struct Counter {
    path: Vec<String>,
    below: String,
    total: u64,
    largest: u64,
}

impl Counter {
    fn count<M: Module>(module: &M, path: &str) -> Self {
        let mut counter = Self { path: Vec::new(), below: path.to_owned(), total: 0, largest: 0 };
        module.visit(&mut counter);
        counter
    }
}

impl ModuleVisitor for Counter {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = name(&self.path);
        let inside =
            path.strip_prefix(&self.below).is_some_and(|rest| self.below.is_empty() || rest.starts_with('.'));
        if inside {
            let parameters = param.lazy_shape().num_elements() as u64;
            self.total += parameters;
            self.largest = self.largest.max(parameters);
        }
    }
}

struct Collector {
    path: Vec<String>,
    dtype: FloatDType,
    tensors: Vec<(String, TensorData)>,
    not_finite: Option<String>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let data = param.val().into_data_dtype(self.dtype.into());
        if self.not_finite.is_none() && data.iter::<f32>().any(|value| !value.is_finite()) {
            self.not_finite = Some(name(&self.path));
        }
        self.tensors.push((name(&self.path), data));
    }
}
