//! The file formats of `torch.save`, and of `pickle.dump`. Since PyTorch 1.6 it is a zip archive with a pickle and one entry per tensor storage. Legacy
//! files are five pickles in a row (magic number, version, system info, content, storage keys) followed by the storages.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Cursor, Read};

use zip::ZipArchive;

use super::array::ElementType;
use super::error::{CheckpointError, content};
use super::pickle::{Pickle, Value};

/// The start of a legacy file: the pickled number 0x1950a86a20f9469cfc6c.
const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// The only version of the legacy format.
const LEGACY_VERSION: Value = Value::Int(1001);
/// Maximum size of a pickle in bytes. It contains only names and shapes.
const MAX_PICKLE: u64 = 64 << 20;

/// The storages of a file, by key.
pub enum Storages<'a> {
    /// Entries of a zip archive.
    Zip {
        /// The archive.
        archive: ZipArchive<Cursor<&'a [u8]>>,
        /// The archive's root folder, with a trailing slash.
        folder: String,
        /// Size of the archive in bytes. PyTorch does not compress, so no entry is larger.
        size: u64,
    },
    /// Parts of a legacy file.
    Legacy(HashMap<String, &'a [u8]>),
    /// A pickle alone, which contains the values itself: NumPy arrays.
    None,
}

/// The pickle of a file and its storages, or `None` if it is not a PyTorch file.
///
/// # Errors
/// The file is damaged, or its pickle is refused.
pub fn open(bytes: &[u8]) -> Result<Option<(Pickle, Storages<'_>)>, CheckpointError> {
    if bytes.starts_with(b"PK\x03\x04") {
        open_zip(bytes).map(Some)
    } else if let Some(rest) = bytes.strip_prefix(LEGACY_MAGIC) {
        open_legacy(rest).map(Some)
    } else if let [0x80, 2..=5, ..] = bytes {
        Ok(Some((Pickle::read(bytes)?.0, Storages::None)))
    } else {
        Ok(None)
    }
}

fn open_zip(bytes: &[u8]) -> Result<(Pickle, Storages<'_>), CheckpointError> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    let names = archive.file_names().filter_map(Result::ok);
    let name = names.map(String::from).find(|name| name.ends_with("data.pkl"));
    let name = name.ok_or_else(|| content("the archive", "an entry data.pkl, as torch.save writes it"))?;
    let (pickle, _) = Pickle::read(&read_entry(&mut archive, &name, MAX_PICKLE)?)?;
    let folder = name.trim_end_matches("data.pkl").to_owned();
    Ok((pickle, Storages::Zip { archive, folder, size: bytes.len() as u64 }))
}

fn open_legacy(mut rest: &[u8]) -> Result<(Pickle, Storages<'_>), CheckpointError> {
    let mut next = || -> Result<Pickle, CheckpointError> {
        let (pickle, length) = Pickle::read(&rest[..rest.len().min(MAX_PICKLE as usize)])?;
        rest = &rest[length..];
        Ok(pickle)
    };
    let (version, machine) = (next()?, next()?);
    let little_endian = machine.entry(machine.root(), "little_endian") == Some(&Value::Bool(true));
    if *version.root() != LEGACY_VERSION || !little_endian {
        return Err(content("the header", "version 1001 in little-endian byte order"));
    }
    let (pickle, keys) = (next()?, next()?);
    let declared: HashMap<&str, Storage> =
        pickle.values().filter_map(|value| storage(&pickle, value)).map(|found| (found.key, found)).collect();
    let Value::List(list) = keys.root() else {
        return Err(content("the end", "the storage keys"));
    };
    let mut storages = HashMap::new();
    for &key in list {
        let found = keys.text(key).and_then(|key| declared.get(key));
        let found = found.ok_or_else(|| content("the end", "the storage keys"))?;
        let bytes = found.element.bytes().checked_mul(found.length);
        let parts = rest.split_first_chunk().zip(bytes).and_then(|((count, rest), bytes)| {
            let (data, rest) = rest.split_at_checked(bytes)?;
            (u64::from_le_bytes(*count) == found.length as u64).then_some((data, rest))
        });
        let (data, after) = parts
            .ok_or_else(|| content(found.key, "a storage of the stated length (the file is damaged)"))?;
        storages.insert(found.key.to_owned(), data);
        rest = after;
    }
    Ok((pickle, Storages::Legacy(storages)))
}

impl<'a> Storages<'a> {
    /// The bytes of a storage.
    ///
    /// # Errors
    /// The file has no storage of this key, or it claims to be larger than the file.
    pub fn read(&mut self, key: &str) -> Result<Cow<'a, [u8]>, CheckpointError> {
        match self {
            Self::Zip { archive, folder, size } => {
                Ok(read_entry(archive, &format!("{folder}data/{key}"), *size)?.into())
            }
            Self::None => Err(content(key, "a storage, which only files of torch.save have")),
            Self::Legacy(storages) => {
                let found = storages.get(key).copied();
                Ok(found.ok_or_else(|| content(key, "a storage after the pickles"))?.into())
            }
        }
    }
}

/// A storage as described by the pickle.
pub struct Storage<'a> {
    /// Its key in the file.
    pub key: &'a str,
    /// Its element type.
    pub element: ElementType,
    /// Number of elements.
    pub length: usize,
}

/// The storage `("storage", class, key, device, length)`. Legacy files append a view, which must be None.
pub fn storage<'a>(pickle: &'a Pickle, value: &Value) -> Option<Storage<'a>> {
    let Value::Persistent(id) = value else { return None };
    let Value::Tuple(parts) = pickle.get(*id) else { return None };
    let (&[_, class, key, _, length], view) = parts.split_first_chunk()?;
    let Value::Class(class) = pickle.get(class) else { return None };
    let whole = view.len() <= 1 && view.iter().all(|&id| *pickle.get(id) == Value::None);
    let (key, element, length) = (pickle.text(key)?, ElementType::of_storage(class)?, pickle.size(length)?);
    whole.then_some(Storage { key, element, length })
}

/// Reads an entry of the archive.
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
