//! The files that a command writes, looked at before it works: hours of it must not end at a place where nothing can be written.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use dalle_native::publish::try_to_write;

/// Checks that each output (its option, and its path if it is wanted) can be written, and is neither another output nor a file that
/// the command reads.
///
/// # Errors
/// The first that cannot.
pub fn check(inputs: &[&Path], outputs: &[(&str, Option<&Path>)]) -> Result<()> {
    let mut taken: Vec<(PathBuf, String)> =
        inputs.iter().map(|input| (place(input), "what is read".to_owned())).collect();
    for &(option, path) in outputs {
        let Some(path) = path else { continue };
        let here = place(path);
        let other = taken.iter().find(|(there, _)| *there == here);
        ensure!(
            other.is_none(),
            "{option}: {} is also {}; name another file",
            path.display(),
            other.map_or("", |(_, other)| other)
        );
        try_to_write(path).context(option.to_owned())?;
        taken.push((here, format!("what {option} writes")));
    }
    Ok(())
}

/// One name for each file, whatever way leads to it.
fn place(path: &Path) -> PathBuf {
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
    fn what_cannot_be_written_is_known_before_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a"), "a").unwrap();
        let (a, b, same, new) = (at("a"), at("b"), at("./a"), at("new/folder/c"));
        check(&[&a], &[("--b", Some(&b)), ("--c", Some(&new)), ("--d", None)]).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only looked at");
        let refusal = |inputs: &[&Path], outputs: &[(&str, Option<&Path>)]| {
            format!("{:#}", check(inputs, outputs).unwrap_err())
        };
        let twice = refusal(&[], &[("--b", Some(&b)), ("--c", Some(&b))]);
        assert!(twice.starts_with("--c: ") && twice.contains("also what --b writes"), "{twice}");
        let read = refusal(&[&a], &[("--b", Some(&same))]);
        assert!(read.contains("also what is read"), "{read}");
        // A file is no folder.
        let beneath = refusal(&[], &[("--b", Some(&a.join("b")))]);
        assert!(beneath.starts_with("--b: "), "{beneath}");
        assert_eq!(std::fs::read_to_string(a).unwrap(), "a");
    }
}
