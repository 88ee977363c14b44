//! Reads the named tensors of a checkpoint: a PyTorch file (a state dict or a whole module) or safetensors.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};

use super::array::{Array, ElementType, gather};
use super::error::{CheckpointError, content};
use super::pickle::{Id, Object, Pickle, Value};
use super::torch::{self, Storage, Storages};

/// The classes of state dicts. Whole modules add their own.
const TORCH_CLASSES: [&str; 11] = [
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.FloatStorage",
    "torch.DoubleStorage",
    "torch.HalfStorage",
    "torch.BFloat16Storage",
    "torch.LongStorage",
    "torch.device",
    "__builtin__.set",
    "builtins.set",
];
/// Maximum length of a tensor's name in bytes.
const MAX_NAME: usize = 512;
/// Maximum number of tensors and modules of a checkpoint.
const MAX_TENSORS: usize = 1 << 16;

/// The named tensors of a checkpoint's content. `classes` are the module classes that are accepted. Nothing in the file is executed.
///
/// # Errors
/// See [`CheckpointError`].
pub fn read(bytes: &[u8], classes: &[&str]) -> Result<BTreeMap<String, Array>, CheckpointError> {
    let classes: Vec<&str> = TORCH_CLASSES.iter().chain(classes).copied().collect();
    if let Some((pickle, storages)) = torch::open(bytes, &classes)? {
        TorchCheckpoint { pickle, storages, size: bytes.len() as u64, values: BTreeMap::new(), read: 0 }
            .tensors()
    } else if bytes.get(8) == Some(&b'{') {
        read_safetensors(bytes)
    } else {
        Err(CheckpointError::Format)
    }
}

fn read_safetensors(bytes: &[u8]) -> Result<BTreeMap<String, Array>, CheckpointError> {
    let file = SafeTensors::deserialize(bytes)?;
    let arrays = file.iter().map(|(name, view)| {
        let element = match view.dtype() {
            Dtype::F64 => ElementType::F64,
            Dtype::F32 => ElementType::F32,
            Dtype::F16 => ElementType::F16,
            Dtype::BF16 => ElementType::Bf16,
            Dtype::I64 => ElementType::I64,
            _ => return Err(content(name, "floating-point values")),
        };
        Ok((name.to_owned(), Array { shape: view.shape().to_vec(), values: element.read(view.data()) }))
    });
    arrays.collect()
}

/// A PyTorch file: a pickle and the storages of its tensors.
struct TorchCheckpoint<'a> {
    pickle: Pickle,
    storages: Storages<'a>,
    /// Size of the file in bytes.
    size: u64,
    /// The storages that have been read.
    values: BTreeMap<String, Vec<f32>>,
    /// Total size of the storages read. Many names for the same bytes must not use much memory.
    read: u64,
}

impl TorchCheckpoint<'_> {
    fn tensors(mut self) -> Result<BTreeMap<String, Array>, CheckpointError> {
        let root = self.pickle.root();
        let nested = self.pickle.entry(root, "state_dict").unwrap_or(root);
        let found = match self.pickle.entries(nested) {
            Some(entries) => {
                let named =
                    entries.iter().take(MAX_TENSORS + 1).map(|&(key, id)| Ok((self.join("", key)?, id)));
                named.collect::<Result<_, CheckpointError>>()?
            }
            None => self.module(root)?,
        };
        if found.len() > MAX_TENSORS {
            return Err(too_many());
        }
        let mut arrays = BTreeMap::new();
        let mut values = 0;
        for (name, id) in found {
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

    /// The parameters of a pickled `torch.nn.Module` and its submodules. Modules may be shared, so often that a traversal would never
    /// end; the number of visits is bounded.
    fn module(&self, root: &Value) -> Result<Vec<(String, Id)>, CheckpointError> {
        let mut found = Vec::new();
        let mut pending = vec![(String::new(), root)];
        let mut visits = 0;
        while let Some((path, value)) = pending.pop() {
            let place = if path.is_empty() { "the pickle" } else { &path };
            let Value::Object(Object { state: Some(state), .. }) = value else {
                return Err(content(place, "a state dict or a module"));
            };
            let state = self.pickle.get(*state);
            visits += self.pickle.entries(state).map_or(0, <[_]>::len);
            let parts = |name| {
                let part = self.pickle.entry(state, name).and_then(|part| self.pickle.entries(part));
                part.ok_or_else(|| content(place, "a module"))
            };
            let (parameters, modules) = (parts("_parameters")?, parts("_modules")?);
            visits += 1 + parameters.len() + modules.len();
            if visits > MAX_TENSORS {
                return Err(too_many());
            }
            for &(key, id) in parameters {
                if *self.pickle.get(id) != Value::None {
                    found.push((self.join(&path, key)?, id));
                }
            }
            for &(key, id) in modules {
                pending.push((self.join(&path, key)?, self.pickle.get(id)));
            }
        }
        Ok(found)
    }

    /// The name `path.key`, or `key` for an empty path.
    fn join(&self, path: &str, key: Id) -> Result<String, CheckpointError> {
        let name = self.pickle.text(key).filter(|name| path.len() + name.len() < MAX_NAME);
        let name = name.ok_or_else(|| content("a key of the pickle", "a name of a tensor or a module"))?;
        Ok(if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") })
    }

    /// The tensor of `_rebuild_parameter(tensor, …)` or `_rebuild_tensor_v2(storage, offset, size, stride, …)`.
    fn tensor(&mut self, name: &str, id: Id) -> Result<Array, CheckpointError> {
        let refusal = || content(name, "a tensor of floating-point values within its storage");
        let mut call = self.call(id).ok_or_else(refusal)?;
        if call.0 == "torch._utils._rebuild_parameter" {
            call = call.1.first().and_then(|&tensor| self.call(tensor)).ok_or_else(refusal)?;
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

    fn call(&self, id: Id) -> Option<(&str, &[Id])> {
        let Value::Object(Object { class, arguments, .. }) = self.pickle.get(id) else { return None };
        let Value::Tuple(arguments) = self.pickle.get(*arguments) else { return None };
        Some((class, arguments))
    }

    fn storage(&mut self, tensor: &str, id: Id) -> Result<&[f32], CheckpointError> {
        let found = torch::storage(&self.pickle, self.pickle.get(id));
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

fn too_many() -> CheckpointError {
    CheckpointError::TooLarge { what: "the number of tensors and modules".into(), limit: MAX_TENSORS as u64 }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    /// A file in the format of `torch.save`.
    fn torch_file(pickle: &[u8], storage: &[f32]) -> Vec<u8> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        archive.start_file("m/data.pkl", stored).unwrap();
        archive.write_all(&[b"\x80\x02", pickle, b"."].concat()).unwrap();
        archive.start_file("m/data/0", stored).unwrap();
        archive.write_all(&storage.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()).unwrap();
        archive.finish().unwrap().into_inner()
    }

    fn text(text: &str) -> Vec<u8> {
        [b"X", &u32::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat()
    }

    /// Opcodes of a module with these `_modules` (keys and values) and no parameters.
    fn module(modules: &[u8]) -> Vec<u8> {
        let (parameters, name) = (text("_parameters"), text("_modules"));
        [b"cx\nM\n)R}(", &parameters[..], b"}", &name, b"}(", modules, b"uub"].concat()
    }

    #[test]
    fn exponentially_shared_modules_are_refused() {
        let mut shared = module(b"");
        for _ in 0..64 {
            shared = module(&[&text("a"), &shared[..], b"q\x00", &text("b"), b"h\x00"].concat());
        }
        let error = read(&torch_file(&shared, &[]), &["x.M"]).unwrap_err();
        assert!(matches!(error, CheckpointError::TooLarge { .. }), "{error}");
        let own = module(&[text("a"), module(b"")].concat());
        assert!(read(&torch_file(&own, &[]), &["x.M"]).unwrap().is_empty());
    }

    #[test]
    fn a_large_state_shared_by_many_modules_is_refused() {
        let many = |modules: usize| {
            let junk: Vec<u8> =
                (0..3000).flat_map(|i| [text(&i.to_string()), b"N".to_vec()].concat()).collect();
            let (parameters, name) = (text("_parameters"), text("_modules"));
            let state = [b"}(", &junk[..], &parameters, b"}", &name, b"}uq\x00"].concat();
            let first = [&text("first")[..], b"cx\nM\n)R", &state, b"b"].concat();
            let others = (1..modules).flat_map(|i| [&text(&i.to_string())[..], b"cx\nM\n)Rh\x00b"].concat());
            torch_file(&module(&[first, others.collect()].concat()), &[])
        };
        assert!(read(&many(2), &["x.M"]).unwrap().is_empty());
        let error = read(&many(30), &["x.M"]).unwrap_err();
        assert!(matches!(error, CheckpointError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn a_module_within_itself_is_refused() {
        let (parameters, name) = (text("_parameters"), text("_modules"));
        let endless =
            [b"cx\nM\n)Rq\x00}(", &parameters[..], b"}", &name, b"}(", &text("a"), b"h\x00uub"].concat();
        assert!(read(&torch_file(&endless, &[]), &["x.M"]).is_err());
    }

    #[test]
    fn many_views_of_one_storage_are_refused() {
        let state = |views: usize| {
            // ("storage", FloatStorage, "0", "cpu", 1024), then _rebuild_tensor_v2(it, 0, (1024,), (1,)).
            let storage = [b"(", &text("storage")[..], b"ctorch\nFloatStorage\n", &text("0"), &text("cpu")];
            let storage = [&storage.concat()[..], b"M\x00\x04tQ"].concat();
            let tensor =
                [b"ctorch._utils\n_rebuild_tensor_v2\n(", &storage[..], b"K\x00M\x00\x04\x85K\x01\x85tR"];
            let first = [&text("t")[..], &tensor.concat(), b"q\x00"].concat();
            let others = (1..views).flat_map(|index| [&text(&index.to_string())[..], b"h\x00"].concat());
            torch_file(&[b"}(", &first[..], &others.collect::<Vec<_>>(), b"u"].concat(), &[0.5; 1024])
        };
        assert_eq!(read(&state(1), &[]).unwrap()["t"], Array { shape: vec![1024], values: vec![0.5; 1024] });
        let error = read(&state(50), &[]).unwrap_err();
        assert!(matches!(error, CheckpointError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn a_file_that_is_not_a_checkpoint_is_reported() {
        for bytes in [&b""[..], b"<html>not found</html>", b"\x80\x02}."] {
            assert!(matches!(read(bytes, &[]), Err(CheckpointError::Format)), "{bytes:?}");
        }
        assert!(matches!(read(b"PK\x03\x04cut off", &[]), Err(CheckpointError::Zip(_))));
    }
}
