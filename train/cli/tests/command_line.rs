//! Error messages of the `dalle` command, and its behaviour when stdout or stderr is closed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod workshop;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use workshop::Workshop;

#[test]
fn a_batch_that_does_not_fit_is_refused_with_one_that_does() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let (folder, model) = (tempfile::tempdir().unwrap(), format!("{root}/assets/models/drawings-128"));
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (what, command) in [
        (
            "the dVAE of paper-12b",
            format!("dvae train --config {root}/configs/paper-12b.json --out {}", path("out")),
        ),
        ("the prior of drawings-128", format!("prior train --model {model} --tokenizer x")),
    ] {
        let command =
            format!("{command} --data nowhere --run {} --batch 65536 --device libtorch", path("run"));
        let output = Command::new(env!("CARGO_BIN_EXE_dalle")).args(command.split(' ')).output().unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        let said = format!("training {what} with --batch 65536 needs ");
        assert!(!output.status.success() && complaint.contains(&said), "{complaint}");
        assert!(complaint.contains("libtorch has ") && complaint.contains(" would fit"), "{complaint}");
    }
    assert!(!folder.path().join("run").exists());
}

/// On the CPU memory does not depend on the batch.
#[test]
fn training_that_does_not_fit_the_cpu_is_refused_and_so_are_options_without_effect() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let tiny = std::fs::read_to_string(format!("{root}/configs/tiny.json")).unwrap();
    let large = tiny.replace("\"image_size\": 32", "\"image_size\": 8192");
    let large = large.replace("\"n_hid\": 8", "\"n_hid\": 256");
    std::fs::write(folder.path().join("large.json"), large).unwrap();
    let complaint = |command: &str, more: &str| {
        let command = format!("{command} --data nowhere --run {} --batch 8 {more}", path("run"));
        let output =
            Command::new(env!("CARGO_BIN_EXE_dalle")).args(command.split_whitespace()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let dvae = |config: &str| format!("dvae train --config {config} --out {}", path("out"));
    let said = complaint(&dvae(&path("large.json")), "");
    assert!(said.contains("training the dVAE of tiny with --batch 8 needs "), "{said}");
    assert!(said.contains("not even one thread would fit"), "{said}");
    let prior = format!("prior train --model {root}/assets/models/drawings-128 --tokenizer x");
    for command in [dvae(&format!("{root}/configs/tiny.json")), prior] {
        for option in ["--accumulate 2", "--gradient-checkpointing"] {
            let said = complaint(&command, option);
            let name = option.split(' ').next().unwrap();
            assert!(said.contains(&format!("{name}: ")) && said.contains("no effect on the CPU"), "{said}");
        }
    }
    assert!(!folder.path().join("run").exists());
}

/// Peak memory of updates beside what was predicted. The program itself takes some tens of MB.
#[cfg(target_os = "linux")]
#[test]
fn training_takes_the_memory_that_the_plan_predicts() {
    let folder = tempfile::tempdir().unwrap();
    let (config, json) = (folder.path().join("config.json"), folder.path().join("out.json"));
    std::fs::write(
        &config,
        r#"{ "name": "middle", "text_length": 64, "text_vocab": 4096, "image_size": 128,
            "dvae": { "n_hid": 64, "n_init": 64, "blocks_per_group": 2, "vocab": 4096 },
            "prior": { "layers": 8, "heads": 6, "head_dim": 64, "conv_kernel": 11 } }"#,
    )
    .unwrap();
    let dalle = |threads: &str, command: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_dalle"))
            .args(command.split(' '))
            .arg("--config")
            .arg(&config)
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // The total in the network's row: state, activations and total have a unit each.
    let predicted = |threads: &str, batch: &str, network: &str| -> f64 {
        let plan = dalle(threads, &format!("plan --batch {batch}"));
        let mut rows = plan.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.first() == Some(&network) && row.len() > 6).unwrap();
        let unit = if row[6] == "GB" { 1e9 } else { 1e6 };
        row[5].parse::<f64>().unwrap() * unit
    };
    for (command, network) in [("train-step", "prior"), ("dvae-step", "dVAE")] {
        for (threads, batch) in [("1", "4"), ("3", "4"), ("3", "1")] {
            let row = format!("bench {command} --batch {batch} --repeats 2 --json {}", json.display());
            dalle(threads, &row);
            let results: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
            let measured = results["rows"][0]["memory"].as_f64().unwrap() - 40e6;
            let ratio = measured / predicted(threads, batch, network);
            assert!((0.8..1.2).contains(&ratio), "{network} on {threads}, batch {batch}: {ratio:.2}");
        }
    }
}

/// The weights are small, but what is kept of a million positions is not.
#[test]
fn a_grid_that_does_not_fit_is_refused_and_shown_by_the_plan() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("large.json");
    let tiny = include_str!("../../../configs/tiny.json");
    std::fs::write(&config, tiny.replace("\"image_size\": 32", "\"image_size\": 8192")).unwrap();
    let dalle = |command: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_dalle"))
            .args(command.split(' '))
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap());
        (output.status.success(), said.concat())
    };
    for (command, what) in
        [("sample --batch 64", "sampling tiny"), ("dvae-step --batch 512", "training the dVAE of tiny")]
    {
        let (done, said) = dalle(&format!("bench {command} --repeats 1"));
        assert!(!done && said.contains(&format!("{what} needs ")) && said.contains("cpu has "), "{said}");
    }
    let (done, said) = dalle("plan");
    assert!(done && said.contains("does not fit"), "{said}");
}

#[test]
fn a_wrong_file_is_neither_read_whole_nor_overwritten() {
    let weights = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/models/drawings-128/model.safetensors");
    for (command, expected) in [
        (format!("plan --config {weights}"), "expected JSON of at most 1 MiB"),
        (format!("data sheet data --out {weights}"), "expected a file name that ends in .png"),
        ("data sheet data --out sheet.png --count 0".to_owned(), "--count"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_dalle")).args(command.split(' ')).output().unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && complaint.contains(expected), "{complaint}");
    }
}

#[test]
fn a_setting_out_of_range_is_named_by_its_option() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/models/drawings-128");
    for (command, wrong, expected) in [
        ("sample", "--top-k 0", "--top-k: expected 1 to 1024, got 0"),
        ("sample", "--top-k 1025", "--top-k: expected 1 to 1024, got 1025"),
        ("sample", "--best-of 2 --top-p 0", "--top-p: expected a number above 0, at most 1, got 0"),
        ("sample", "--temperature 9", "--temperature: expected a number from 0 to 5, got 9"),
        ("sample", "--guidance -1", "--guidance: expected a number from 0 to 20, got -1"),
        ("sample", "--tokens ./x.png", "--tokens: ./x.png is also the output of --out; name another file"),
        ("sample", "--guidance 21", "--guidance: expected a number from 0 to 20, got 21"),
        ("caption", "--top-k 2050", "--top-k: expected 1 to 2049, got 2050"),
        ("caption", "--temperature nan", "--temperature: expected a number from 0 to 5, got NaN"),
    ] {
        let out = if command == "sample" { "--out x.png" } else { "" };
        let command = format!("{command} apple --model {model} {out} {wrong}");
        let output =
            Command::new(env!("CARGO_BIN_EXE_dalle")).args(command.split_whitespace()).output().unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && complaint.contains(expected), "{command}: {complaint}");
    }
}

/// Starts a command, reads one line of stderr or stdout, closes it, and returns the exit status and the content of the other.
#[cfg(unix)]
fn read_one_line(command: &str, stderr: bool) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dalle"))
        .args(command.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    if stderr {
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    } else {
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    }
    assert!(!line.is_empty());
    let output = child.wait_with_output().unwrap();
    let rest = if stderr { output.stdout } else { output.stderr };
    (output.status.code(), String::from_utf8(rest).unwrap())
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/models/drawings-128");
    let ended = read_one_line(&format!("caption --model {model} --count 65536"), false);
    assert_eq!(ended, (Some(128 + 13), String::new()));
}

#[cfg(unix)]
#[test]
fn training_continues_when_stderr_is_closed() {
    let workshop = Workshop::new();
    let (code, said) = read_one_line(&workshop.dvae("model", 20, "--log-every 1"), true);
    assert!(code == Some(0) && said.contains("wrote encoder and decoder"), "{code:?} {said}");
}
