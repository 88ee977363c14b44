//! Trainings that are killed, stopped, locked, damaged or continued with other options.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod workshop;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Command;

use workshop::{Workshop, files, run_with_kills, start, wait_until, weights};

#[test]
fn a_killed_run_ends_like_an_undisturbed_one() {
    let workshop = Workshop::new();
    workshop.run(&workshop.dvae("whole", 40, "--log-every 7"));
    run_with_kills(&workshop, &workshop.dvae("killed", 40, "--log-every 7 --save-seconds 0"), "killed-run");
    assert_eq!(weights(&workshop.path("whole")), weights(&workshop.path("killed")));
    let history = |run: &str| workshop.state(run)["history"].take();
    assert_eq!(history("whole-run"), history("killed-run"));

    let prior = |model: &str, more: &str| format!("{} {more}", workshop.prior(model, 40));
    workshop.run(&prior("whole", "--log-every 7"));
    run_with_kills(&workshop, &prior("killed", "--log-every 7 --save-seconds 0"), "killed-prior");
    let weights = |model: &str| fs::read(workshop.path(model).join("model.safetensors")).unwrap();
    assert_eq!(weights("whole"), weights("killed"));
    assert_eq!(history("whole-prior"), history("killed-prior"));
}

#[test]
fn a_killed_run_that_streams_its_data_ends_where_an_undisturbed_one_does() {
    let workshop = Workshop::new();
    // Images larger than the model's, in shards of five of which one is in memory at a time: 12 images, read in batches of 4 and 6.
    workshop.run(&format!(
        "data build --images {} --size 40 --val 0 --shard-size 5 --out {}",
        workshop.path("pictures").display(),
        workshop.path("shards").display()
    ));
    let streamed = |command: String, more: &str| {
        let (whole, shards) = (workshop.path("data"), workshop.path("shards"));
        let command = command.replace(&whole.display().to_string(), &shards.display().to_string());
        format!("{command} --buffer 0 --log-every 7 {more}")
    };
    let twice = |command: &dyn Fn(&str) -> String, run: &str| {
        workshop.run(&command("whole"));
        run_with_kills(
            &workshop,
            &format!("{} --save-seconds 0", command("killed")),
            &format!("killed-{run}"),
        );
        let history = |name: &str| workshop.state(&format!("{name}-{run}"))["history"].take();
        assert_eq!(history("whole"), history("killed"), "{run}");
    };
    twice(&|name| streamed(workshop.dvae(name, 30, ""), ""), "run");
    twice(&|name| streamed(workshop.prior(name, 30), "--crops 3"), "prior");
    twice(&|name| streamed(workshop.clip(name, 30, ""), "--reconstructed 0.5"), "clip");
    assert!(files(&workshop.path("whole")) == files(&workshop.path("killed")));
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_the_same_command_continues() {
    let workshop = Workshop::new();
    let arguments = workshop.dvae("model", 300, "--save-seconds 1000 --log-every 1");
    let child = start(workshop.command(&arguments));
    // The signal handler is installed before the run folder is created.
    wait_until("the run folder is there", || workshop.path("model-run").join("checkpoints").is_dir());
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && complaint.contains("the same command continues"), "{complaint}");
    assert!(!workshop.path("model").exists(), "an interrupted run must not look finished");
    let output = workshop.output(&arguments);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && log.contains("resuming"), "{log}");
    assert!(workshop.path("model").join("decoder.safetensors").is_file());
}

#[cfg(unix)]
#[test]
fn termination_signals_save_and_the_same_command_continues() {
    let workshop = Workshop::new();
    let arguments = workshop.dvae("model", 300, "--save-seconds 1000 --log-every 1");
    for signal in ["-TERM", "-USR1"] {
        let checkpoints = workshop.path("model-run").join("checkpoints");
        let before = fs::read(checkpoints.join("LATEST")).ok();
        let mut child = start(workshop.command(&arguments));
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        // The signal handler is installed before the first update.
        said.by_ref().find(|line| line.starts_with("update")).unwrap();
        let interrupt = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(interrupt.success());
        let complaint: String = said.collect();
        assert!(
            !child.wait().unwrap().success() && complaint.contains("the same command continues"),
            "{complaint}"
        );
        assert_ne!(fs::read(checkpoints.join("LATEST")).ok(), before, "{signal}");
        assert!(!workshop.path("model").exists(), "an interrupted run must not look finished");
    }
}

#[cfg(unix)]
#[test]
fn a_second_ctrl_c_stops_training_at_once() {
    let workshop = Workshop::new();
    // One update takes longer than both signals.
    let arguments = workshop.dvae("model", 3, "").replace("--batch 4", "--batch 1024");
    let mut child = start(workshop.command(&arguments));
    wait_until("the run folder is there", || workshop.path("model-run").join("checkpoints").is_dir());
    let id = child.id().to_string();
    let interrupt = || assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    interrupt();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let saving = said.by_ref().map(Result::unwrap).find(|line| !line.is_empty()).unwrap();
    assert!(saving.starts_with("saving after the current update"), "{saving}");
    interrupt();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(said.map(Result::unwrap).collect::<String>(), "");
    assert!(!workshop.path("model-run").join("checkpoints/LATEST").exists());
}

#[cfg(unix)]
#[test]
fn a_run_folder_is_locked_until_its_training_ends() {
    let workshop = Workshop::new();
    let arguments = workshop.dvae("model", 100_000, "--save-seconds 0");
    let mut child = start(workshop.command(&arguments));
    let latest = workshop.path("model-run/checkpoints/LATEST");
    wait_until("a checkpoint is there", || latest.is_file());
    let complaint = workshop.fail(&arguments);
    assert!(
        complaint.contains("another training is running in") && complaint.contains("--run"),
        "{complaint}"
    );
    assert!(child.try_wait().unwrap().is_none(), "the first training continues");
    child.kill().unwrap();
    child.wait().unwrap();
    let other = workshop.fail(&arguments.replace("--batch 4", "--batch 5"));
    assert!(other.contains("batch: then 4, now 5"), "a killed training leaves no lock: {other}");
}

#[test]
fn an_existing_file_named_lock_keeps_its_content() {
    let workshop = Workshop::new();
    let (run, notes) = (workshop.path("model-run"), workshop.path("notes.txt"));
    fs::create_dir(&run).unwrap();
    fs::write(run.join("lock"), "mine").unwrap();
    workshop.run(&workshop.dvae("model", 1, ""));
    assert_eq!(fs::read_to_string(run.join("lock")).unwrap(), "mine");

    fs::write(&notes, "mine too").unwrap();
    fs::remove_file(run.join("lock")).unwrap();
    std::os::unix::fs::symlink(&notes, run.join("lock")).unwrap();
    let complaint = workshop.fail(&workshop.dvae("model", 2, ""));
    assert!(complaint.contains("model-run/lock is not a regular file"), "{complaint}");
    assert_eq!(fs::read_to_string(&notes).unwrap(), "mine too");
}

#[test]
fn a_damaged_checkpoint_is_not_read_and_other_settings_are_refused() {
    let workshop = Workshop::new();
    workshop.run(&workshop.dvae("model", 6, "--save-seconds 0"));
    let expected = weights(&workshop.path("model"));
    let run = workshop.path("model-run");
    let latest = fs::read_to_string(run.join("checkpoints/LATEST")).unwrap();
    assert_eq!(latest, "step-000000006");
    let file = run.join("checkpoints").join(&latest).join("weights.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    fs::remove_dir_all(workshop.path("model")).unwrap();
    // The checkpoint of update 6 is damaged. Resuming from update 5 leads to the same result.
    workshop.run(&workshop.dvae("model", 6, "--save-seconds 0"));
    assert_eq!(weights(&workshop.path("model")), expected);

    let complaint = workshop.fail(&workshop.dvae("model", 6, "--seed 9"));
    assert!(complaint.contains("seed: then 0, now 9"), "{complaint}");
    let nowhere = workshop.fail("sample x --model /nonexistent --out x.png");
    assert!(nowhere.contains("cannot read the configuration"), "{nowhere}");
    let device = workshop.fail(&workshop.dvae("model", 6, "--device cuda:0"));
    assert!(device.contains("--features cuda"), "{device}");
}

#[test]
fn a_run_can_be_extended_and_options_that_do_not_change_the_weights_may_differ() {
    let workshop = Workshop::new();
    let schedules = "--step-size-updates 4 --beta-updates 3 --tau-updates 5";
    workshop.run(&workshop.dvae("whole", 12, schedules));
    workshop.run(&workshop.dvae("longer", 7, schedules));
    workshop.run(&workshop.dvae("longer", 12, &format!("{schedules} --log-every 3 --save-seconds 0")));
    assert_eq!(weights(&workshop.path("longer")), weights(&workshop.path("whole")));

    // Schedules that depend on --steps keep the value of the start.
    let prior = |steps| workshop.prior("whole", steps).replace("--warmup 20", "--warmup 2");
    workshop.run(&prior(6));
    workshop.run(&prior(9));
    let state = workshop.state("whole-prior");
    assert_eq!((&state["step"], &state["schedule_steps"]), (&9.into(), &6.into()));
}
