//! Rebuilds tensors and NumPy arrays from the calls that a pickle records and the storages of its file.

use std::collections::BTreeMap;

use crate::array::{Array, ElementType, gather};
use crate::error::{CheckpointError, content};
use crate::pickle::{Id, Object, Pickle, Value};
use crate::torch::{self, Storage, Storages};

/// Functions that create tensors.
const REBUILD: [&str; 3] = [
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
];
/// Functions that create NumPy arrays, in NumPy 1 and 2.
const NUMPY_ARRAYS: [&str; 4] = [
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.numeric._frombuffer",
    "numpy._core.numeric._frombuffer",
];

/// Whether the value at `id` is a tensor or a NumPy array.
pub fn is_tensor(pickle: &Pickle, id: Id) -> bool {
    pickle.call(id).is_some_and(|(class, _)| REBUILD.contains(&class) || NUMPY_ARRAYS.contains(&class))
}

/// A PyTorch file: a pickle and the storages of its tensors.
pub struct Rebuilder<'a> {
    pickle: &'a Pickle,
    storages: Storages<'a>,
    /// Size of the file in bytes.
    size: u64,
    /// The storages that have been read.
    values: BTreeMap<String, Vec<f32>>,
    /// Total size of the storages read. Many names for the same bytes must not use much memory.
    read: u64,
}

impl<'a> Rebuilder<'a> {
    /// Nothing has been read yet. `size` is that of the file in bytes.
    pub fn new(pickle: &'a Pickle, storages: Storages<'a>, size: u64) -> Self {
        Self { pickle, storages, size, values: BTreeMap::new(), read: 0 }
    }

    /// The values of named tensors.
    ///
    /// # Errors
    /// A tensor does not fit its storage or has no floating-point values, or all together are larger than the file.
    pub fn arrays(mut self, named: Vec<(String, Id)>) -> Result<BTreeMap<String, Array>, CheckpointError> {
        let mut arrays = BTreeMap::new();
        let mut values = 0;
        for (name, id) in named {
            let array = self.tensor(&name, id)?;
            // Tensors may share a storage, but weights do not. A small file must not use much memory.
            values += array.values.len() as u64;
            if values > self.size {
                return Err(CheckpointError::TooLarge {
                    what: "the sum of the tensors".into(),
                    limit: self.size,
                });
            }
            arrays.insert(name, array);
        }
        Ok(arrays)
    }

    /// The tensor of `_rebuild_parameter(tensor, …)` or `_rebuild_tensor_v2(storage, offset, size, stride, …)`, or a NumPy array.
    fn tensor(&mut self, name: &str, id: Id) -> Result<Array, CheckpointError> {
        let refusal = || content(name, "a tensor of floating-point values within its storage");
        let mut call = self.pickle.call(id).ok_or_else(refusal)?;
        if NUMPY_ARRAYS.contains(&call.0) {
            return self.numpy_array(id).ok_or_else(refusal);
        }
        if call.0.starts_with("torch._utils._rebuild_parameter") {
            call = call.1.first().and_then(|&tensor| self.pickle.call(tensor)).ok_or_else(refusal)?;
        }
        let ("torch._utils._rebuild_tensor_v2", &[storage, offset, shape, stride, ..]) = (call.0, call.1)
        else {
            return Err(refusal());
        };
        let (offset, shape, stride) =
            (self.pickle.size(offset), self.pickle.sizes(shape), self.pickle.sizes(stride));
        let (Some(offset), Some(shape), Some(stride)) = (offset, shape, stride) else {
            return Err(refusal());
        };
        let storage = self.storage(name, storage)?;
        let values = gather(storage, offset, &shape, &stride).ok_or_else(refusal)?;
        Ok(Array { shape, values })
    }

    /// A NumPy array: `_frombuffer(bytes, dtype, shape, order)`, or an object with the state `(version, shape, dtype, is Fortran's
    /// order, bytes)`.
    fn numpy_array(&self, id: Id) -> Option<Array> {
        let (class, arguments) = self.pickle.call(id)?;
        let (bytes, dtype, shape, fortran) = if class.ends_with("._frombuffer") {
            let &[bytes, dtype, shape, order] = arguments else { return None };
            (bytes, dtype, shape, self.pickle.text(order)? == "F")
        } else {
            let Value::Object(Object { state: Some(state), .. }) = self.pickle.get(id) else { return None };
            let Value::Tuple(state) = self.pickle.get(*state) else { return None };
            let &[_, shape, dtype, fortran, bytes] = state.as_slice() else { return None };
            (bytes, dtype, shape, *self.pickle.get(fortran) == Value::Bool(true))
        };
        let (shape, element) = (self.pickle.sizes(shape)?, self.numpy_type(dtype)?);
        let mut stride = vec![1usize; shape.len()];
        for step in 1..shape.len() {
            let (at, before) =
                if fortran { (step, step - 1) } else { (shape.len() - 1 - step, shape.len() - step) };
            stride[at] = stride[before].checked_mul(shape[before])?;
        }
        let values = element.read(&self.pickle.bytes(bytes)?);
        let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size))?;
        let values = gather(&values, 0, &shape, &stride).filter(|_| count == values.len())?;
        Some(Array { shape, values })
    }

    /// The type `dtype(name, …)` with the state `(version, byte order, …)`.
    fn numpy_type(&self, id: Id) -> Option<ElementType> {
        let element = ElementType::of_numpy(self.pickle.text(*self.pickle.call(id)?.1.first()?)?)?;
        let Value::Object(Object { state: Some(state), .. }) = self.pickle.get(id) else { return None };
        let Value::Tuple(state) = self.pickle.get(*state) else { return None };
        // Little-endian, or single bytes.
        matches!(self.pickle.text(*state.get(1)?)?, "<" | "|").then_some(element)
    }

    fn storage(&mut self, tensor: &str, id: Id) -> Result<&[f32], CheckpointError> {
        let found = torch::storage(self.pickle, self.pickle.get(id));
        let Storage { key, element, length } =
            found.ok_or_else(|| content(tensor, "a storage of floating-point values"))?;
        if !self.values.contains_key(key) {
            let bytes = self.storages.read(key)?;
            self.read += bytes.len() as u64;
            if self.read > self.size {
                return Err(CheckpointError::TooLarge {
                    what: "the sum of the storages".into(),
                    limit: self.size,
                });
            }
            if length.checked_mul(element.bytes()) != Some(bytes.len()) {
                return Err(content(tensor, "a storage of the stated length"));
            }
            self.values.insert(key.to_owned(), element.read(&bytes));
        }
        Ok(&self.values[key])
    }
}
