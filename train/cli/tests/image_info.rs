//! Images say how they were generated: `dalle sample` writes it into the PNG, `dalle info` reads it back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use dalle_shared::ImageMetadata;
use image::RgbImage;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/models/drawings-128");

fn dalle(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dalle")).args(arguments).current_dir(folder).output().unwrap()
}

/// Runs a command that must succeed, and returns its output.
fn run(folder: &Path, arguments: &[&str]) -> String {
    let output = dalle(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail, and returns its message.
fn fail(folder: &Path, arguments: &[&str]) -> String {
    let output = dalle(folder, arguments);
    assert!(!output.status.success(), "{arguments:?} should have failed");
    String::from_utf8(output.stderr).unwrap()
}

fn pixels(path: &Path) -> RgbImage {
    image::open(path).unwrap().into_rgb8()
}

#[test]
fn an_image_is_generated_again_from_what_its_file_says() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    let said = run(
        work,
        &[
            "sample",
            "Bob's red apple",
            "--model",
            MODEL,
            "--out",
            "a.png",
            "--seed",
            "18446744073709551615",
            "--top-k",
            "9",
        ],
    );
    assert!(said.starts_with("seed 18446744073709551615\n"), "{said}");
    let info = run(work, &["info", "a.png", "--model", MODEL]);
    for part in ["Bob's red apple", "18446744073709551615", "temperature 0.5, top-k 9", "drawings-128"] {
        assert!(info.contains(part), "{part} in {info}");
    }
    let again = info.lines().find_map(|line| line.strip_prefix("again")).unwrap();
    let again: Vec<String> = shlex::split(again)
        .unwrap()
        .into_iter()
        .map(|word| if word == "MODEL" { MODEL.to_owned() } else { word })
        .collect();
    let again: Vec<&str> = again.iter().skip(1).map(String::as_str).collect();
    run(work, &again);
    assert_eq!(pixels(&work.join("a.png")), pixels(&work.join("again.png")));
    assert_eq!(run(work, &["info", "a.png", "--json"]), run(work, &["info", "again.png", "--json"]));
}

#[test]
fn each_sample_has_its_seed_and_tokens() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    let said = run(
        work,
        &["sample", "red apple", "--model", MODEL, "--out", "a.png", "--samples", "3", "--seed", "5"],
    );
    assert!(said.starts_with("seed 5, 6, 7\n"), "{said}");
    let read = |path: &str| -> ImageMetadata {
        serde_json::from_str(&run(work, &["info", path, "--json", "--tokens", "tokens.json"])).unwrap()
    };
    let three = read("a.png");
    assert_eq!(three.samples.iter().map(|sample| sample.seed.0).collect::<Vec<_>>(), [5, 6, 7]);
    let written: serde_json::Value =
        serde_json::from_slice(&fs::read(work.join("tokens.json")).unwrap()).unwrap();
    assert_eq!(written["tokens"], serde_json::to_value(&three.samples[0].tokens).unwrap());

    // From the first rows of that image, given by the tokens that its file holds.
    run(
        work,
        &[
            "sample",
            "red apple",
            "--model",
            MODEL,
            "--out",
            "b.png",
            "--image-tokens",
            "tokens.json",
            "--rows",
            "4",
            "--seed",
            "6",
        ],
    );
    let begun = read("b.png");
    assert_eq!((begun.prefix, &begun.samples[0].tokens[..64]), (64, &three.samples[0].tokens[..64]));
    assert!(run(work, &["info", "b.png"]).contains("--image-tokens TOKENS --rows 4"));
}

#[test]
fn files_without_metadata_and_other_models_are_named() {
    let work = tempfile::tempdir().unwrap();
    let work = work.path();
    RgbImage::new(8, 8).save(work.join("plain.png")).unwrap();
    let plain = fail(work, &["info", "plain.png"]);
    assert!(plain.contains("plain.png") && plain.contains("removes metadata"), "{plain}");
    fs::write(work.join("page.png"), "<html>").unwrap();
    let page = fail(work, &["info", "page.png"]);
    assert!(page.contains("page.png") && page.contains("not a PNG"), "{page}");
    let missing = fail(work, &["info", "missing.png"]);
    assert!(missing.contains("cannot read missing.png"), "{missing}");

    run(work, &["sample", "red apple", "--model", MODEL, "--out", "a.png"]);
    let other = work.join("other");
    fs::create_dir(&other).unwrap();
    for name in ["config.json", "tokenizer.json", "decoder.safetensors"] {
        fs::copy(Path::new(MODEL).join(name), other.join(name)).unwrap();
    }
    let other = fail(work, &["info", "a.png", "--model", "other"]);
    assert!(other.contains("another model"), "{other}");
    let empty = fail(work, &["sample", "\u{200b} ", "--model", MODEL, "--out", "b.png"]);
    assert!(empty.contains("caption is empty"), "{empty}");
}
