//! Weights as safetensors bytes: the content of `model.safetensors`, `encoder.safetensors` and `decoder.safetensors`.
//!
//! A tensor's name is its path through the module (`groups.1.0.res_path.conv_2.w`). Loading insists on exactly the module's
//! tensors in exactly its shapes. Files hold f32 or, to travel lighter, f16 or bf16; a module computes in f32 wherever it was
//! created so.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, FloatDType, Tensor, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// Weights that do not belong to the module they were offered to.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// Not a safetensors file, or a truncated one.
    #[error("not a safetensors file, or a damaged one: {0}")]
    Malformed(#[from] safetensors::SafeTensorError),
    /// A tensor of the module is not in the file.
    #[error("the weights hold no tensor `{0}`; they belong to another model or configuration")]
    Missing(String),
    /// The file holds a tensor that the module has no place for.
    #[error(
        "the weights hold `{0}`, which this model has no place for; they belong to another model or configuration"
    )]
    Unexpected(String),
    /// A tensor has another shape than the module's.
    #[error("tensor `{name}` has shape {got:?}, the configuration asks for {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// The module's shape.
        expected: Vec<usize>,
        /// The file's shape.
        got: Vec<usize>,
    },
    /// A tensor holds values that are infinite or not a number, in the type of the file.
    #[error(
        "tensor `{0}` holds values that are infinite or not a number: the training that made it diverged, or it is damaged"
    )]
    NotFinite(String),
    /// A tensor is of a type that holds no weights.
    #[error("tensor `{name}` is of type {got:?}; expected F32, F16 or BF16")]
    Type {
        /// The tensor.
        name: String,
        /// The file's type.
        got: Dtype,
    },
}

/// The module's weights as the bytes of a safetensors file, in `dtype` (F32, F16 or BF16).
///
/// # Errors
/// A weight is not finite in `dtype`.
pub fn to_safetensors<M: Module>(module: &M, dtype: FloatDType) -> Result<Vec<u8>, WeightsError> {
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
    Ok(safetensors::serialize(views, None)?)
}

/// `module` with the weights of a safetensors file, on the device and in the type that `module` was created with.
///
/// # Errors
/// The first tensor that is missing, superfluous, of a wrong shape or type, or not finite.
pub fn from_safetensors<M: Module>(module: M, bytes: &[u8]) -> Result<M, WeightsError> {
    let file = SafeTensors::deserialize(bytes)?;
    let mut loader =
        Loader { path: Vec::new(), tensors: file.iter().collect::<HashMap<&str, TensorView>>(), error: None };
    let module = module.map(&mut loader);
    match (loader.error, loader.tensors.into_keys().min()) {
        (Some(error), _) => Err(error),
        (None, Some(name)) => Err(WeightsError::Unexpected(name.to_owned())),
        (None, None) => Ok(module),
    }
}

/// Number of parameters below the part of `module` at `path` (all of them for ""), without allocating any.
pub fn count_parameters<M: Module>(module: &M, path: &str) -> u64 {
    let mut counter = Counter { path: Vec::new(), below: path.to_owned(), total: 0 };
    module.visit(&mut counter);
    counter.total
}

struct Counter {
    path: Vec<String>,
    below: String,
    total: u64,
}

impl ModuleVisitor for Counter {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        let inside =
            path.strip_prefix(&self.below).is_some_and(|rest| self.below.is_empty() || rest.starts_with('.'));
        if inside {
            self.total += param.lazy_shape().num_elements() as u64;
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
            self.not_finite = Some(self.path.join("."));
        }
        self.tensors.push((self.path.join("."), data));
    }
}

struct Loader<'a> {
    path: Vec<String>,
    tensors: HashMap<&'a str, TensorView<'a>>,
    error: Option<WeightsError>,
}

impl Loader<'_> {
    /// The named tensor as f32.
    fn take(&mut self, expected: &[usize]) -> Result<TensorData, WeightsError> {
        let name = self.path.join(".");
        let Some(view) = self.tensors.remove(name.as_str()) else {
            return Err(WeightsError::Missing(name));
        };
        if view.shape() != expected {
            return Err(WeightsError::Shape {
                name,
                expected: expected.to_vec(),
                got: view.shape().to_vec(),
            });
        }
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            got => return Err(WeightsError::Type { name, got }),
        };
        if !is_finite(view.data(), dtype) {
            return Err(WeightsError::NotFinite(name));
        }
        Ok(TensorData::from_bytes_vec(view.data().to_vec(), expected.to_vec(), dtype))
    }
}

/// Whether no value has the exponent of infinities and NaNs. Of little-endian bytes, which an alignment does not matter to; fast,
/// since it reads 12 billion values.
fn is_finite(bytes: &[u8], dtype: DType) -> bool {
    let halves = |exponent: u16| {
        bytes.as_chunks().0.iter().all(|&half| u16::from_le_bytes(half) & exponent != exponent)
    };
    match dtype {
        DType::F16 => halves(0x7C00),
        DType::BF16 => halves(0x7F80),
        _ => bytes.as_chunks().0.iter().all(|&word| u32::from_le_bytes(word) & 0x7F80_0000 != 0x7F80_0000),
    }
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.error.is_some() {
            return param;
        }
        let shape = param.lazy_shape();
        let device = param.lazy_device();
        match self.take(&shape) {
            Ok(data) => {
                let id = param.id;
                param.transform_for_load(Tensor::from_data(data, (&device, DType::F32)), id)
            }
            Err(error) => {
                self.error = Some(error);
                param
            }
        }
    }
}
