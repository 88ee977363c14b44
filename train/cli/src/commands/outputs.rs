//! Checks output paths up front, so that a long run cannot fail when it finally writes its result.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dalle_native::publish::try_to_write;

/// Checks that each output can be written, and is neither another output nor an input of the command. Outputs are given as the
/// option's name and its path, if set.
///
/// # Errors
/// An output cannot be written, or conflicts with another file.
pub fn check(inputs: &[&Path], outputs: &[(&str, Option<&Path>)]) -> Result<()> {
    let mut taken: Vec<(PathBuf, String)> =
        inputs.iter().map(|input| (canonical(input), "an input".to_owned())).collect();
    for &(option, path) in outputs {
        let Some(path) = path else { continue };
        let canonical = canonical(path);
        if let Some((_, other)) = taken.iter().find(|(taken, _)| *taken == canonical) {
            bail!("{option}: {} is also {other}; name another file", path.display());
        }
        try_to_write(path).context(option.to_owned())?;
        taken.push((canonical, format!("the output of {option}")));
    }
    Ok(())
}

/// A path that is equal for equal files. The file itself need not exist.
fn canonical(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.canonicalize().unwrap_or_else(|_| match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => {
            parent.canonicalize().map_or_else(|_| absolute.clone(), |parent| parent.join(name))
        }
        _ => absolute,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn unwritable_outputs_are_found_before_the_work_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a"), "a").unwrap();
        let (a, b, same, new) = (at("a"), at("b"), at("./a"), at("new/folder/c"));
        check(&[&a], &[("--b", Some(&b)), ("--c", Some(&new)), ("--d", None)]).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is created");
        let refusal = |inputs: &[&Path], outputs: &[(&str, Option<&Path>)]| {
            format!("{:#}", check(inputs, outputs).unwrap_err())
        };
        let twice = refusal(&[], &[("--b", Some(&b)), ("--c", Some(&b))]);
        assert!(twice.starts_with("--c: ") && twice.contains("also the output of --b"), "{twice}");
        let read = refusal(&[&a], &[("--b", Some(&same))]);
        assert!(read.contains("also an input"), "{read}");
        // A file is not a folder.
        let beneath = refusal(&[], &[("--b", Some(&a.join("b")))]);
        assert!(beneath.starts_with("--b: "), "{beneath}");
        assert_eq!(std::fs::read_to_string(a).unwrap(), "a");
    }
}
