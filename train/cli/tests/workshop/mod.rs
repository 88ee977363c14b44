#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part; a test fails by panicking")]
//! A temporary folder for tests of training: a dataset, a tokenizer, and the `dalle` command.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use image::{Rgb, RgbImage};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/tiny.json");
pub const CLIP_CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/tiny.clip.json");
const COLOURS: [(&str, [u8; 3]); 4] =
    [("red", [220, 30, 30]), ("green", [30, 200, 60]), ("blue", [40, 60, 220]), ("yellow", [240, 220, 40])];
const PLACES: [(&str, u32); 3] = [("left", 2), ("middle", 10), ("right", 18)];

/// A folder with a tokenizer and a dataset of twelve images: a coloured square at one of three positions.
pub struct Workshop {
    folder: tempfile::TempDir,
}

impl Workshop {
    pub fn new() -> Self {
        let workshop = Self { folder: tempfile::tempdir().unwrap() };
        let pictures = workshop.path("pictures");
        fs::create_dir(&pictures).unwrap();
        for (colour, rgb) in COLOURS {
            for (place, x) in PLACES {
                let inside = |at: u32, from: u32| (from..from + 12).contains(&at);
                let picture = RgbImage::from_fn(32, 32, |px, py| {
                    if inside(px, x) && inside(py, 10) { Rgb(rgb) } else { Rgb([255; 3]) }
                });
                picture.save(pictures.join(format!("{colour}-{place}.png"))).unwrap();
                let caption = format!("a {colour} square on the {place}");
                fs::write(pictures.join(format!("{colour}-{place}.txt")), caption).unwrap();
            }
        }
        let data = workshop.path("data");
        workshop.run(&format!(
            "data build --images {} --size 32 --val 0 --out {}",
            pictures.display(),
            data.display()
        ));
        let tokenizer = workshop.path("tokenizer.json");
        workshop.run(&format!(
            "tokenizer train --data {} --vocab 300 --out {}",
            data.display(),
            tokenizer.display()
        ));
        workshop
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dalle"));
        command.args(arguments.split(' ').filter(|argument| !argument.is_empty()));
        command
    }

    pub fn output(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed, and returns its output.
    pub fn run(&self, arguments: &str) -> String {
        let output = self.output(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "dalle {arguments}\n{errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail, and returns its error message.
    pub fn fail(&self, arguments: &str) -> String {
        let output = self.output(arguments);
        assert!(!output.status.success(), "dalle {arguments} should have failed");
        String::from_utf8(output.stderr).unwrap()
    }

    /// The newest state of a run.
    pub fn state(&self, run: &str) -> serde_json::Value {
        let checkpoints = self.path(run).join("checkpoints");
        let latest = fs::read_to_string(checkpoints.join("LATEST")).unwrap();
        serde_json::from_slice(&fs::read(checkpoints.join(latest).join("state.json")).unwrap()).unwrap()
    }

    pub fn dvae(&self, name: &str, steps: u64, more: &str) -> String {
        format!(
            "dvae train --config {CONFIG} --data {} --run {} --out {} --steps {steps} --batch 4 --step-size 0.004 {more}",
            self.path("data").display(),
            self.path(&format!("{name}-run")).display(),
            self.path(name).display()
        )
    }

    pub fn clip(&self, model: &str, steps: u64, more: &str) -> String {
        format!(
            "clip train --model {model} --config {CLIP_CONFIG} --data {} --run {model}-clip --steps {steps} --batch 6 \
             --step-size 0.001 --warmup 20 {more}",
            self.path("data").display(),
            model = self.path(model).display()
        )
    }

    pub fn prior(&self, model: &str, steps: u64) -> String {
        format!(
            "prior train --model {model} --data {} --tokenizer {} --run {model}-prior --steps {steps} --batch 6 \
             --step-size 0.003 --warmup 20 --ewma 0.9",
            self.path("data").display(),
            self.path("tokenizer.json").display(),
            model = self.path(model).display()
        )
    }
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(120), "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn start(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs a training that is killed three times, each time after a checkpoint, and then to its end.
pub fn run_with_kills(workshop: &Workshop, arguments: &str, run: &str) {
    for _ in 0..3 {
        let mut child = start(workshop.command(arguments));
        let latest = workshop.path(run).join("checkpoints/LATEST");
        let before = fs::read(&latest).ok();
        wait_until("the next checkpoint is there", || {
            fs::read(&latest).ok() != before || child.try_wait().unwrap().is_some()
        });
        child.kill().unwrap();
        child.wait().unwrap();
    }
    workshop.run(arguments);
}

/// The dVAE's weights in a model folder.
pub fn weights(folder: &Path) -> [Vec<u8>; 2] {
    ["encoder.safetensors", "decoder.safetensors"].map(|name| fs::read(folder.join(name)).unwrap())
}

/// The files of a folder by name.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}
