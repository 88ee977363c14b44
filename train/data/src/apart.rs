//! Whether an output folder is apart from what a command reads.

use std::path::{Path, PathBuf};

use crate::error::DataError;

/// Refuses to replace a folder that is read, or one that contains it. The output is given as the option's name and the path, inputs as
/// the same, and whether all files below the path are read: then the output may not lie inside either, because the next run would read it.
///
/// # Errors
/// The output is, contains or lies inside an input; or a path cannot be resolved.
pub fn check_apart(
    (option, out): (&'static str, &Path),
    inputs: impl Iterator<Item = (&'static str, PathBuf, bool)>,
) -> Result<(), DataError> {
    let written = resolved(out)?;
    for (input, path, everything) in inputs {
        let read = resolved(&path)?;
        let how = match (written.starts_with(&read), read.starts_with(&written)) {
            (true, true) => "is",
            (true, _) if everything => "lies inside",
            (_, true) => "holds",
            _ => continue,
        };
        let (out, path) = (out.display(), path.display());
        let message =
            format!("expected a folder apart from --{input}, but {out} {how} {path}; choose another");
        return Err(DataError::Option { option, message });
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
