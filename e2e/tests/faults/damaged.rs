//! Model folders with damaged files: the server names the file, and does not start.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::fixture::{environment, models};

/// Copies a model folder.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// The output of a server that must end by itself.
fn refusal(model: &Path) -> Result<String> {
    let mut command = Command::new(environment::server()?);
    command.args(["--port", "0", "--model"]).arg(model).stdin(Stdio::null());
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let begin = Instant::now();
    while process.try_wait()?.is_none() {
        if begin.elapsed() > Duration::from_secs(60) {
            process.kill()?;
            bail!("the server serves a damaged model, or hangs");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = process.wait_with_output()?;
    ensure!(output.status.code() == Some(1), "it ended with {}", output.status);
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn damaged_models_are_refused_and_the_file_is_named() -> Result<()> {
    let model = models::tiny()?;
    let work = tempfile::tempdir()?;
    let files =
        ["config.json", "tokenizer.json", "model.safetensors", "decoder.safetensors", "encoder.safetensors"];
    for (number, name) in files.into_iter().enumerate() {
        let whole = fs::read(model.join(name))?;
        let mut damages: Vec<(&str, Option<Vec<u8>>)> = vec![
            ("empty", Some(Vec::new())),
            ("half", Some(whole[..whole.len() / 2].to_vec())),
            ("a web page", Some(b"<!DOCTYPE html><html>Not found</html>".to_vec())),
            (
                "a Git LFS pointer",
                Some(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n".to_vec()),
            ),
            ("a folder", None),
        ];
        if name.ends_with(".safetensors") {
            let mut infinite = whole.clone();
            let end = infinite.len();
            infinite[end - 4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
            damages.push(("infinite", Some(infinite)));
            damages.push(("one byte short", Some(whole[..whole.len() - 1].to_vec())));
        }
        for (damage, content) in damages {
            let folder = work.path().join(format!("{number} {damage}"));
            copy(&model, &folder)?;
            let path = folder.join(name);
            match content {
                Some(content) => fs::write(&path, content)?,
                None => {
                    fs::remove_file(&path)?;
                    fs::create_dir(&path)?;
                }
            }
            let said = refusal(&folder).with_context(|| format!("{name}: {damage}"))?;
            ensure!(said.contains(name) && !said.contains("panicked"), "{name}: {damage}: {said}");
            if damage == "a Git LFS pointer" && name.ends_with(".safetensors") {
                ensure!(said.contains("git lfs pull"), "{said}");
                ensure!(!said.contains("listening"), "it is noticed before the server listens: {said}");
            }
        }
    }
    Ok(())
}
