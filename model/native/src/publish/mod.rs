//! Atomic writes: files and folders that appear complete or not at all.
//!
//! Everything is written under a hidden temporary name beside its target, flushed to disk and then renamed. On an error the target
//! is unchanged and the temporary files are removed. A killed program leaves hidden `.dalle-partial-*` folders, which the next
//! [`NewFolder`] in the same folder removes.
//!
//! ```text
//! let folder = NewFolder::begin(Path::new("model"), "config.json", true)?;
//! folder.write("config.json", &json)?;
//! folder.publish()?;
//! ```

mod replace;

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use replace::parent_of;

pub use replace::recover;

/// Prefix of temporary names.
const PARTIAL: &str = ".dalle-partial-";

/// Why a file or folder cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// An I/O error.
    #[error("{action} {}", path.display())]
    Io {
        /// The action that failed, such as `writing`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The target exists.
    #[error("{} exists; choose another --out, or replace it with --overwrite", .0.display())]
    Exists(PathBuf),
    /// The target is a folder of another kind, so it is not replaced.
    #[error(
        "{} contains no {marker}, so it was not written by this command and is not replaced; choose another --out",
        path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// The file that a folder of the right kind contains.
        marker: String,
    },
}

impl PublishError {
    /// For `map_err`: adds the action and the path to an I/O error.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// A folder being written. [`publish`](Self::publish) makes it appear under its name.
pub struct NewFolder {
    target: PathBuf,
    temporary: TempDir,
    /// The folder's lock, held while it is written. A `.dalle-partial-*` folder without a lock was left by a killed program.
    _lock: Option<File>,
}

impl NewFolder {
    /// Creates a temporary folder that will become `target`. An existing `target` is replaced only if `overwrite` is set and it
    /// contains the file `marker`, which shows that it is of the same kind.
    ///
    /// # Errors
    /// `target` exists and may not be replaced, or its parent cannot be written.
    pub fn begin(target: &Path, marker: &str, overwrite: bool) -> Result<Self, PublishError> {
        let target = std::path::absolute(target).map_err(PublishError::io("resolving", target))?;
        recover(&target).map_err(PublishError::io("recovering", &target))?;
        // If the target is a symlink, the folder that it points to is replaced.
        let target = target.canonicalize().unwrap_or(target);
        if target.exists() {
            if !overwrite {
                return Err(PublishError::Exists(target));
            }
            if !target.join(marker).is_file() {
                return Err(PublishError::Foreign { path: target, marker: marker.to_owned() });
            }
        }
        let parent = parent_of(&target);
        fs::create_dir_all(parent).map_err(PublishError::io("creating", parent))?;
        remove_leftovers(parent);
        let (temporary, lock) =
            temporary_in(parent).map_err(PublishError::io("creating a temporary folder in", parent))?;
        Ok(Self { target, temporary, _lock: lock })
    }

    /// The path to write to.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Writes one file and flushes it to disk.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), PublishError> {
        let path = self.path().join(name);
        let write = || {
            let mut file = File::create_new(&path)?;
            file.write_all(content)?;
            file.sync_all()
        };
        write().map_err(PublishError::io("writing", &path))
    }

    /// Adds the files in `folder`, at any depth, except those named in `except`.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn keep_from(&self, folder: &Path, except: &[&str]) -> Result<(), PublishError> {
        keep_from(folder, self.path(), except)
    }

    /// Makes the folder appear under its name. If it replaces another, one of the two has the name at any moment.
    ///
    /// # Errors
    /// It cannot be renamed. An older folder is then unchanged.
    pub fn publish(self) -> Result<(), PublishError> {
        let parent = parent_of(&self.target);
        make_readable(self.path(), 0o755)?;
        sync(self.path())?;
        let failed = PublishError::io("renaming into place", &self.target);
        let old = if self.target.exists() {
            Some(replace::replace(self.path(), &self.target).map_err(failed)?)
        } else {
            fs::rename(self.path(), &self.target).map_err(failed)?;
            None
        };
        // The temporary name now belongs to the old folder, or to nothing.
        let _ = self.temporary.keep();
        sync(parent)?;
        match old.map(|old| (fs::remove_dir_all(&old), old)) {
            Some((Err(error), old)) if error.kind() != io::ErrorKind::NotFound => {
                Err(PublishError::io("removing", &old)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Creates a hidden folder in `parent` and locks it. If the file system has no locks, no folder counts as a leftover either.
fn temporary_in(parent: &Path) -> io::Result<(TempDir, Option<File>)> {
    loop {
        let folder = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(parent)?;
        let lock = File::open(folder.path()).ok();
        let taken = |lock: &File| matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
        // Another program may have removed it as a leftover before it was locked.
        if !lock.as_ref().is_some_and(taken) && folder.path().exists() {
            return Ok((folder, lock));
        }
    }
}

/// Removes hidden folders in `parent` that killed programs left behind, which are not locked.
fn remove_leftovers(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) && path.is_dir() {
            let lock = File::open(&path);
            if lock.as_ref().is_ok_and(|lock| lock.try_lock().is_ok()) {
                // A leftover that cannot be removed does no harm.
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

/// Writes a file atomically, replacing an older one.
///
/// # Errors
/// It cannot be written. An older file is then unchanged.
pub fn write_file(path: &Path, content: &[u8]) -> Result<(), PublishError> {
    let path = std::path::absolute(path).map_err(PublishError::io("resolving", path))?;
    let parent = parent_of(&path);
    fs::create_dir_all(parent).map_err(PublishError::io("creating", parent))?;
    let write = || {
        let mut file = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(parent)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    let file = write().map_err(PublishError::io("writing", &path))?;
    make_readable(file.path(), 0o644)?;
    file.persist(&path).map_err(|error| PublishError::io("writing", &path)(error.error))?;
    sync(parent)
}

/// Checks that [`write_file`] can write `path`, without leaving files behind.
///
/// # Errors
/// It cannot.
pub fn try_to_write(path: &Path) -> Result<(), PublishError> {
    let path = std::path::absolute(path).map_err(PublishError::io("resolving", path))?;
    // Missing folders can be created if the innermost existing one is writable.
    let existing = parent_of(&path).ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let file = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(existing);
    file.map(drop).map_err(PublishError::io("writing", &path))
}

fn keep_from(from: &Path, to: &Path, except: &[&str]) -> Result<(), PublishError> {
    for entry in fs::read_dir(from).map_err(PublishError::io("listing", from))? {
        let entry = entry.map_err(PublishError::io("listing", from))?;
        let (old, new) = (entry.path(), to.join(entry.file_name()));
        if except.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        // A symlink is copied as a symlink, because it may point to this folder.
        if entry.file_type().map_err(PublishError::io("reading", &old))?.is_dir() {
            fs::create_dir(&new).map_err(PublishError::io("creating", &new))?;
            keep_from(&old, &new, &[])?;
        } else if fs::hard_link(&old, &new).is_err() {
            // Weights are large, so they are copied only if the file system has no hard links.
            fs::copy(&old, &new).map_err(PublishError::io("copying", &old))?;
        }
    }
    Ok(())
}

/// Flushes a folder's entries to disk.
fn sync(folder: &Path) -> Result<(), PublishError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(PublishError::io("flushing", folder))
}

/// Sets the usual permissions of a published file or folder. Temporary ones are private.
fn make_readable(path: &Path, mode: u32) -> Result<(), PublishError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .map_err(PublishError::io("setting permissions of", path))?;
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn leftovers_of_killed_programs_are_removed_and_folders_being_written_are_not() {
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
        assert_eq!(names(folder.path()), [".dalle-old-whole", "a", "b", "mine"]);
        assert_eq!(fs::read(path("a/marker")).unwrap(), b"a");
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/file.json");
        write_file(&path, b"first").unwrap();
        write_file(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names(path.parent().unwrap()), ["file.json"]);
        assert!(matches!(write_file(folder.path(), b"x"), Err(PublishError::Io { .. })));
    }

    #[test]
    fn a_symlink_is_kept_and_its_target_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        for content in ["first", "second"] {
            let target = if content == "first" { &real } else { &link };
            let new = NewFolder::begin(target, "marker", true).unwrap();
            new.write("marker", content.as_bytes()).unwrap();
            new.publish().unwrap();
            let _ = std::os::unix::fs::symlink("real", &link);
        }
        assert_eq!(fs::read(real.join("marker")).unwrap(), b"second");
        assert!(link.is_symlink());
        assert_eq!(names(folder.path()), ["link", "real"]);
    }
}
