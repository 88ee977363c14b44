//! `dalle data fetch` with an npm that takes packages from a folder, and `dalle data card`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod workshop;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use dalle_shared::sha256_hex;
use serde_json::{Value, json};
use workshop::Workshop;

/// An npm that notes what it is asked for and copies it from a shelf.
const NPM: &str = r#"#!/bin/sh
for last; do :; done
echo "$last" >> "$SHELF/asked"
cp "$SHELF/$(echo "$last" | tr '/@' '__').tgz" . 2>/dev/null || { echo "npm error 404 Not Found" >&2; exit 1; }
"#;

struct Registry {
    folder: tempfile::TempDir,
    recipe: Value,
}

impl Registry {
    /// A registry with the packages of a recipe of one family.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::write(bin.join("npm"), NPM).unwrap();
        fs::set_permissions(bin.join("npm"), fs::Permissions::from_mode(0o755)).unwrap();
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/data/drawings.json");
        let mut recipe: Value = serde_json::from_slice(&fs::read(shipped).unwrap()).unwrap();
        recipe["sources"] = json!([recipe["sources"][0]]);
        let mut registry = Self { folder, recipe };
        registry.publish("/captions");
        registry.publish("/sources/0/package");
        registry
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a package on the shelf and its size and hash into the recipe.
    fn publish(&mut self, pointer: &str) {
        let package = self.recipe.pointer_mut(pointer).unwrap();
        let text = |field: &str| package[field].as_str().unwrap().to_owned();
        let named = format!("{}@{}", text("name"), text("version")).replace(['/', '@'], "_");
        let content = self.folder.path().join("package");
        fs::create_dir(&content).unwrap();
        fs::write(content.join("package.json"), json!({"name": text("name")}).to_string()).unwrap();
        let archive = self.folder.path().join(format!("{named}.tgz"));
        let tar = ["--create", "--gzip", "--file"];
        let done = Command::new("tar")
            .args(tar)
            .arg(&archive)
            .arg("-C")
            .arg(self.folder.path())
            .arg("package")
            .status();
        assert!(done.unwrap().success());
        fs::remove_dir_all(&content).unwrap();
        let bytes = fs::read(&archive).unwrap();
        package["bytes"] = json!(bytes.len());
        package["sha256"] = json!(sha256_hex(&bytes));
    }

    fn fetch(&self, path: &str, more: &[&str]) -> Output {
        fs::write(self.path("recipe.json"), self.recipe.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dalle"));
        command.args(["data", "fetch", "--recipe"]).arg(self.path("recipe.json"));
        command.arg("--out").arg(self.path("packages")).args(more);
        command.env("PATH", path).env("SHELF", self.folder.path()).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Fetches with the npm of the tests.
    fn run(&self) -> Output {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        self.fetch(&path, &["--yes"])
    }

    fn asked(&self) -> usize {
        fs::read_to_string(self.path("asked")).map_or(0, |text| text.lines().count())
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn packages_are_fetched_once_and_damaged_ones_again() {
    let registry = Registry::new();
    let first = registry.run();
    assert!(first.status.success(), "{}", stderr(&first));
    let said = String::from_utf8_lossy(&first.stdout).into_owned();
    assert!(
        said.contains("@iconify-json/noto 1.2.9, Apache-2.0, ") && said.contains("downloading 2 packages"),
        "{said}"
    );
    let packages = registry.path("packages");
    assert_eq!(names(&packages), ["emojibase-data-17.0.0", "iconify-json-noto-1.2.9"]);
    assert_eq!(registry.asked(), 2);

    let second = registry.run();
    assert!(String::from_utf8_lossy(&second.stdout).contains("2 packages are in"));
    assert_eq!(registry.asked(), 2, "nothing is downloaded twice");

    fs::write(packages.join("iconify-json-noto-1.2.9/package/package.json"), "{}").unwrap();
    assert!(registry.run().status.success());
    assert_eq!(registry.asked(), 3);
    fs::remove_file(packages.join("emojibase-data-17.0.0/package/package.json")).unwrap();
    assert!(registry.run().status.success());
    assert_eq!(registry.asked(), 4);
    assert!(packages.join("emojibase-data-17.0.0/package/package.json").is_file());
}

#[test]
fn without_a_terminal_consent_is_an_option() {
    let registry = Registry::new();
    let path = format!("{}:{}", registry.path("bin").display(), std::env::var("PATH").unwrap());
    let output = registry.fetch(&path, &[]);
    let said = stderr(&output);
    assert!(!output.status.success() && said.contains("no terminal") && said.contains("--yes"), "{said}");
    assert_eq!(registry.asked(), 0);
    assert!(!registry.path("packages").exists());
}

#[test]
fn a_package_that_cannot_be_had_is_named_and_the_others_stay() {
    let mut registry = Registry::new();
    let right = registry.recipe["sources"][0]["package"]["sha256"].clone();
    registry.recipe["sources"][0]["package"]["sha256"] = json!("f".repeat(64));
    let output = registry.run();
    let said = stderr(&output);
    assert!(!output.status.success());
    assert!(
        said.contains("@iconify-json/noto 1.2.9: expected SHA-256 ffff") && said.contains("could not fetch"),
        "{said}"
    );
    assert_eq!(names(&registry.path("packages")), ["emojibase-data-17.0.0"]);

    registry.recipe["sources"][0]["package"]["sha256"] = right;
    let archive = registry.path("_iconify-json_noto_1.2.9.tgz");
    fs::rename(&archive, registry.path("away")).unwrap();
    let said = stderr(&registry.run());
    assert!(said.contains("`npm pack") && said.contains("404 Not Found"), "{said}");
    fs::rename(registry.path("away"), &archive).unwrap();
    assert!(registry.run().status.success());
    assert_eq!(registry.asked(), 4, "emojibase was asked for once");
    assert_eq!(names(&registry.path("packages")).len(), 2);
}

#[test]
fn a_missing_client_is_named_with_the_way_to_install_it() {
    let registry = Registry::new();
    let output = registry.fetch("/nonexistent", &["--yes"]);
    let said = stderr(&output);
    assert!(said.contains("`npm` was not found; install it (it comes with Node.js"), "{said}");
    assert_eq!(names(&registry.path("packages")), [""; 0]);
}

#[test]
fn a_card_states_sources_splits_and_captions() {
    let workshop = Workshop::new();
    let (data, card) = (workshop.path("data"), workshop.path("card.html"));
    workshop.run(&format!("data card --data {} --out {}", data.display(), card.display()));
    let html = fs::read_to_string(&card).unwrap();
    for expected in [
        "Sources and kinds of images",
        "Drawings left out",
        "is trained on",
        "Captions by their number of words",
        "a red square on the left",
        "unspecified",
        "data:image/png;base64,",
    ] {
        assert!(html.contains(expected), "{expected}");
    }
    let message = workshop.fail(&format!("data card --data {} --out {}", card.display(), card.display()));
    assert!(message.contains("is not a dataset"), "{message}");
}
