//! Reads the named tensors of a checkpoint: a PyTorch file (a state dict or a whole module) or safetensors.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};

use super::array::{Array, ElementType, gather};
use super::error::{CheckpointError, content};
use super::pickle::{Id, Object, Pickle, PickleError, Value};
use super::torch::{self, Storage, Storages};

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
/// Maximum length of a tensor's name in bytes.
const MAX_NAME: usize = 512;
/// What a key must be.
const NAME: &str = "a name of a tensor or a module";
/// Maximum number of tensors and modules of a checkpoint.
const MAX_TENSORS: usize = 1 << 16;
/// Maximum number of entries of dicts that are looked at.
const MAX_VISITS: usize = 1 << 20;

/// Keys below which training programs keep the weights, beside other things. The first one that holds tensors is taken.
const WRAPPERS: [&str; 14] = [
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "weights",
    "ema",
    "ema_state_dict",
    "model_ema",
    "params_ema",
    "params",
    "net",
    "network",
    "module",
    "generator",
];
/// Prefixes that `DataParallel` and `torch.compile` add to all names.
const PREFIXES: [&str; 2] = ["module.", "_orig_mod."];
/// The number of averaged updates, which `AveragedModel` keeps beside the weights.
const AVERAGED: &str = "n_averaged";
/// Dicts within dicts that are searched for tensors.
const MAX_DEPTH: usize = 4;

/// The named tensors of a checkpoint's content: of a state dict or a whole module, also below a key such as `state_dict` or `model`,
/// without the prefixes of `DataParallel` and `torch.compile`. Everything else in the file is skipped. `classes` are the module classes
/// that are accepted. Nothing in the file is executed.
///
/// # Errors
/// See [`CheckpointError`].
pub fn read(bytes: &[u8], classes: &[&str]) -> Result<BTreeMap<String, Array>, CheckpointError> {
    // First, because the length of the header may look like the beginning of a pickle.
    let arrays = if is_safetensors(bytes) {
        read_safetensors(bytes)?
    } else if let Some((pickle, storages)) = torch::open(bytes)? {
        let size = bytes.len() as u64;
        let torch = TorchCheckpoint { pickle, storages, classes, size, values: BTreeMap::new(), read: 0 };
        torch.tensors()?
    } else if bytes.get(8) == Some(&b'{') {
        // Its header is cut off, which the library says.
        read_safetensors(bytes)?
    } else {
        return Err(CheckpointError::Format);
    };
    Ok(without_prefixes(arrays))
}

/// Whether a file begins like safetensors: the length of a header that fits, and a JSON object.
fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.split_first_chunk().is_some_and(|(length, rest)| {
        u64::from_le_bytes(*length) <= rest.len() as u64 && rest.first() == Some(&b'{')
    })
}

/// Removes the prefixes that all names share.
fn without_prefixes(mut arrays: BTreeMap<String, Array>) -> BTreeMap<String, Array> {
    if arrays.len() > 1 {
        arrays.remove(AVERAGED);
    }
    while let Some(prefix) = PREFIXES
        .iter()
        .find(|prefix| !arrays.is_empty() && arrays.keys().all(|name| name.starts_with(*prefix)))
    {
        arrays = arrays.into_iter().map(|(name, array)| (name[prefix.len()..].to_owned(), array)).collect();
    }
    arrays
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
    /// Module classes that are accepted.
    classes: &'a [&'a str],
    /// Size of the file in bytes.
    size: u64,
    /// The storages that have been read.
    values: BTreeMap<String, Vec<f32>>,
    /// Total size of the storages read. Many names for the same bytes must not use much memory.
    read: u64,
}

impl TorchCheckpoint<'_> {
    fn tensors(mut self) -> Result<BTreeMap<String, Array>, CheckpointError> {
        let (root, is_plain) = (self.pickle.root(), matches!(self.storages, Storages::None));
        let found = match self.pickle.entries(root) {
            Some(_) => self.weights(root, MAX_DEPTH, &mut 0)?,
            None if is_plain => return Err(CheckpointError::Format),
            None => self.module(root)?,
        };
        if found.is_empty() && self.pickle.entries(root).is_some() {
            let expected = "tensors, alone or below a key such as `state_dict`";
            return Err(if is_plain { CheckpointError::Format } else { content("the pickle", expected) });
        }
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

    /// The tensors of a dict: those below a key of [`WRAPPERS`], otherwise its own, otherwise those of the dicts in it. Dicts may be
    /// shared, so often that a traversal would never end; the number of visits is bounded.
    fn weights(
        &self,
        dict: &Value,
        depth: usize,
        visits: &mut usize,
    ) -> Result<Vec<(String, Id)>, CheckpointError> {
        let Some(entries) = self.pickle.entries(dict).filter(|_| depth > 0) else { return Ok(Vec::new()) };
        *visits += 1 + entries.len();
        if *visits > MAX_VISITS {
            return Err(too_many());
        }
        for wrapper in WRAPPERS {
            let Some(part) = self.pickle.entry(dict, wrapper) else { continue };
            let found = match self.is_module(part) {
                true => self.module(part)?,
                false => self.weights(part, depth - 1, visits)?,
            };
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let named: Vec<(&str, Id)> =
            entries.iter().filter_map(|&(key, id)| Some((self.pickle.text(key)?, id))).collect();
        let mut found = Vec::new();
        for &(name, id) in named.iter().filter(|(_, id)| self.is_tensor(*id)) {
            found.push((join("", name)?, id));
        }
        if found.is_empty() {
            for (name, id) in named {
                for (inner, id) in self.weights(self.pickle.get(id), depth - 1, visits)? {
                    found.push((join(name, &inner)?, id));
                }
            }
        }
        Ok(found)
    }

    fn is_module(&self, value: &Value) -> bool {
        let Value::Object(Object { state: Some(state), .. }) = value else { return false };
        self.pickle.entry(self.pickle.get(*state), "_parameters").is_some()
    }

    fn is_tensor(&self, id: Id) -> bool {
        self.call(id).is_some_and(|(class, _)| REBUILD.contains(&class) || NUMPY_ARRAYS.contains(&class))
    }

    /// The parameters of a pickled `torch.nn.Module` and its submodules. Modules may be shared, so often that a traversal would never
    /// end; the number of visits is bounded.
    fn module(&self, root: &Value) -> Result<Vec<(String, Id)>, CheckpointError> {
        let mut found = Vec::new();
        let mut pending = vec![(String::new(), root)];
        let mut visits = 0;
        while let Some((path, value)) = pending.pop() {
            let place = if path.is_empty() { "the pickle" } else { &path };
            let Value::Object(Object { state: Some(state), class, .. }) = value else {
                return Err(content(place, "a state dict or a module"));
            };
            if !self.classes.contains(&class.as_str()) {
                return Err(PickleError::UnknownClass(class.clone()).into());
            }
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

    /// The name of a parameter or module below `path`.
    fn join(&self, path: &str, key: Id) -> Result<String, CheckpointError> {
        join(path, self.pickle.text(key).ok_or_else(|| content("a key of the pickle", NAME))?)
    }

    /// The tensor of `_rebuild_parameter(tensor, …)` or `_rebuild_tensor_v2(storage, offset, size, stride, …)`, or a NumPy array.
    fn tensor(&mut self, name: &str, id: Id) -> Result<Array, CheckpointError> {
        let refusal = || content(name, "a tensor of floating-point values within its storage");
        let mut call = self.call(id).ok_or_else(refusal)?;
        if NUMPY_ARRAYS.contains(&call.0) {
            return self.numpy_array(id).ok_or_else(refusal);
        }
        if call.0.starts_with("torch._utils._rebuild_parameter") {
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

    /// A NumPy array: `_frombuffer(bytes, dtype, shape, order)`, or an object with the state `(version, shape, dtype, is Fortran's
    /// order, bytes)`.
    fn numpy_array(&self, id: Id) -> Option<Array> {
        let (class, arguments) = self.call(id)?;
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
        let element = ElementType::of_numpy(self.pickle.text(*self.call(id)?.1.first()?)?)?;
        let Value::Object(Object { state: Some(state), .. }) = self.pickle.get(id) else { return None };
        let Value::Tuple(state) = self.pickle.get(*state) else { return None };
        // Little-endian, or single bytes.
        matches!(self.pickle.text(*state.get(1)?)?, "<" | "|").then_some(element)
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

/// The name `path.name`, or `name` for an empty path.
fn join(path: &str, name: &str) -> Result<String, CheckpointError> {
    if path.len() + name.len() >= MAX_NAME {
        return Err(content("a key of the pickle", NAME));
    }
    Ok(if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") })
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

    /// Opcodes of a tensor of two values.
    fn tensor() -> Vec<u8> {
        let storage =
            [b"(", &text("storage")[..], b"ctorch\nFloatStorage\n", &text("0"), &text("cpu"), b"K\x02tQ"];
        [b"ctorch._utils\n_rebuild_tensor_v2\n(", &storage.concat()[..], b"K\x00K\x02\x85K\x01\x85tR"]
            .concat()
    }

    /// Opcodes of a dict.
    fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let entries = entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat());
        [b"}(", &entries.collect::<Vec<_>>()[..], b"u"].concat()
    }

    #[test]
    fn weights_are_found_below_the_keys_of_training_programs_and_everything_else_is_skipped() {
        let (pair, none) = ([0.5, 2.0], b"N".to_vec());
        let namespace = [b"cargparse\nNamespace\n)\x81", &dict(&[("lr", none.clone())])[..], b"b"].concat();
        let config = b"cproject.config\nConfig\n)\x81".to_vec();
        let scalar = b"cnumpy._core.multiarray\nscalar\nC\x08\0\0\0\0\0\0\0\0\x85R".to_vec();
        let beside = || [("epoch", b"K\x03".to_vec()), ("args", namespace.clone()), ("best", scalar.clone())];
        let with = |key, value: Vec<u8>| {
            dict(&[&beside()[..], &[(key, value), ("config", config.clone())]].concat())
        };
        let prefixed = dict(&[("module._orig_mod.t", tensor()), ("module._orig_mod.n", none.clone())]);
        let whole = module(&[]);
        let contents = [
            with("state_dict", dict(&[("t", tensor())])),
            with("model", prefixed.clone()),
            with("weights", prefixed),
            with("ema", dict(&[("_orig_mod.t", tensor())])),
            with("t", tensor()),
            with("model", dict(&[("state_dict", dict(&[("t", tensor())])), ("t", none)])),
            with("ema_model", dict(&[("n_averaged", tensor()), ("module.t", tensor())])),
        ];
        for (index, content) in contents.iter().enumerate() {
            let arrays = read(&torch_file(content, &pair), &["x.M"]).unwrap();
            let names: Vec<&str> = arrays.keys().map(String::as_str).collect();
            // Dicts without a known key keep their names.
            let expected: &[&str] =
                if index == 6 { &["ema_model.module.t", "ema_model.n_averaged"] } else { &["t"] };
            assert_eq!(names, expected, "{index}");
            assert!(arrays.values().all(|array| array.values == pair), "{index}");
        }
        assert!(read(&torch_file(&with("model", whole), &[]), &["x.M"]).is_err(), "no tensors at all");
        let system = with("t", b"cos\nsystem\n".to_vec());
        let refused = read(&torch_file(&system, &pair), &[]).unwrap_err();
        assert!(refused.to_string().contains("os.system"), "{refused}");
    }

    #[test]
    fn dicts_shared_by_many_dicts_are_refused() {
        let mut shared = b"}".to_vec();
        for level in 0..4u8 {
            let others = (0..60).flat_map(|index| [text(&index.to_string()), vec![b'h', level]].concat());
            let first = [text("first"), shared, vec![b'q', level]].concat();
            shared = [b"}(", &first[..], &others.collect::<Vec<_>>(), b"u"].concat();
        }
        assert!(read(&torch_file(&shared, &[]), &[]).is_err());
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
    fn a_header_whose_length_looks_like_a_pickle_is_read() {
        let mut header = br#"{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#.to_vec();
        header.resize(0x0480, b' ');
        let file = [&(header.len() as u64).to_le_bytes(), &*header, &1.5f32.to_le_bytes()].concat();
        assert_eq!(file[..2], [0x80, 4]);
        assert_eq!(read(&file, &[]).unwrap()["t"].values, [1.5]);
    }

    #[test]
    fn a_file_that_is_not_a_checkpoint_is_reported() {
        for bytes in [&b""[..], b"<html>not found</html>", b"\x80\x02}.", b"\x80\x04K\x01."] {
            assert!(matches!(read(bytes, &[]), Err(CheckpointError::Format)), "{bytes:?}");
        }
        assert!(matches!(read(b"PK\x03\x04cut off", &[]), Err(CheckpointError::Zip(_))));
    }
}
