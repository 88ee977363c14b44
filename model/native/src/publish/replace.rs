//! Replaces a folder by another one.
//!
//! On systems that can exchange two names atomically, the name is never missing. On others the old folder is first renamed to
//! `.dalle-old-NAME`, and [`recover`] restores it if the program was killed before the second rename.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Renames the folder `new` to `target`, which is in the same parent, and returns the path of the old folder.
///
/// # Errors
/// The folders cannot be renamed. Both then keep their names.
pub fn replace(new: &Path, target: &Path) -> io::Result<PathBuf> {
    use io::ErrorKind::{CrossesDevices, InvalidInput, Unsupported};
    match exchange(new, target) {
        Ok(()) => Ok(new.to_owned()),
        // Not every file system supports it.
        Err(error) if matches!(error.kind(), CrossesDevices | InvalidInput | Unsupported) => {
            in_two_steps(new, target)
        }
        Err(error) => Err(error),
    }
}

/// Restores the folder `target` if a program was killed while replacing it, or removes an old folder that was replaced.
///
/// # Errors
/// It cannot be renamed or removed.
pub fn recover(target: &Path) -> io::Result<()> {
    let Some(old) = old_name(target).filter(|old| old.is_dir()) else { return Ok(()) };
    if target.exists() { fs::remove_dir_all(old) } else { fs::rename(old, target) }
}

/// The folder that contains `path`.
pub fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("/"))
}

/// The old folder's name between the two renames.
fn old_name(target: &Path) -> Option<PathBuf> {
    let mut name = std::ffi::OsString::from(".dalle-old-");
    name.push(target.file_name()?);
    Some(parent_of(target).join(name))
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn in_two_steps(new: &Path, target: &Path) -> io::Result<PathBuf> {
    let old = old_name(target).ok_or(io::ErrorKind::InvalidInput)?;
    fs::rename(target, &old)?;
    if let Err(error) = fs::rename(new, target) {
        fs::rename(&old, target)?;
        return Err(error);
    }
    Ok(old)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::NewFolder;
    use super::*;

    fn folder_with(path: &Path, content: &str) {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join("marker"), content).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_is_replaced_is_never_missing() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("model");
        folder_with(&target, "0");
        let (done, missing) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if !target.is_dir() {
                        missing.store(true, Ordering::Relaxed);
                    }
                }
            });
            for content in 1..=200 {
                let new = NewFolder::begin(&target, "marker", true).unwrap();
                new.write("marker", content.to_string().as_bytes()).unwrap();
                new.publish().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(!missing.into_inner(), "the folder was missing for a moment");
        assert_eq!(fs::read_to_string(target.join("marker")).unwrap(), "200");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_folder_is_recovered_if_the_program_was_killed_between_the_two_renames() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        // Killed after the first rename.
        folder_with(&at(".dalle-old-model"), "old");
        NewFolder::begin(&at("model"), "marker", true).unwrap();
        assert_eq!(fs::read_to_string(at("model/marker")).unwrap(), "old");
        // Killed after the second one.
        folder_with(&at("new"), "new");
        assert_eq!(in_two_steps(&at("new"), &at("model")).unwrap(), at(".dalle-old-model"));
        assert_eq!(fs::read_to_string(at(".dalle-old-model/marker")).unwrap(), "old");
        recover(&at("model")).unwrap();
        assert_eq!(fs::read_to_string(at("model/marker")).unwrap(), "new");
        assert!(!at(".dalle-old-model").exists());
    }
}
