//! WebDataset shards and other tar archives of images, as folders of files.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;

use dalle_data::DataError;
use flate2::read::MultiGzDecoder;
use tempfile::NamedTempFile;

use super::files::{Member, is_hidden};
use crate::content::{Archive, Content};

/// Most bytes that a compressed archive is unpacked to.
const MAX_UNPACKED: u64 = 256 << 30;

/// Endings of archives that are read.
const ENDINGS: [&str; 3] = [".tar", ".tar.gz", ".tgz"];

/// The name of an archive without its ending; none if the name is not an archive's.
pub fn stem(name: &str) -> Option<&str> {
    ENDINGS.into_iter().find_map(|ending| {
        let start = name.len().checked_sub(ending.len())?;
        let matches = name.get(start..).is_some_and(|end| end.eq_ignore_ascii_case(ending));
        matches.then(|| &name[..start])
    })
}

/// The files of an archive, and why the rest of it cannot be read, if it is cut short or damaged.
pub struct Listing {
    /// The files, each named `archive/path`.
    pub members: Vec<Member>,
    /// What is wrong with the rest.
    pub fault: Option<String>,
}

/// Lists an archive. A compressed one is unpacked into a temporary file first, since images are read in random order.
///
/// # Errors
/// There is no room for the temporary file.
pub fn list(name: &str, path: &Path) -> Result<Listing, DataError> {
    let prefix = stem(name).unwrap_or(name);
    let mut listing = Listing { members: Vec::new(), fault: None };
    let archive = match is_gzip(path).and_then(|gzip| Ok((gzip, File::open(path)?))) {
        Ok((false, _)) => Archive::File(path.to_owned()),
        Ok((true, file)) => {
            let (unpacked, fault) = unpack(file)?;
            listing.fault = fault;
            Archive::Temporary(unpacked)
        }
        Err(error) => {
            listing.fault = Some(error.to_string());
            return Ok(listing);
        }
    };
    let archive = Arc::new(archive);
    if let Err(error) = read(&archive, prefix, &mut listing.members) {
        let cut = error.kind() == io::ErrorKind::UnexpectedEof || listing.fault.is_some();
        let fault = if cut { "it is cut short".to_owned() } else { error.to_string() };
        listing.fault = Some(format!("{fault}; copy or download it again"));
    }
    Ok(listing)
}

fn is_gzip(path: &Path) -> io::Result<bool> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut start = Vec::new();
    File::open(path)?.take(2).read_to_end(&mut start)?;
    Ok(start == [0x1F, 0x8B])
}

/// Unpacks as much as can be read.
fn unpack(file: File) -> Result<(NamedTempFile, Option<String>), DataError> {
    let folder = std::env::temp_dir();
    let failed = || DataError::io("unpacking an archive into a temporary file of", &folder);
    let mut unpacked = NamedTempFile::new().map_err(failed())?;
    let mut packed = MultiGzDecoder::new(BufReader::new(file)).take(MAX_UNPACKED);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match packed.read(&mut buffer) {
            Ok(0) if packed.limit() == 0 => {
                return Ok((unpacked, Some(format!("it unpacks to more than {MAX_UNPACKED} bytes"))));
            }
            Ok(0) => break,
            Ok(read) => unpacked.write_all(&buffer[..read]).map_err(failed())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok((unpacked, Some(format!("{error}; copy or download it again")))),
        }
    }
    Ok((unpacked, None))
}

fn read(archive: &Arc<Archive>, prefix: &str, members: &mut Vec<Member>) -> io::Result<()> {
    let file = File::open(archive.path())?;
    let end = file.metadata()?.len();
    let mut tar = tar::Archive::new(file);
    for entry in tar.entries_with_seek()? {
        let entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path()?.to_string_lossy().replace('\\', "/");
        let parts = || name.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
        if parts().any(is_hidden) {
            continue;
        }
        let (offset, length) = (entry.raw_file_position(), entry.size());
        if offset.saturating_add(length) > end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let name = format!("{prefix}/{}", parts().collect::<Vec<_>>().join("/"));
        members
            .push(Member { name, content: Content::Part { archive: Arc::clone(archive), offset, length } });
    }
    Ok(())
}
