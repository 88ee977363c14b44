//! Strict loading of weights: exactly the module's tensors, in its shapes, all finite, read one at a time.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor, TensorData};
use dalle_files::tensors::{InMemory, TensorSource, Tensors, ValueType, WeightsError};

use super::name;

/// Loads the weights of a file into `module`, on the device and in the type that `module` was created with.
///
/// # Errors
/// The first tensor that is missing, unexpected, of the wrong shape or type, not finite, or unreadable.
pub fn load<M: Module>(module: M, source: &mut impl TensorSource) -> Result<M, WeightsError> {
    let mut loader = Loader { path: Vec::new(), tensors: Tensors::new(source), error: None };
    let module = module.map(&mut loader);
    loader.error.map_or(Ok(()), Err)?;
    loader.tensors.finish()?;
    Ok(module)
}

/// Checks that [`load`] would accept a file, without allocating the network.
///
/// # Errors
/// As [`load`].
pub fn check<M: Module>(module: &M, source: &mut impl TensorSource) -> Result<(), WeightsError> {
    let mut checker = Checker { path: Vec::new(), tensors: Tensors::new(source), error: None };
    module.visit(&mut checker);
    checker.error.map_or(Ok(()), Err)?;
    checker.tensors.finish()
}

/// [`load`] from the bytes of a safetensors file.
///
/// # Errors
/// As [`load`], or the bytes are not a safetensors file.
pub fn from_safetensors<M: Module>(module: M, bytes: &[u8]) -> Result<M, WeightsError> {
    load(module, &mut InMemory::new(bytes)?)
}

struct Checker<'a, S> {
    path: Vec<String>,
    tensors: Tensors<'a, S>,
    error: Option<WeightsError>,
}

impl<S: TensorSource> ModuleVisitor for Checker<'_, S> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.error.is_none() {
            self.error = self.tensors.take(name(&self.path), &param.lazy_shape()).err();
        }
    }
}

struct Loader<'a, S> {
    path: Vec<String>,
    tensors: Tensors<'a, S>,
    error: Option<WeightsError>,
}

impl<S: TensorSource> ModuleMapper for Loader<'_, S> {
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
        let (shape, device) = (param.lazy_shape(), param.lazy_device());
        match self.tensors.take(name(&self.path), &shape) {
            Ok((values, kind)) => {
                let dtype = match kind {
                    ValueType::F32 => DType::F32,
                    ValueType::F16 => DType::F16,
                    ValueType::Bf16 => DType::BF16,
                };
                let data = TensorData::from_bytes_vec(values.into_owned(), shape, dtype);
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
