//! Safetensors files that must have exactly the tensors of a network, in exactly its shapes, all finite.
//!
//! ```text
//! let values = tensors::values(&bytes, [("input.w", [4, 3, 1, 1].as_slice()), ("input.b", &[4])])?;
//! ```

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::ops::Range;

use half::{bf16, f16};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};

/// Why weights cannot be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// Not a safetensors file, or a truncated one.
    #[error("not a safetensors file, or a damaged one ({0}); download or copy it again")]
    Malformed(#[from] safetensors::SafeTensorError),
    /// A tensor of the network is not in the file.
    #[error("the weights contain no tensor `{0}`; they belong to another model or configuration")]
    Missing(String),
    /// The file contains a tensor that the network does not have.
    #[error(
        "the weights contain `{0}`, which this model does not have; they belong to another model or configuration"
    )]
    Unexpected(String),
    /// A tensor does not have the network's shape.
    #[error("tensor `{name}` has shape {got:?}, expected {expected:?} by the configuration")]
    Shape {
        /// The tensor.
        name: String,
        /// The network's shape.
        expected: Vec<usize>,
        /// The file's shape.
        got: Vec<usize>,
    },
    /// A tensor contains NaN or infinite values, in the type of the file.
    #[error("tensor `{0}` contains NaN or infinite values: its training diverged, or the file is damaged")]
    NotFinite(String),
    /// A tensor cannot be read from the file.
    #[error("cannot read tensor `{name}`: {cause}")]
    Read {
        /// The tensor.
        name: String,
        /// The system's reason.
        cause: Box<dyn Error + Send + Sync>,
    },
    /// A tensor is of a type that weights cannot have.
    #[error("tensor `{name}` is of type {got:?}; expected F32, F16 or BF16")]
    Type {
        /// The tensor.
        name: String,
        /// The file's type.
        got: Dtype,
    },
}

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

/// A file in memory.
pub struct InMemory<'a> {
    metadata: Metadata,
    data: &'a [u8],
}

impl<'a> InMemory<'a> {
    /// From the bytes of a safetensors file.
    ///
    /// # Errors
    /// They are not one.
    pub fn new(bytes: &'a [u8]) -> Result<Self, WeightsError> {
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

/// The type of a file's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// 32 bits.
    F32,
    /// 16 bits, IEEE 754.
    F16,
    /// 16 bits with the range of `F32`.
    Bf16,
}

/// The tensors of a file that have not been loaded yet.
pub struct Tensors<'a, S> {
    source: &'a mut S,
    rest: HashMap<String, TensorInfo>,
}

impl<'a, S: TensorSource> Tensors<'a, S> {
    /// All tensors of a file.
    pub fn new(source: &'a mut S) -> Self {
        let rest = source.metadata().tensors().into_iter().map(|(name, info)| (name, info.clone()));
        Self { rest: rest.collect(), source }
    }

    /// The values of the named tensor as little-endian bytes, and their type.
    ///
    /// # Errors
    /// There is no such tensor left, it has another shape or not the type of weights, is not finite, or cannot be read.
    pub fn take(
        &mut self,
        name: String,
        expected: &[usize],
    ) -> Result<(Cow<'_, [u8]>, ValueType), WeightsError> {
        let Some(info) = self.rest.remove(&name) else { return Err(WeightsError::Missing(name)) };
        if info.shape != expected {
            return Err(WeightsError::Shape { name, expected: expected.to_vec(), got: info.shape });
        }
        let kind = match info.dtype {
            Dtype::F32 => ValueType::F32,
            Dtype::F16 => ValueType::F16,
            Dtype::BF16 => ValueType::Bf16,
            got => return Err(WeightsError::Type { name, got }),
        };
        let (start, end) = info.data_offsets;
        match self.source.read(start..end) {
            Err(cause) => Err(WeightsError::Read { name, cause }),
            Ok(values) if is_finite(&values, kind) => Ok((values, kind)),
            Ok(_) => Err(WeightsError::NotFinite(name)),
        }
    }

    /// Adds the values of the named tensor to `values`.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_into(
        &mut self,
        name: &str,
        expected: &[usize],
        values: &mut Vec<f32>,
    ) -> Result<(), WeightsError> {
        let (bytes, kind) = self.take(name.to_owned(), expected)?;
        match kind {
            ValueType::F32 => {
                values.extend(bytes.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)));
            }
            ValueType::F16 => {
                values.extend(bytes.as_chunks().0.iter().map(|&half| f16::from_le_bytes(half).to_f32()));
            }
            ValueType::Bf16 => {
                values.extend(bytes.as_chunks().0.iter().map(|&half| bf16::from_le_bytes(half).to_f32()));
            }
        }
        Ok(())
    }

    /// Checks that every tensor has been loaded.
    ///
    /// # Errors
    /// The first one by name.
    pub fn finish(self) -> Result<(), WeightsError> {
        self.rest.into_keys().min().map_or(Ok(()), |name| Err(WeightsError::Unexpected(name)))
    }
}

/// The values of all tensors of a file, which must be these, one after the other.
///
/// # Errors
/// It is not a safetensors file, or the first tensor that is missing, unexpected, of the wrong shape or type, or not finite.
pub fn values<'a>(
    bytes: &[u8],
    tensors: impl IntoIterator<Item = (&'a str, &'a [usize])>,
) -> Result<Vec<f32>, WeightsError> {
    let mut source = InMemory::new(bytes)?;
    let mut file = Tensors::new(&mut source);
    let mut values = Vec::new();
    for (name, shape) in tensors {
        file.take_into(name, shape, &mut values)?;
    }
    file.finish()?;
    Ok(values)
}

/// Whether no value has the exponent of infinities and NaNs. Reads little-endian bytes of any alignment. It must be fast: the
/// paper's model has 12 billion values.
fn is_finite(bytes: &[u8], kind: ValueType) -> bool {
    let halves = |exponent: u16| {
        bytes.as_chunks().0.iter().all(|&half| u16::from_le_bytes(half) & exponent != exponent)
    };
    match kind {
        ValueType::F16 => halves(0x7C00),
        ValueType::Bf16 => halves(0x7F80),
        ValueType::F32 => {
            bytes.as_chunks().0.iter().all(|&word| u32::from_le_bytes(word) & 0x7F80_0000 != 0x7F80_0000)
        }
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    /// A file of tensors: name, shape, type and bytes.
    fn file(tensors: &[(&str, &[usize], Dtype, &[u8])]) -> Vec<u8> {
        let views = tensors.iter().map(|(name, shape, dtype, bytes)| {
            (*name, TensorView::new(*dtype, shape.to_vec(), bytes).expect("a tensor"))
        });
        safetensors::serialize(views.collect::<Vec<_>>(), None).expect("a file")
    }

    #[test]
    fn values_of_every_type_come_in_the_order_asked_for() {
        let bytes = file(&[
            ("a", &[2], Dtype::F16, &[0x00, 0x3E, 0x00, 0xC0]),
            ("b", &[1], Dtype::BF16, &[0xC0, 0x3F]),
            ("c", &[1, 1], Dtype::F32, &[0, 0, 0x20, 0x40]),
        ]);
        let asked: [(&str, &[usize]); 3] = [("c", &[1, 1]), ("a", &[2]), ("b", &[1])];
        assert_eq!(values(&bytes, asked).expect("all are there"), [2.5, 1.5, -2.0, 1.5]);
    }

    #[test]
    fn what_is_missing_unexpected_of_another_shape_or_type_or_not_finite_is_named() {
        let good: (&str, &[usize], Dtype, &[u8]) = ("a", &[1], Dtype::F16, &[0, 0x3C]);
        let said = |tensors: &[(&str, &[usize], Dtype, &[u8])]| {
            let bytes = file(tensors);
            values(&bytes, [("a", [1].as_slice())]).expect_err("refused").to_string()
        };
        assert!(said(&[]).contains("no tensor `a`"));
        assert!(said(&[good, ("b", &[1], Dtype::F16, &[0, 0])]).contains("contain `b`"));
        assert!(said(&[("a", &[2], Dtype::F16, &[0; 4])]).contains("shape [2]"));
        assert!(said(&[("a", &[1], Dtype::I16, &[0; 2])]).contains("type I16"));
        for (dtype, bytes) in [
            (Dtype::F16, [0x00, 0x7C].as_slice()),
            (Dtype::BF16, &[0xC0, 0x7F]),
            (Dtype::F32, &[0, 0, 0x80, 0xFF]),
        ] {
            assert!(said(&[("a", &[1], dtype, bytes)]).contains("NaN or infinite"), "{dtype:?}");
        }
        assert!(values(&[1, 2, 3], []).expect_err("refused").to_string().contains("not a safetensors file"));
    }
}
