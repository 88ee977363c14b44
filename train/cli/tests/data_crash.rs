//! A killed build leaves no dataset, and the next build succeeds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../prepare/tests/data_support/mod.rs"]
mod data_support;

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use data_support::{Packages, names, rectangle};
use serde_json::json;

#[test]
fn a_killed_build_publishes_nothing_and_the_next_one_succeeds() {
    let packages = Packages::new();
    let icons: Vec<(String, String)> =
        (0..1000).map(|n| (format!("cat-{n}"), rectangle(&format!("#{n:06x}"), 0, 0, 16, 16))).collect();
    let icons: Vec<(&str, &str)> = icons.iter().map(|(name, body)| (name.as_str(), body.as_str())).collect();
    packages.icons("noto", &icons, &[], &json!({}));
    let work = tempfile::tempdir().unwrap();
    let out = work.path().join("out");
    let build = |size: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dalle"));
        command.args(["data", "build", "--families", "noto", "--shard-size", "10", "--size", size]);
        command.arg("--packages").arg(packages.root()).arg("--out").arg(&out);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };

    let mut victim = build("256").spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    let partial = || {
        let folder = names(work.path()).into_iter().find(|name| name.starts_with(".dalle-partial-"))?;
        (names(&work.path().join(&folder)).len() >= 3).then_some(folder)
    };
    while partial().is_none() {
        assert!(victim.try_wait().unwrap().is_none(), "the build ended before it could be killed");
        assert!(Instant::now() < deadline, "no shard was written in two minutes");
        sleep(Duration::from_millis(5));
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(!out.exists(), "a killed build published {:?}", names(&out));

    assert!(build("8").status().unwrap().success());
    let dataset = dalle_data::Dataset::open(&out).unwrap();
    assert_eq!(dataset.examples.len(), 1000);
    assert_eq!(names(work.path()), ["out"], "what was left over is gone");
}
