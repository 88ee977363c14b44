//! Files from elsewhere that are made to do harm: drawings and checkpoints.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use image::{Rgb, RgbImage};

use crate::fixture::environment;

/// No file may take as long as this: some of them would take hours.
const BOUND: Duration = Duration::from_secs(120);

fn dalle(work: &Path, arguments: &str) -> Result<Output> {
    let begin = Instant::now();
    let mut command = Command::new(environment::dalle()?);
    command.args(arguments.split_whitespace()).current_dir(work).stdin(Stdio::null());
    let output = command.output()?;
    ensure!(begin.elapsed() < BOUND, "{arguments} took {:?}", begin.elapsed());
    ensure!(output.status.code().is_some(), "{arguments} ended with {}", output.status);
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!said.contains("panicked"), "{arguments}: {said}");
    Ok(output)
}

#[test]
fn hostile_drawings_are_left_out_and_read_no_file() -> Result<()> {
    let work = tempfile::tempdir()?;
    let work = work.path();
    let pictures = work.join("pictures");
    fs::create_dir(&pictures)?;
    RgbImage::from_pixel(40, 40, Rgb([200, 10, 10])).save(pictures.join("good.png"))?;
    fs::write(pictures.join("good.txt"), "good")?;
    let secret = work.join("secret.svg");
    let svg = |body: &str| {
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9"><rect fill="red" width="4" height="4"/>{body}</svg>"#
        )
    };
    fs::write(&secret, svg(r#"<rect fill="blue" width="9" height="9"/>"#))?;
    let outside = secret.display();
    let octaves = r#"<filter id="f"><feTurbulence numOctaves="1000000000" baseFrequency="1"/></filter><rect filter="url(#f)" width="9" height="9"/>"#;
    let uses: String = (1..9)
        .map(|level| {
            let used = format!(r##"<use xlink:href="#g{}"/>"##, level - 1).repeat(10);
            format!(r#"<g id="g{level}">{used}</g>"#)
        })
        .collect();
    let bombs = [
        ("device", svg(r#"<image href="/dev/zero" width="9" height="9"/>"#)),
        ("outside", svg(&format!(r#"<image href="{outside}" width="9" height="9"/>"#))),
        ("entity", format!(r#"<!DOCTYPE svg [<!ENTITY x SYSTEM "{outside}">]>{}"#, svg("&x;"))),
        ("octaves", svg(octaves)),
        ("path", svg(&format!(r#"<path d="M0 0{}"/>"#, "l1 2".repeat(1_100_000)))),
        (
            "uses",
            svg(&format!(
                r##"<defs><g id="g0"><path d="M0 0h1v1z"/></g>{uses}</defs><use xlink:href="#g8"/>"##
            )),
        ),
    ];
    for (name, content) in &bombs {
        fs::write(pictures.join(format!("{name}.svg")), content)?;
        fs::write(pictures.join(format!("{name}.txt")), *name)?;
    }
    let made = Command::new("mkfifo").arg(pictures.join("pipe.png")).status()?;
    ensure!(made.success(), "mkfifo failed");
    fs::write(pictures.join("pipe.txt"), "pipe")?;
    let output = dalle(work, "data build --images pictures --size 32 --val 0 --out data")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(work.join("data/manifest.json"))?)?;
    let problems = manifest["problems"].to_string();
    for name in bombs.iter().map(|(name, _)| *name).chain(["pipe"]) {
        ensure!(problems.contains(name), "{name} is not named: {problems}");
    }
    assert_eq!(manifest["records"], 1, "{manifest}");
    Ok(())
}

#[test]
fn hostile_checkpoints_are_refused_and_nothing_in_them_runs() -> Result<()> {
    let work = tempfile::tempdir()?;
    let work = work.path();
    let mark = work.join("it-ran");
    let command = format!("touch {}", mark.display());
    let system = [
        b"\x80\x02cos\nsystem\nX",
        &u32::try_from(command.len())?.to_le_bytes()[..],
        command.as_bytes(),
        b"\x85R.",
    ]
    .concat();
    let claims = |length: u64| [&length.to_le_bytes()[..], b"{\"a\":"].concat();
    for (name, content) in [
        ("system.pkl", system),
        ("deep.pkl", [b"\x80\x02".to_vec(), vec![b'('; 2_000_000], b".".to_vec()].concat()),
        ("many.pkl", [b"\x80\x02".to_vec(), vec![b'}'; 3_000_000], b".".to_vec()].concat()),
        ("long.pkl", b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.".to_vec()),
        ("header.safetensors", claims(u64::MAX)),
        ("large.safetensors", claims(1 << 40)),
        ("page.pkl", b"<!DOCTYPE html><html>Access denied</html>".to_vec()),
        ("pointer.pkl", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n".to_vec()),
        ("empty.pkl", Vec::new()),
        ("zip.pkl", b"PK\x03\x04cut off".to_vec()),
    ] {
        fs::write(work.join(name), content)?;
        let output =
            dalle(work, &format!("import openai-dvae --encoder {name} --decoder {name} --out model"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1) && said.contains(name), "{name}: {said}");
        ensure!(!work.join("model").exists() && !mark.exists(), "{name} had an effect");
    }
    Ok(())
}
