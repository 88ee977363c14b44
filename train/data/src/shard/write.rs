//! Writing shards. The same records give the same bytes: no times, no owners.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use dalle_shared::to_hex;
use sha2::{Digest, Sha256};

use super::ShardInfo;
use crate::error::DataError;
use crate::record::Split;

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
    train: usize,
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
    pub fn append(&mut self, key: &str, split: Split, files: &[(&str, &[u8])]) -> Result<(), DataError> {
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
        shard.train += usize::from(split == Split::Train);
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
        Ok(OpenShard { name, records: 0, train: 0, tar: tar::Builder::new(writer) })
    }

    fn close(&mut self, shard: OpenShard) -> Result<(), DataError> {
        let OpenShard { name, records, train, tar } = shard;
        let path = self.folder.join(&name);
        let written = tar.into_inner().and_then(|hashing| {
            let file = hashing.inner.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            Ok((hashing.bytes, hashing.digest.finalize()))
        });
        let (bytes, digest) = written.map_err(DataError::io("writing", &path))?;
        let sha256 = to_hex(&digest);
        self.done.push(ShardInfo { name, records, train: Some(train), bytes, sha256 });
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
