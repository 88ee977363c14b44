//! Whether an output folder is apart from what a command reads.

use std::path::{Path, PathBuf};

use crate::error::DataError;

/// Refuses to replace a folder that is read, or one that contains it. Inputs are given as the option's name, the path, and whether
/// all files below it are read: then the output may not lie inside either, because the next run would read it.
///
/// # Errors
/// `out` is, contains or lies inside an input; or a path cannot be resolved.
pub fn check_apart(
    out: &Path,
    inputs: impl Iterator<Item = (&'static str, PathBuf, bool)>,
) -> Result<(), DataError> {
    let written = resolved(out)?;
    for (option, path, everything) in inputs {
        let read = resolved(&path)?;
        let how = match (written.starts_with(&read), read.starts_with(&written)) {
            (true, true) => "is",
            (true, _) if everything => "lies inside",
            (_, true) => "holds",
            _ => continue,
        };
        let (out, path) = (out.display(), path.display());
        let message =
            format!("expected a folder apart from --{option}, but {out} {how} {path}; choose another");
        return Err(DataError::Option { option: "out", message });
    }
    Ok(())
}

/// The path with all symlinks resolved, as far as it exists.
fn resolved(path: &Path) -> Result<PathBuf, DataError> {
    let resolve = || {
        let path = std::path::absolute(path)?;
        let existing = path.ancestors().find(|part| part.exists()).unwrap_or(&path);
        Ok(existing.canonicalize()?.join(path.strip_prefix(existing).unwrap_or(Path::new(""))))
    };
    resolve().map_err(DataError::io("resolving", path))
}
