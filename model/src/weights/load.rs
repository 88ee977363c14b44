//! Strict loading of weights: exactly the module's tensors, in its shapes, all finite, read one at a time.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::ops::Range;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor, TensorData};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};

use super::{WeightsError, name};

/// A safetensors file that is read tensor by tensor, so that a network is never in memory twice.
pub trait TensorSource {
    /// The file's header.
    fn metadata(&self) -> &Metadata;

    /// A range of the file's data, which starts after the header.
    ///
    /// # Errors
    /// The system's reason.
    fn read(&mut self, range: Range<usize>) -> Result<Cow<'_, [u8]>, Box<dyn Error + Send + Sync>>;
}

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

/// A file in memory.
struct InMemory<'a> {
    metadata: Metadata,
    data: &'a [u8],
}

impl<'a> InMemory<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, WeightsError> {
        let (header, metadata) = SafeTensors::read_metadata(bytes)?;
        Ok(Self { metadata, data: &bytes[size_of::<u64>() + header..] })
    }
}

impl TensorSource for InMemory<'_> {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn read(&mut self, range: Range<usize>) -> Result<Cow<'_, [u8]>, Box<dyn Error + Send + Sync>> {
        Ok(Cow::Borrowed(&self.data[range]))
    }
}

/// The tensors of a file that have not been loaded yet.
struct Tensors<'a, S> {
    source: &'a mut S,
    rest: HashMap<String, TensorInfo>,
}

impl<'a, S: TensorSource> Tensors<'a, S> {
    fn new(source: &'a mut S) -> Self {
        let rest = source.metadata().tensors().into_iter().map(|(name, info)| (name, info.clone()));
        Self { rest: rest.collect(), source }
    }

    /// The values and type of the named tensor. They must be finite and have this shape.
    fn take(&mut self, name: String, expected: &[usize]) -> Result<(Cow<'_, [u8]>, DType), WeightsError> {
        let Some(info) = self.rest.remove(&name) else { return Err(WeightsError::Missing(name)) };
        if info.shape != expected {
            return Err(WeightsError::Shape { name, expected: expected.to_vec(), got: info.shape });
        }
        let dtype = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            got => return Err(WeightsError::Type { name, got }),
        };
        let (start, end) = info.data_offsets;
        match self.source.read(start..end) {
            Err(cause) => Err(WeightsError::Read { name, cause }),
            Ok(values) if is_finite(&values, dtype) => Ok((values, dtype)),
            Ok(_) => Err(WeightsError::NotFinite(name)),
        }
    }

    /// Checks that every tensor has been loaded.
    fn finish(self) -> Result<(), WeightsError> {
        self.rest.into_keys().min().map_or(Ok(()), |name| Err(WeightsError::Unexpected(name)))
    }
}

/// Whether no value has the exponent of infinities and NaNs. Reads little-endian bytes of any alignment. It must be fast: the
/// paper's model has 12 billion values.
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
            Ok((values, dtype)) => {
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
