//! Where a file of `torch.save` keeps its pickle and the storages of its tensors: in a zip archive, or, before PyTorch 1.6,
//! as five pickles in a row (magic number, version, machine, content, keys of the storages) with the storages behind them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Cursor, Read};

use zip::ZipArchive;

use super::array::Number;
use super::checkpoint::{CheckpointError, content};
use super::pickle::{Pickle, Value};

/// What an older file begins with: the number 0x1950a86a20f9469cfc6c, pickled.
const OLD_MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// The only version of the older files.
const OLD_VERSION: Value = Value::Int(1001);
/// Most bytes of the pickle within a file, which holds names and shapes only.
const MAX_PICKLE: u64 = 64 << 20;

/// The bytes of a file's storages, by key.
pub enum Storages<'a> {
    /// Files of a zip archive.
    Zip {
        /// The archive.
        archive: ZipArchive<Cursor<&'a [u8]>>,
        /// The folder that everything in it is in, with its slash.
        folder: String,
        /// Bytes of the archive. PyTorch compresses nothing, so no file in it is larger.
        size: u64,
    },
    /// Parts of an older file.
    Old(HashMap<String, &'a [u8]>),
}

/// The pickle of a file and its storages; none if the file is not PyTorch's.
///
/// # Errors
/// It is damaged, or its pickle is refused.
pub fn open<'a>(
    bytes: &'a [u8],
    classes: &[&str],
) -> Result<Option<(Pickle, Storages<'a>)>, CheckpointError> {
    if bytes.starts_with(b"PK\x03\x04") {
        open_zip(bytes, classes).map(Some)
    } else if let Some(rest) = bytes.strip_prefix(OLD_MAGIC) {
        open_old(rest, classes).map(Some)
    } else {
        Ok(None)
    }
}

fn open_zip<'a>(bytes: &'a [u8], classes: &[&str]) -> Result<(Pickle, Storages<'a>), CheckpointError> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    let names = archive.file_names().filter_map(Result::ok);
    let name = names.map(String::from).find(|name| name.ends_with("data.pkl"));
    let name = name.ok_or_else(|| content("the archive", "a file data.pkl, as torch.save writes it"))?;
    let (pickle, _) = Pickle::read(&read_entry(&mut archive, &name, MAX_PICKLE)?, classes)?;
    let folder = name.trim_end_matches("data.pkl").to_owned();
    Ok((pickle, Storages::Zip { archive, folder, size: bytes.len() as u64 }))
}

fn open_old<'a>(mut rest: &'a [u8], classes: &[&str]) -> Result<(Pickle, Storages<'a>), CheckpointError> {
    let mut next = |classes: &[&str]| -> Result<Pickle, CheckpointError> {
        let (pickle, length) = Pickle::read(&rest[..rest.len().min(MAX_PICKLE as usize)], classes)?;
        rest = &rest[length..];
        Ok(pickle)
    };
    let (version, machine) = (next(&[])?, next(&[])?);
    let little_endian = machine.entry(machine.root(), "little_endian") == Some(&Value::Bool(true));
    if *version.root() != OLD_VERSION || !little_endian {
        return Err(content("the head", "version 1001 of a machine with the low byte first"));
    }
    let (pickle, keys) = (next(classes)?, next(&[])?);
    let declared: HashMap<&str, Storage> =
        pickle.values().filter_map(|value| storage(&pickle, value)).map(|found| (found.key, found)).collect();
    let Value::List(list) = keys.root() else {
        return Err(content("the end", "the keys of the storages"));
    };
    let mut storages = HashMap::new();
    for &key in list {
        let found = keys.text(key).and_then(|key| declared.get(key));
        let found = found.ok_or_else(|| content("the end", "the keys of the storages"))?;
        let bytes = found.number.bytes().checked_mul(found.length);
        let parts = rest.split_first_chunk().zip(bytes).and_then(|((count, behind), bytes)| {
            let (data, behind) = behind.split_at_checked(bytes)?;
            (u64::from_le_bytes(*count) == found.length as u64).then_some((data, behind))
        });
        let (data, behind) =
            parts.ok_or_else(|| content(found.key, "a storage as long as it says: the file is damaged"))?;
        storages.insert(found.key.to_owned(), data);
        rest = behind;
    }
    Ok((pickle, Storages::Old(storages)))
}

impl<'a> Storages<'a> {
    /// The bytes of a storage.
    ///
    /// # Errors
    /// The file has none of this key, or it is larger than the file.
    pub fn read(&mut self, key: &str) -> Result<Cow<'a, [u8]>, CheckpointError> {
        match self {
            Self::Zip { archive, folder, size } => {
                Ok(read_entry(archive, &format!("{folder}data/{key}"), *size)?.into())
            }
            Self::Old(storages) => {
                let found = storages.get(key).copied();
                Ok(found.ok_or_else(|| content(key, "a storage behind the pickles"))?.into())
            }
        }
    }
}

/// What a pickle says of a storage.
pub struct Storage<'a> {
    /// Its name in the file.
    pub key: &'a str,
    /// What it holds.
    pub number: Number,
    /// How many of them.
    pub length: usize,
}

/// The storage `("storage", class, key, place, length)`, in older files with a view behind, which is always None.
pub fn storage<'a>(pickle: &'a Pickle, value: &Value) -> Option<Storage<'a>> {
    let Value::Persistent(id) = value else { return None };
    let Value::Tuple(parts) = pickle.get(*id) else { return None };
    let (&[_, class, key, _, length], view) = parts.split_first_chunk()?;
    let Value::Class(class) = pickle.get(class) else { return None };
    let whole = view.len() <= 1 && view.iter().all(|&id| *pickle.get(id) == Value::None);
    let (key, number, length) = (pickle.text(key)?, Number::of_storage(class)?, pickle.size(length)?);
    whole.then_some(Storage { key, number, length })
}

/// A file of the archive.
fn read_entry(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    name: &str,
    limit: u64,
) -> Result<Vec<u8>, CheckpointError> {
    let mut bytes = Vec::new();
    archive.by_name(name)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(CheckpointError::TooLarge { what: name.to_owned(), limit });
    }
    Ok(bytes)
}
