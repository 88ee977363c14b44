//! Training that is killed, or whose disk is full, ends with the weights of an undisturbed one.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use image::{Rgb, RgbImage};

use crate::fixture::environment;
use crate::times;

/// Updates of a run.
const STEPS: usize = 60;

/// A folder with a dataset and a configuration.
fn workshop() -> Result<tempfile::TempDir> {
    let work = tempfile::tempdir()?;
    let pictures = work.path().join("pictures");
    fs::create_dir(&pictures)?;
    for shade in 0..12u8 {
        RgbImage::from_pixel(32, 32, Rgb([20 * shade, 128, 255 - 20 * shade]))
            .save(pictures.join(format!("{shade}.png")))?;
        fs::write(pictures.join(format!("{shade}.txt")), format!("shade {shade}"))?;
    }
    let config = r#"{"name": "t", "text_length": 16, "text_vocab": 320, "image_size": 32,
        "dvae": {"n_hid": 8, "n_init": 16, "blocks_per_group": 1, "vocab": 64},
        "prior": {"layers": 4, "heads": 2, "head_dim": 16, "conv_kernel": 3}}"#;
    fs::write(work.path().join("config.json"), config)?;
    let mut build = Command::new(environment::dalle()?);
    build
        .args("data build --images pictures --size 32 --val 0 --out data".split(' '))
        .current_dir(work.path());
    crate::fixture::models::run(&mut build)?;
    Ok(work)
}

/// The arguments of a training with a checkpoint after each update.
fn arguments(name: &str) -> String {
    format!(
        "dvae train --config config.json --data data --run {name}-run --out {name} --steps {STEPS} --batch 4 \
         --learning-rate 2e-3 --save-seconds 0"
    )
}

fn start(work: &Path, name: &str) -> Result<Child> {
    let mut command = Command::new(environment::dalle()?);
    command.args(arguments(name).split_whitespace()).current_dir(work);
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

/// Runs the training to its end.
fn finish(work: &Path, name: &str) -> Result<()> {
    let mut command = Command::new(environment::dalle()?);
    crate::fixture::models::run(command.args(arguments(name).split_whitespace()).current_dir(work))?;
    Ok(())
}

fn weights(work: &Path, name: &str) -> Result<[Vec<u8>; 2]> {
    let read = |file: &str| fs::read(work.join(name).join(file)).with_context(|| format!("{name}/{file}"));
    Ok([read("encoder.safetensors")?, read("decoder.safetensors")?])
}

#[test]
fn a_killed_training_ends_with_the_same_weights() -> Result<()> {
    let work = workshop()?;
    let work = work.path();
    let begin = Instant::now();
    finish(work, "undisturbed")?;
    let whole = begin.elapsed();
    let expected = weights(work, "undisturbed")?;
    for round in 0..times(2, 20) {
        let name = format!("killed-{round}");
        let mut kills = 0;
        // At moments that differ from round to round.
        for part in 1..=4u32 {
            let mut process = start(work, &name)?;
            std::thread::sleep(whole * (part + u32::try_from(round)? % 5) / 20 + Duration::from_millis(50));
            if process.try_wait()?.is_none() {
                process.kill()?;
                kills += 1;
            }
            process.wait()?;
        }
        ensure!(kills > 0, "the training always ended before it was killed");
        finish(work, &name)?;
        ensure!(weights(work, &name)? == expected, "the weights of {name} differ");
    }
    Ok(())
}

/// A limit on the size of files stops writing as a full disk does.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_training_with_a_message_and_the_run_can_be_continued() -> Result<()> {
    let work = workshop()?;
    let work = work.path();
    finish(work, "undisturbed")?;
    let expected = weights(work, "undisturbed")?;
    for (round, blocks) in [1, 40, 100].into_iter().take(times(2, 3)).enumerate() {
        let name = format!("full-{round}");
        let mut limited = Command::new("bash");
        let line = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" {}", arguments(&name));
        limited.arg("-c").arg(line).arg(environment::dalle()?).current_dir(work);
        let output = limited.stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1), "{blocks} blocks: it ended with {}: {said}", output.status);
        ensure!(said.contains("File too large") && !said.contains("panicked"), "{blocks} blocks: {said}");
        ensure!(!work.join(&name).exists(), "{blocks} blocks: a model was written");
        finish(work, &name)?;
        ensure!(weights(work, &name)? == expected, "the weights of {name} differ");
    }
    Ok(())
}
