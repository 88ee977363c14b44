#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part; a test fails by panicking")]
//! What tests of `dalle eval` share: the command, random weights of a feature network, and checks of reports.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

pub const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/tiny.json");
const SHAPES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../eval/tests/fixtures/evaluation/shapes.json");

/// Runs `dalle` with `WORK` replaced in the arguments. Expects success and returns stdout.
pub fn dalle(work: &Path, arguments: &str) -> String {
    let output = run(work, arguments);
    assert!(output.status.success(), "dalle {arguments}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Expects failure and returns stderr.
pub fn refusal(work: &Path, arguments: &str) -> String {
    let output = run(work, arguments);
    assert!(!output.status.success(), "dalle {arguments} should have failed");
    String::from_utf8(output.stderr).unwrap()
}

pub fn run(work: &Path, arguments: &str) -> std::process::Output {
    let arguments = arguments.split_whitespace().map(|word| word.replace("WORK", work.to_str().unwrap()));
    Command::new(env!("CARGO_BIN_EXE_dalle")).args(arguments).output().unwrap()
}

/// Random weights of the right shapes, with BatchNorm as the identity.
pub fn untrained_lite0() -> Vec<u8> {
    let shapes: Value = serde_json::from_slice(&fs::read(SHAPES).unwrap()).unwrap();
    let mut noise = 1u64;
    let arrays: Vec<(String, Vec<usize>, Vec<u8>)> = shapes["lite0"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, shape)| {
            let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
            let scale = (6.0 / shape[1..].iter().product::<usize>() as f32).sqrt();
            let values = (0..shape.iter().product()).map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                match shape.len() {
                    1 if name.ends_with("weight") || name.ends_with("var") => 1.0,
                    1 => 0.0,
                    _ => scale * ((noise >> 40) as f32 / (1u32 << 23) as f32 - 1.0),
                }
            });
            let bytes = values.flat_map(f32::to_le_bytes).collect();
            (name.clone(), shape, bytes)
        })
        .collect();
    let views = arrays.iter().map(|(name, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

pub fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Checks that a report loads nothing and has this many images, each with an alternative text.
pub fn check_report(path: PathBuf, images: usize) {
    let html = fs::read_to_string(path).unwrap();
    for outside in ["http:", "https:", "src=\"/", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert_eq!(html.matches("<img src=\"data:image/png;base64,").count(), images);
    assert_eq!(html.matches(" alt=\"").count(), images);
    assert!(html.contains("<h1>") && html.contains("<caption>") && html.contains("Made by <code>dalle eval"));
}
