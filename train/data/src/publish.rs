//! A folder, or a file, that appears whole or not at all.
//!
//! Everything is written under a hidden temporary name beside the target, flushed to disk and then renamed. After an error
//! what was written is removed and the target is as before. After a crash hidden `.dalle-partial-*` or `.dalle-old-*` stay
//! behind. The folders among the first are removed by the next one that is begun beside them. The second is there only if the
//! crash came between the two renames that replace a folder: it is the old folder, whole.

use std::fs::{self, File, TryLockError};
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};

use image::{ImageFormat, RgbImage};
use tempfile::TempDir;

use super::error::DataError;

/// Start of the names under which things are written.
const PARTIAL: &str = ".dalle-partial-";

/// A folder in the making.
pub struct NewFolder {
    target: PathBuf,
    temporary: TempDir,
    /// The folder, locked as long as somebody writes into it: without a lock it is left over.
    _lock: Option<File>,
}

impl NewFolder {
    /// Prepares the folder that is to become `target`. An existing `target` is replaced only if `overwrite` and if it
    /// holds the file `marker`, which shows that it is of the same kind.
    ///
    /// # Errors
    /// `target` exists and may not be replaced, or its parent cannot be written.
    pub fn begin(target: &Path, marker: &str, overwrite: bool) -> Result<Self, DataError> {
        let target = std::path::absolute(target).map_err(DataError::io("resolving", target))?;
        if target.exists() {
            if !overwrite {
                return Err(DataError::Exists(target));
            }
            if !target.join(marker).is_file() {
                return Err(DataError::Foreign { path: target, marker: marker.to_owned() });
            }
        }
        let parent = parent_of(&target);
        fs::create_dir_all(parent).map_err(DataError::io("creating", parent))?;
        remove_leftovers(parent);
        let (temporary, lock) =
            temporary_in(parent).map_err(DataError::io("creating a temporary folder in", parent))?;
        Ok(Self { target, temporary, _lock: lock })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Writes one file and flushes it to disk.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), DataError> {
        let path = self.path().join(name);
        let write = || {
            let mut file = File::create_new(&path)?;
            file.write_all(content)?;
            file.sync_all()
        };
        write().map_err(DataError::io("writing", &path))
    }

    /// Takes over what is in `folder`, at any depth, but for the files called as in `except`.
    ///
    /// # Errors
    /// Something cannot be read or written.
    pub fn take_over(&self, folder: &Path, except: &[&str]) -> Result<(), DataError> {
        take_over(folder, self.path(), except)
    }

    /// Makes the folder appear under its name.
    ///
    /// # Errors
    /// It cannot be renamed; an older folder is then where it was.
    pub fn publish(self) -> Result<(), DataError> {
        let parent = parent_of(&self.target);
        make_readable(self.path(), 0o755)?;
        sync(self.path())?;
        // A folder with content cannot be renamed over: the old one steps aside under a hidden name.
        let aside = self.target.exists().then(|| step_aside(&self.target, parent)).transpose()?;
        let temporary = self.temporary.keep();
        if let Err(error) = fs::rename(&temporary, &self.target) {
            if let Some(aside) = &aside {
                fs::rename(aside, &self.target).map_err(DataError::io("moving back", &self.target))?;
            }
            fs::remove_dir_all(&temporary).map_err(DataError::io("removing", &temporary))?;
            return Err(DataError::io("renaming into place", &self.target)(error));
        }
        sync(parent)?;
        match aside {
            Some(aside) => fs::remove_dir_all(&aside).map_err(DataError::io("removing", &aside)),
            None => Ok(()),
        }
    }
}

/// A new hidden folder in `parent`, locked. (Not every system opens or locks folders; none is taken for a leftover there.)
fn temporary_in(parent: &Path) -> io::Result<(TempDir, Option<File>)> {
    loop {
        let folder = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(parent)?;
        let lock = File::open(folder.path()).ok();
        let taken = |lock: &File| matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
        // Somebody may have taken it for a leftover before it was locked.
        if !lock.as_ref().is_some_and(taken) && folder.path().exists() {
            return Ok((folder, lock));
        }
    }
}

/// Removes the hidden folders in `parent` that nobody has locked: who wrote them was killed.
fn remove_leftovers(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) && path.is_dir() {
            let lock = File::open(&path);
            if lock.as_ref().is_ok_and(|lock| lock.try_lock().is_ok()) {
                // What cannot be removed harms nobody.
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

/// Writes one file that appears whole or not at all, replacing an older one.
///
/// # Errors
/// It cannot be written; an older file is then as it was.
pub fn write_file(path: &Path, content: &[u8]) -> Result<(), DataError> {
    let path = std::path::absolute(path).map_err(DataError::io("resolving", path))?;
    let parent = parent_of(&path);
    fs::create_dir_all(parent).map_err(DataError::io("creating", parent))?;
    let write = || {
        let mut file = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(parent)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    let file = write().map_err(DataError::io("writing", &path))?;
    make_readable(file.path(), 0o644)?;
    file.persist(&path).map_err(|error| DataError::io("writing", &path)(error.error))?;
    sync(parent)
}

/// Looks whether [`write_file`] can write `path`, and leaves nothing behind.
///
/// # Errors
/// It cannot.
pub fn try_to_write(path: &Path) -> Result<(), DataError> {
    let path = std::path::absolute(path).map_err(DataError::io("resolving", path))?;
    // The folders that are not there yet can be made where the last that is there can be written.
    let there = parent_of(&path).ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let file = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(there);
    file.map(drop).map_err(DataError::io("writing", &path))
}

fn take_over(from: &Path, to: &Path, except: &[&str]) -> Result<(), DataError> {
    for entry in fs::read_dir(from).map_err(DataError::io("listing", from))? {
        let entry = entry.map_err(DataError::io("listing", from))?;
        let (old, new) = (entry.path(), to.join(entry.file_name()));
        if except.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        // A link is taken over as a link: what it leads to may be this folder itself.
        if entry.file_type().map_err(DataError::io("reading", &old))?.is_dir() {
            fs::create_dir(&new).map_err(DataError::io("creating", &new))?;
            take_over(&old, &new, &[])?;
        } else if fs::hard_link(&old, &new).is_err() {
            // Not every file system knows links, and weights are large: a copy only where it must be.
            fs::copy(&old, &new).map_err(DataError::io("copying", &old))?;
        }
    }
    Ok(())
}

/// Writes a PNG that appears whole or not at all, replacing an older one.
///
/// # Errors
/// It cannot be written; an older file is then as it was.
pub fn write_png(path: &Path, picture: &RgbImage) -> Result<(), DataError> {
    let mut bytes = Vec::new();
    let encoded = picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png);
    encoded.map_err(|error| DataError::io("encoding", path)(std::io::Error::other(error)))?;
    write_file(path, &bytes)
}

/// Flushes a folder's entries to disk.
fn sync(folder: &Path) -> Result<(), DataError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(DataError::io("flushing", folder))
}

/// Renames `target` to a new hidden name in `parent` and returns it.
fn step_aside(target: &Path, parent: &Path) -> Result<PathBuf, DataError> {
    let aside = tempfile::Builder::new()
        .prefix(".dalle-old-")
        .tempdir_in(parent)
        .map_err(DataError::io("creating a temporary folder in", parent))?
        .keep();
    // An empty folder can be renamed over: its name is reserved until then.
    fs::rename(target, &aside).map_err(DataError::io("moving aside", target))?;
    Ok(aside)
}

/// Temporary files are private to their maker; published ones are as readable as any other.
fn make_readable(path: &Path, mode: u32) -> Result<(), DataError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(DataError::io("setting permissions of", path))?;
    }
    Ok(())
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("/"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_program_left_is_removed_and_what_is_being_written_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let running = NewFolder::begin(&path("a"), "marker", false).unwrap();
        running.write("marker", b"a").unwrap();
        for other in [".dalle-partial-killed/checkpoints", ".dalle-old-whole", "mine"] {
            fs::create_dir_all(path(other)).unwrap();
        }
        fs::write(path(".dalle-partial-killed/checkpoints/half"), b"half").unwrap();
        let next = NewFolder::begin(&path("b"), "marker", false).unwrap();
        assert!(!path(".dalle-partial-killed").exists());
        assert!(path(".dalle-old-whole").is_dir() && path("mine").is_dir());
        running.publish().unwrap();
        next.publish().unwrap();
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".dalle-old-whole", "a", "b", "mine"]);
        assert_eq!(fs::read(path("a/marker")).unwrap(), b"a");
    }
}
