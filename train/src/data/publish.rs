//! A folder that appears whole or not at all.
//!
//! Everything is written into a hidden temporary folder beside the target, flushed to disk and then renamed. After an
//! error the temporary folder is removed; after a crash it stays behind under its hidden name, and the target is as before.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::error::DataError;

/// A folder in the making.
pub struct NewFolder {
    target: PathBuf,
    temporary: TempDir,
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
                return Err(DataError::NotADataset(target));
            }
        }
        let parent = parent_of(&target);
        fs::create_dir_all(parent).map_err(DataError::io("creating", parent))?;
        let temporary = tempfile::Builder::new()
            .prefix(".dalle-partial-")
            .tempdir_in(parent)
            .map_err(DataError::io("creating a temporary folder in", parent))?;
        Ok(Self { target, temporary })
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

    /// Makes the folder appear under its name.
    ///
    /// # Errors
    /// It cannot be renamed; an older folder is then where it was.
    pub fn publish(self) -> Result<(), DataError> {
        let sync = |path: &Path| {
            File::open(path).and_then(|folder| folder.sync_all()).map_err(DataError::io("flushing", path))
        };
        let parent = parent_of(&self.target);
        make_readable(self.path())?;
        sync(self.path())?;
        // A folder with content cannot be renamed over: the old one steps aside into a temporary folder of its own.
        let aside = tempfile::Builder::new()
            .prefix(".dalle-old-")
            .tempdir_in(parent)
            .map_err(DataError::io("creating a temporary folder in", parent))?;
        let old = aside.path().join("old");
        let replaced = self.target.exists();
        if replaced {
            fs::rename(&self.target, &old).map_err(DataError::io("moving aside", &self.target))?;
        }
        let temporary = self.temporary.keep();
        if let Err(error) = fs::rename(&temporary, &self.target) {
            if replaced {
                fs::rename(&old, &self.target).map_err(DataError::io("moving back", &self.target))?;
            }
            fs::remove_dir_all(&temporary).map_err(DataError::io("removing", &temporary))?;
            return Err(DataError::io("renaming into place", &self.target)(error));
        }
        sync(parent)
    }
}

/// Temporary folders are private to their maker; a published one is as readable as any other.
fn make_readable(path: &Path) -> Result<(), DataError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .map_err(DataError::io("setting permissions of", path))?;
    }
    Ok(())
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("/"))
}
