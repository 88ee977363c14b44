//! WebDataset shards: plain tar files in which the files of one picture share a key and stand together.
//!
//! The same pictures give the same bytes: no times, no owners.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use dalle_shared::to_hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::DataError;

/// A shard as the manifest lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardInfo {
    /// File name.
    pub name: String,
    /// Pictures in it.
    pub records: usize,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// A name that WebDataset accepts as key: ASCII letters in lower case, digits, `-` and `_`; at most 80 characters. Never
/// empty. (A dot would end the key, a slash make a folder; tar's plain header has room for 100 bytes.)
pub fn sanitise_key(name: &str) -> String {
    let mut key: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c.to_ascii_lowercase() } else { '_' })
        .take(MAX_KEY)
        .collect();
    if key.is_empty() {
        key.push('_');
    }
    key
}

const MAX_KEY: usize = 80;

/// Writes records into numbered shards of a folder.
pub struct ShardWriter {
    folder: PathBuf,
    shard_size: usize,
    open: Option<OpenShard>,
    done: Vec<ShardInfo>,
}

struct OpenShard {
    name: String,
    records: usize,
    tar: tar::Builder<Hashing<BufWriter<File>>>,
}

impl ShardWriter {
    /// Shards of at most `shard_size` records in `folder`.
    pub fn new(folder: &Path, shard_size: usize) -> Self {
        Self { folder: folder.to_owned(), shard_size, open: None, done: Vec::new() }
    }

    /// Appends the files of one record: `(ending, content)`.
    ///
    /// # Errors
    /// The shard cannot be written.
    pub fn append(&mut self, key: &str, files: &[(&str, &[u8])]) -> Result<(), DataError> {
        let mut shard = match self.open.take() {
            Some(shard) => shard,
            None => self.start()?,
        };
        let path = self.folder.join(&shard.name);
        for (ending, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            shard
                .tar
                .append_data(&mut header, format!("{key}.{ending}"), *content)
                .map_err(DataError::io("writing", &path))?;
        }
        shard.records += 1;
        if shard.records == self.shard_size {
            self.close(shard)?;
        } else {
            self.open = Some(shard);
        }
        Ok(())
    }

    /// Closes the last shard and returns all of them.
    ///
    /// # Errors
    /// The shard cannot be written.
    pub fn finish(mut self) -> Result<Vec<ShardInfo>, DataError> {
        if let Some(shard) = self.open.take() {
            self.close(shard)?;
        }
        Ok(self.done)
    }

    fn start(&self) -> Result<OpenShard, DataError> {
        let name = format!("shard-{:06}.tar", self.done.len());
        let path = self.folder.join(&name);
        let file = File::create_new(&path).map_err(DataError::io("creating", &path))?;
        let writer = Hashing { inner: BufWriter::new(file), digest: Sha256::new(), bytes: 0 };
        Ok(OpenShard { name, records: 0, tar: tar::Builder::new(writer) })
    }

    fn close(&mut self, shard: OpenShard) -> Result<(), DataError> {
        let path = self.folder.join(&shard.name);
        let written = shard.tar.into_inner().and_then(|hashing| {
            let file = hashing.inner.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            Ok((hashing.bytes, hashing.digest.finalize()))
        });
        let (bytes, digest) = written.map_err(DataError::io("writing", &path))?;
        let sha256 = to_hex(&digest);
        self.done.push(ShardInfo { name: shard.name, records: shard.records, bytes, sha256 });
        Ok(())
    }
}

/// Counts and hashes what passes through.
struct Hashing<W> {
    inner: W,
    digest: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.digest.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
