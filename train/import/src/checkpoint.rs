//! Reads the named tensors of a checkpoint: a PyTorch file (a state dict or a whole module) or safetensors.

mod rebuild;
mod search;

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};

use super::array::{Array, ElementType};
use super::error::{CheckpointError, content};
use super::torch::{self, Storages};
use rebuild::Rebuilder;
use search::named_tensors;

/// Prefixes that `DataParallel` and `torch.compile` add to all names.
const PREFIXES: [&str; 2] = ["module.", "_orig_mod."];
/// The number of averaged updates, which `AveragedModel` keeps beside the weights.
const AVERAGED: &str = "n_averaged";

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
        let named = named_tensors(&pickle, classes, matches!(storages, Storages::None))?;
        Rebuilder::new(&pickle, storages, bytes.len() as u64).arrays(named)?
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
