//! Training by several ranks, over threads: what they learn, their checkpoints, and how they end together.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use dalle_comm::{Communicator, Options};
use dalle_model::Device;
use dalle_model::burn::module::Param;
use dalle_model::burn::nn::Linear;
use dalle_model::burn::tensor::Tensor;
use dalle_train::checkpoint::{Checkpoint, Which};
use dalle_train::gradients::Gradients;
use dalle_train::interrupt::Interrupt;
use dalle_train::metrics::Metrics;
use dalle_train::optimizer::AdamWConfig;
use dalle_train::ranks::Ranks;
use dalle_train::run_state::{History, RunState};
use dalle_train::stage::{Stage, Validation};
use dalle_train::training::{Hooks, Interrupted, RunConfig, train};

const STEPS: u64 = 30;
const BATCH: usize = 4;

/// Fits a map of five numbers to three, on a batch of four examples of which each rank has its share.
#[derive(Clone, Default)]
struct Plane {
    ranks: Ranks,
    interrupt: Interrupt,
    /// The last rank is asked to stop in this update, counted from 1.
    stop: Option<u64>,
    /// Rank 1 fails in this update.
    fail: Option<u64>,
    /// The gradients of rank 0 are NaN in this update.
    overflow: Option<u64>,
}

impl Plane {
    fn is_now(&self, update: Option<u64>, step: u64, rank: usize) -> bool {
        update == Some(step + 1) && self.ranks.rank() == rank
    }
}

impl Stage for Plane {
    type Network = Linear;

    fn gradients(&mut self, network: &Linear, step: u64) -> Result<(Gradients, Metrics)> {
        if self.is_now(self.stop, step, self.ranks.count() - 1) {
            self.interrupt.raise();
        }
        ensure!(!self.is_now(self.fail, step, 1), "example 7 is damaged");
        let device = Device::flex().autodiff();
        let share = self.ranks.share(BATCH)?;
        let mut sum = Tensor::<1>::zeros([1], &device);
        for example in share.places(step) {
            let x: [f32; 5] = std::array::from_fn(|i| ((example * 7 + 3 * i as u64) % 11) as f32 / 11.0);
            let y = [x[0] - x[1], x[2] * 0.5 + 0.1, x[3] - x[4]];
            let error = network.forward(Tensor::<2>::from_floats([x], &device))
                - Tensor::<2>::from_floats([y], &device);
            sum = sum + error.square().sum();
        }
        let factor = if self.is_now(self.overflow, step, 0) { f64::NAN } else { 1.0 / BATCH as f64 };
        let loss = sum.mul_scalar(factor);
        Ok((Gradients::of(&loss, network), vec![("loss", loss)]))
    }

    fn validate(&mut self, network: &Linear) -> Result<Validation> {
        let loss = self.ranks.part() * f64::from(network.weight.val().square().sum().into_scalar::<f32>());
        Ok(Validation { loss, others: vec![("twice", 2.0 * loss)] })
    }

    fn learning_rate(&self, _: u64) -> f64 {
        0.03
    }
}

struct Silent;

impl Hooks<Linear> for Silent {
    fn plot(&mut self, _: &str, _: &History, _: &Path) -> Result<()> {
        Ok(())
    }

    fn sheet(&mut self, _: &Linear, _: u64, _: &Path) -> Result<()> {
        Ok(())
    }
}

/// The averaged weights, and what was logged.
type Outcome = (Vec<f32>, History);

/// One rank of a run: what all of them end with.
fn one(stage: &Plane, folder: &Path) -> Result<Outcome> {
    let config = RunConfig {
        title: "a plane".to_owned(),
        steps: STEPS,
        log_every: 5,
        validate_every: Some(10),
        plateau_patience: None,
        sheet_every: None,
        save_seconds: 1000,
        halvings: None,
        run: folder.to_owned(),
        identity: serde_json::json!({ "network": "plane" }),
        files: Vec::new(),
        optimizer: AdamWConfig {
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip: Some(0.5),
            ewma: 0.9,
        },
        compression: None,
        ranks: stage.ranks.clone(),
    };
    let device = Device::flex().autodiff();
    let weight: [[f32; 3]; 5] = std::array::from_fn(|i| std::array::from_fn(|j| (i as f32 - j as f32) / 9.0));
    let fresh = Linear {
        weight: Param::from_tensor(Tensor::from_floats(weight, &device)),
        bias: Some(Param::from_tensor(Tensor::from_floats([0.1, 0.2, 0.3], &device))),
    };
    let (network, state) = train(&mut stage.clone(), fresh, &config, &mut Silent, &stage.interrupt)?;
    let values = [network.weight.val().flatten::<1>(0, 1), network.bias.unwrap().val()];
    Ok((Tensor::cat(values.into(), 0).into_data().iter().collect(), state.history))
}

/// What each of `count` ranks ends with, `per_machine` of them on each machine.
fn all(count: usize, per_machine: usize, stage: &Plane, folder: &Path) -> Vec<Result<Outcome>> {
    all_in(count, per_machine, stage, |_| folder.to_owned())
}

/// As [`all`], each rank with the run folder that `folder` gives it.
fn all_in(
    count: usize,
    per_machine: usize,
    stage: &Plane,
    folder: impl Fn(usize) -> PathBuf,
) -> Vec<Result<Outcome>> {
    if count == 1 {
        return vec![one(&Plane { interrupt: Interrupt::default(), ..stage.clone() }, &folder(0))];
    }
    let options =
        Options { timeout: Duration::from_secs(60), per_machine: Some(per_machine), ..Options::default() };
    let communicators = Communicator::threads(count, &options).unwrap();
    std::thread::scope(|scope| {
        let ranks: Vec<_> = communicators
            .into_iter()
            .map(|communicator| {
                let ranks = Ranks::new(communicator);
                let stage = Plane { ranks: ranks.clone(), interrupt: Interrupt::default(), ..stage.clone() };
                let folder = folder(ranks.rank());
                scope.spawn(move || {
                    let outcome = one(&stage, &folder);
                    match &outcome {
                        Err(error) if !error.is::<Interrupted>() => ranks.fail(error),
                        _ => ranks.finish().unwrap(),
                    }
                    outcome
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// What a run of several ranks ends with, which is the same on all of them.
fn together(count: usize, per_machine: usize, stage: &Plane, folder: &Path) -> Result<Outcome> {
    let mut outcomes = all(count, per_machine, stage, folder).into_iter().collect::<Result<Vec<_>>>()?;
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "ranks differ");
    Ok(outcomes.swap_remove(0))
}

fn assert_close((weights, history): &Outcome, (expected, logged): &Outcome, what: &str) {
    for (weight, expected) in weights.iter().zip(expected) {
        assert!((weight - expected).abs() < 1e-5, "{what}: {weights:?}, expected {expected:?}");
    }
    assert_eq!(history.keys().collect::<Vec<_>>(), logged.keys().collect::<Vec<_>>(), "{what}");
    for (name, values) in history {
        for ((step, value), (at, expected)) in values.iter().zip(&logged[name]) {
            let close = (value - expected).abs() < 1e-5 * expected.abs().max(1.0);
            assert!(
                step == at && close,
                "{what}: {name} {value} after {step}, expected {expected} after {at}"
            );
        }
    }
}

#[test]
fn several_ranks_learn_and_log_what_one_does() {
    let place = || tempfile::tempdir().unwrap();
    let (stage, alone) = (Plane { overflow: Some(7), ..Plane::default() }, place());
    let expected = together(1, 1, &stage, alone.path()).unwrap();
    for (count, per_machine) in [(2, 2), (2, 1), (4, 4), (4, 2), (4, 1)] {
        let folder = place();
        let ours = together(count, per_machine, &stage, folder.path()).unwrap();
        assert_close(&ours, &expected, &format!("{count} ranks, {per_machine} a machine"));
        let again = place();
        assert_eq!(together(count, per_machine, &stage, again.path()).unwrap(), ours, "the same bits again");
    }
}

#[test]
fn a_rank_that_is_asked_to_stop_stops_all_and_the_same_ranks_continue_bit_for_bit() {
    for (count, per_machine) in [(2, 2), (4, 2), (4, 4)] {
        let [whole, parts] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let expected = together(count, per_machine, &Plane::default(), whole.path()).unwrap();
        for stop in [1, 13, 20] {
            let stage = Plane { stop: Some(stop), ..Plane::default() };
            for outcome in all(count, per_machine, &stage, parts.path()) {
                let message = outcome.unwrap_err().to_string();
                assert!(
                    message.contains(&format!("interrupted after update {stop} of {STEPS}")),
                    "{message}"
                );
            }
        }
        let ours = together(count, per_machine, &Plane::default(), parts.path()).unwrap();
        assert_eq!(ours, expected, "{count} ranks, {per_machine} a machine");
    }
}

#[test]
fn a_run_continues_with_another_number_of_ranks() {
    let place = || tempfile::tempdir().unwrap();
    let alone = place();
    let expected = together(1, 1, &Plane::default(), alone.path()).unwrap();
    for worlds in [[1, 2, 4], [4, 1, 2], [2, 4, 1]] {
        let folder = place();
        for (count, stop) in worlds.into_iter().zip([Some(9), Some(16), None]) {
            let stage = Plane { stop, ..Plane::default() };
            match (together(count, count, &stage, folder.path()), stop) {
                (Err(error), Some(_)) => assert!(error.is::<Interrupted>(), "{error:#}"),
                (outcome, _) => assert_close(&outcome.unwrap(), &expected, &format!("{worlds:?} ranks")),
            }
            // What other commands read of it.
            let state: RunState = Checkpoint::open(folder.path(), Which::Newest).unwrap().state;
            assert_eq!(state.step, stop.unwrap_or(STEPS));
        }
    }
}

#[test]
fn a_rank_that_fails_ends_all_with_its_error_and_the_newest_checkpoint_stands() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Plane { stop: Some(11), ..Plane::default() };
    all(4, 2, &stage, folder.path()).into_iter().for_each(|outcome| drop(outcome.unwrap_err()));
    let stage = Plane { fail: Some(15), ..Plane::default() };
    for (rank, outcome) in all(4, 2, &stage, folder.path()).into_iter().enumerate() {
        let message = format!("{:#}", outcome.unwrap_err());
        let expected = if rank == 1 { "example 7 is damaged" } else { "rank 1 failed: example 7 is damaged" };
        assert_eq!(message, expected, "rank {rank}");
    }
    assert_eq!(Checkpoint::open(folder.path(), Which::Newest).unwrap().state.step, 11);
    together(4, 2, &Plane::default(), folder.path()).unwrap();
}

#[test]
fn a_run_folder_has_any_name_and_is_shared_by_all_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join(OsStr::from_bytes(b"run \xff"));
    together(2, 2, &Plane::default(), &odd).unwrap();
    assert_eq!(Checkpoint::open(&odd, Which::Newest).unwrap().state.step, STEPS);
    for outcome in all_in(2, 2, &Plane::default(), |rank| folder.path().join(rank.to_string())) {
        let message = format!("{:#}", outcome.unwrap_err());
        assert!(message.contains("rank 1") && message.contains("that all ranks share"), "{message}");
    }
    assert!(!folder.path().join("1/checkpoints").exists(), "nothing is written elsewhere");
}

#[test]
fn each_rank_reads_only_its_own_rows_to_continue_with_the_same_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let expected = together(2, 2, &Plane::default(), &whole).unwrap();
    // Each rank has a copy without the other's file.
    for (own, other) in [("0", "001"), ("1", "000")] {
        let copy = folder.path().join(own);
        let copied = std::process::Command::new("cp").arg("-r").arg(&whole).arg(&copy).status().unwrap();
        assert!(copied.success());
        let checkpoint = copy.join(format!("checkpoints/step-{STEPS:09}"));
        fs::remove_file(checkpoint.join(format!("shard-{other}-of-002.safetensors"))).unwrap();
    }
    for outcome in all_in(2, 2, &Plane::default(), |rank| folder.path().join(rank.to_string())) {
        assert_eq!(outcome.unwrap(), expected);
    }
}

#[test]
fn a_damaged_part_of_a_checkpoint_is_noticed_and_the_one_before_is_used() {
    let folder = tempfile::tempdir().unwrap();
    for stop in [9, 11] {
        let stage = Plane { stop: Some(stop), ..Plane::default() };
        all(2, 2, &stage, folder.path()).into_iter().for_each(|outcome| drop(outcome.unwrap_err()));
    }
    let part = folder.path().join("checkpoints/step-000000011/shard-001-of-002.safetensors");
    let mut bytes = fs::read(&part).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&part, bytes).unwrap();
    assert_eq!(Checkpoint::open(folder.path(), Which::Newest).unwrap().state.step, 10);
    together(2, 2, &Plane::default(), folder.path()).unwrap();
}

#[test]
fn ranks_with_other_settings_are_refused_before_they_train() {
    let options = Options { timeout: Duration::from_secs(60), ..Options::default() };
    let communicators = Communicator::threads(2, &options).unwrap();
    std::thread::scope(|scope| {
        for communicator in communicators {
            scope.spawn(move || {
                let ranks = Ranks::new(communicator);
                let own = format!("settings of rank {}", ranks.rank());
                let message = ranks.agree("settings", own.as_bytes()).unwrap_err().to_string();
                assert!(message.contains("rank 1 has other settings than rank 0"), "{message}");
                ranks.finish().unwrap();
            });
        }
    });
}
