//! The training loop, on a network of three weights: skipping, saving, resuming and reporting.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod toy;

use std::fs;

use dalle_train::checkpoint::{Checkpoint, Which};
use toy::{Toy, Workplace};

/// Everything that must not depend on interruptions: the weights, and the state without its duration.
fn outcome(toy: &Toy, place: &Workplace) -> (Vec<f32>, serde_json::Value) {
    let weights = place.train(toy).unwrap();
    let mut state = place.state();
    state.as_object_mut().unwrap().remove("seconds");
    (weights, state)
}

/// Asserts that runs interrupted after these updates end like an undisturbed one.
fn assert_same_when_stopped(toy: &Toy, stops: &[u64]) {
    let whole = outcome(toy, &Workplace::new());
    for &stop in stops {
        let place = Workplace::new();
        let complaint = place.train(&toy.clone().stopping_at(stop)).unwrap_err().to_string();
        assert!(complaint.contains("interrupted"), "{complaint}");
        assert_eq!(outcome(toy, &place), whole, "stopped after update {stop}");
    }
}

#[test]
fn logged_values_do_not_depend_on_where_a_run_was_interrupted() {
    assert_same_when_stopped(&Toy::new(40), &[1, 4, 5, 18, 39]);
}

#[test]
fn a_run_that_skipped_updates_resumes_and_ends_like_an_undisturbed_one() {
    assert_same_when_stopped(&Toy::new(40).skipping(&[3, 4, 17, 18, 19, 31]), &[4, 5, 18, 20, 35]);
}

#[test]
fn skipped_updates_are_counted_and_left_out_of_averages() {
    let place = Workplace::new();
    // All updates between two logs are skipped, and one after that.
    place.train(&Toy::new(20).skipping(&[5, 6, 7, 8, 9, 12])).unwrap();
    let history = place.state()["history"].take();
    let of = |name: &str| serde_json::from_value::<Vec<(u64, f64)>>(history[name].clone()).unwrap();
    assert_eq!(of("skipped updates"), [(10, 5.0), (15, 1.0)]);
    for name in ["loss", "gradient norm"] {
        let steps: Vec<u64> = of(name).into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, [5, 15, 20], "{name}");
    }
}

#[test]
fn a_network_whose_gradients_are_computed_by_hand_is_not_tracked_and_learns_the_same() {
    let [tracked, untracked] =
        [Toy::new(40), Toy::new(40).by_hand()].map(|toy| outcome(&toy, &Workplace::new()).0);
    for (ours, expected) in untracked.iter().zip(&tracked) {
        assert!((ours - expected).abs() < 1e-6, "{untracked:?} {tracked:?}");
    }
    // Also after an interruption.
    assert_same_when_stopped(&Toy::new(40).by_hand(), &[5, 18]);
}

#[test]
fn a_state_with_nulls_from_an_older_version_is_resumed() {
    let toy = Toy::new(20);
    let whole = Workplace::new().train(&toy).unwrap();
    let place = Workplace::new();
    place.train(&toy.clone().stopping_at(12)).unwrap_err();
    place.edit_state(|state| {
        state["history"]["loss"].as_array_mut().unwrap().push(serde_json::json!([11, null]));
        state["history"]["gradient norm"][0][1] = serde_json::Value::Null;
    });
    assert_eq!(place.train(&toy).unwrap(), whole);
    assert!(!place.state()["history"].to_string().contains("null"));
}

#[test]
fn a_checkpoint_that_cannot_be_parsed_is_skipped_for_the_one_before() {
    let toy = Toy::new(20).saving_always();
    let whole = Workplace::new().train(&toy).unwrap();
    let place = Workplace::new();
    place.train(&toy.clone().stopping_at(12)).unwrap_err();
    place.edit_state(|state| state["history"] = "nothing".into());
    assert_eq!(place.train(&toy).unwrap(), whole);
    assert_eq!(toy.first_update(), 11);
}

#[test]
fn a_newest_checkpoint_without_manifest_is_set_aside_and_does_not_block_the_next_one() {
    let toy = Toy::new(20).saving_always();
    let whole = Workplace::new().train(&toy).unwrap();
    let place = Workplace::new();
    // Twice, because the second damaged folder replaces the first.
    for _ in 0..2 {
        place.train(&toy.clone().stopping_at(12)).unwrap_err();
        fs::remove_file(place.newest().join("manifest.json")).unwrap();
    }
    assert_eq!(place.train(&toy).unwrap(), whole);
    assert_eq!(toy.first_update(), 11);
    assert!(place.run().join("checkpoints/damaged-step-000000012").is_dir());
}

#[test]
fn a_whole_checkpoint_that_latest_does_not_name_yet_is_resumed() {
    let toy = Toy::new(20).saving_always();
    let place = Workplace::new();
    place.train(&toy.clone().stopping_at(12)).unwrap_err();
    fs::write(place.run().join("checkpoints/LATEST"), "step-000000011").unwrap();
    place.train(&toy).unwrap();
    assert_eq!(toy.first_update(), 12);
}

#[test]
fn a_run_whose_last_updates_are_skipped_finishes() {
    let toy = Toy::new(20).skipping(&[17, 18, 19]);
    assert_eq!(Workplace::new().train(&toy).unwrap(), Workplace::new().train(&Toy::new(17)).unwrap());
}

#[test]
fn twenty_skipped_updates_in_a_row_are_divergence_also_across_interruptions() {
    let skipped: Vec<u64> = (15..35).collect();
    let toy = Toy::new(60).skipping(&skipped);
    let place = Workplace::new();
    for stop in [20, 30] {
        let complaint = place.train(&toy.clone().stopping_at(stop)).unwrap_err().to_string();
        assert!(complaint.contains("interrupted"), "{complaint}");
    }
    let complaint = place.train(&toy).unwrap_err().to_string();
    assert!(complaint.contains("diverged") && complaint.contains("to 35"), "{complaint}");
    assert!(
        complaint.contains("checkpoint after update 30") && complaint.contains("--halvings 1"),
        "{complaint}"
    );
    // 14 of the 20 were skipped when the checkpoint was saved. With a lower rate the count restarts, so there are too few.
    place.train(&toy.halved_by_hand(1)).unwrap();
    Workplace::new().train(&Toy::new(60).skipping(&skipped[1..])).unwrap();
    let new =
        Workplace::new().train(&Toy::new(60).skipping(&(0..20).collect::<Vec<_>>())).unwrap_err().to_string();
    assert!(new.contains("diverged") && !new.contains("checkpoint"), "{new}");
}

#[test]
fn a_stage_that_expects_skipped_updates_may_skip_more() {
    let toy = Toy::new(60).skipping(&(15..45).collect::<Vec<_>>());
    Workplace::new().train(&toy.clone().allowing(31)).unwrap();
    let complaint = Workplace::new().train(&toy.allowing(30)).unwrap_err().to_string();
    assert!(complaint.contains("the last 30 updates, to 45"), "{complaint}");
}

#[test]
fn a_run_that_applied_no_update_has_diverged() {
    let complaint = Workplace::new().train(&Toy::new(3).skipping(&[0, 1, 2])).unwrap_err().to_string();
    assert!(complaint.contains("nothing was trained"), "{complaint}");
}

#[test]
fn a_finished_run_can_be_extended_but_not_shortened() {
    let place = Workplace::new();
    place.train(&Toy::new(20)).unwrap();
    let whole = Workplace::new().train(&Toy::new(35)).unwrap();
    assert_eq!(place.train(&Toy::new(35)).unwrap(), whole);
    assert_eq!(place.state()["schedule_steps"], 20);
    let complaint = place.train(&Toy::new(34)).unwrap_err().to_string();
    assert!(complaint.contains("--steps") && complaint.contains("stands at update 35"), "{complaint}");
}

#[test]
fn a_manual_halving_is_applied_once_however_often_the_command_is_repeated() {
    let toy = Toy::new(30);
    let place = Workplace::new();
    place.train(&toy.clone().stopping_at(10)).unwrap_err();
    let halved = toy.clone().halved_by_hand(1);
    place.train(&halved.clone().stopping_at(20)).unwrap_err();
    let weights = place.train(&halved).unwrap();
    assert_eq!(place.state()["halvings"], serde_json::json!([{ "step": 10, "cause": "by-hand" }]));
    assert_ne!(weights, Workplace::new().train(&toy).unwrap());

    // From then on it is like an undisturbed run, and without the option the rate stays halved.
    let place = Workplace::new();
    place.train(&toy.clone().stopping_at(10)).unwrap_err();
    place.train(&halved.stopping_at(11)).unwrap_err();
    assert_eq!(place.train(&toy).unwrap(), weights);
    let complaint = place.train(&toy.halved_by_hand(0)).unwrap_err().to_string();
    assert!(
        complaint.contains("--halvings") && complaint.contains("at least 1, the number of manual halvings"),
        "{complaint}"
    );
}

#[test]
fn a_curve_or_sheet_that_cannot_be_written_does_not_end_the_run() {
    let toy = Toy::new(20).saving_always().with_sheets(5);
    assert_eq!(
        Workplace::new().train(&toy.clone().without_plotter()).unwrap(),
        Workplace::new().train(&toy).unwrap()
    );
}

#[test]
fn a_run_interrupted_before_the_first_applied_update_is_resumed() {
    assert_same_when_stopped(&Toy::new(20).skipping(&[0, 1, 2]), &[1, 3]);
}

#[test]
fn the_metrics_file_of_an_interrupted_run_equals_that_of_an_undisturbed_one() {
    let toy = Toy::new(40).skipping(&[17]);
    let lines = |place: &Workplace| fs::read_to_string(place.run().join("metrics.jsonl")).unwrap();
    let whole = Workplace::new();
    whole.train(&toy).unwrap();
    let read: Vec<serde_json::Value> =
        lines(&whole).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<u64> = read.iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [5, 10, 15, 20, 25, 30, 35, 40]);
    assert_eq!(read[3]["skipped updates"], 1.0);
    assert_eq!(read[7]["loss"], whole.state()["history"]["loss"][7][1]);

    let place = Workplace::new();
    place.train(&toy.clone().stopping_at(22)).unwrap_err();
    // A run that is killed after a log has logged more than its checkpoint contains.
    fs::write(place.run().join("metrics.jsonl"), format!("{}{{\"step\":25,\"lo", lines(&place))).unwrap();
    place.train(&toy).unwrap();
    assert_eq!(lines(&place), lines(&whole));
    let events =
        fs::read_dir(place.run()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(events.filter(|name| name.contains("tfevents")).count(), 2, "one for each start");
}

#[test]
fn validations_are_logged_and_the_best_checkpoint_is_kept() {
    // Best after update 12, and equally good after 24.
    let toy =
        Toy::new(40).saving_always().validated(6, Some(|updates| if updates % 12 == 0 { 1.0 } else { 2.0 }));
    let place = Workplace::new();
    place.train(&toy).unwrap();
    assert_eq!(place.checkpoints(), ["step-000000012", "step-000000039", "step-000000040"]);
    let state = place.state();
    assert_eq!(state["best"], serde_json::json!({ "step": 12, "loss": 1.0 }));
    let steps = |name: &str| -> Vec<u64> {
        state["history"][name].as_array().unwrap().iter().map(|pair| pair[0].as_u64().unwrap()).collect()
    };
    for name in ["validation loss", "validation sum"] {
        assert_eq!(steps(name), [6, 12, 18, 24, 30, 36, 40], "{name}");
    }
    let best = Checkpoint::open(&place.run(), Which::Best).unwrap();
    assert_eq!(best.state.step, 12);
    let complaint = {
        let place = Workplace::new();
        place.train(&Toy::new(5)).unwrap();
        Checkpoint::open(&place.run(), Which::Best).err().unwrap().to_string()
    };
    assert!(complaint.contains("--validate-every"), "{complaint}");
}

#[test]
fn a_new_best_is_saved_at_once() {
    let toy = Toy::new(20).validated(3, Some(|updates| -(updates as f64)));
    let place = Workplace::new();
    place.train(&toy).unwrap();
    assert_eq!(place.checkpoints(), ["step-000000018", "step-000000020"]);
}

#[test]
fn a_plateau_halves_the_learning_rate_also_across_interruptions() {
    // Falls until update 9, then is constant.
    let toy = Toy::new(40).validated(3, Some(|updates| 9u64.saturating_sub(updates) as f64)).with_patience(4);
    assert_same_when_stopped(&toy, &[2, 9, 20, 21, 22]);
    let place = Workplace::new();
    let weights = place.train(&toy).unwrap();
    let halving = |step: u64| serde_json::json!({ "step": step, "cause": "plateau" });
    // Four validations after update 9, and another four after that.
    assert_eq!(place.state()["halvings"], serde_json::json!([halving(21), halving(33)]));
    assert_ne!(weights, Workplace::new().train(&Toy::new(40)).unwrap());
}

#[test]
fn a_non_finite_validation_loss_is_never_the_best() {
    let place = Workplace::new();
    place
        .train(&Toy::new(10).validated(2, Some(|updates| if updates == 8 { 3.0 } else { f64::NAN })))
        .unwrap();
    assert_eq!(place.state()["best"]["step"], 8);
    assert_eq!(place.state()["history"]["validation loss"], serde_json::json!([[8, 3.0]]));
}

#[test]
fn sheets_show_averaged_weights_at_intervals_and_at_the_end() {
    let place = Workplace::new();
    let weights = place.train(&Toy::new(11).with_sheets(4)).unwrap();
    let read = |step: u64| fs::read_to_string(place.run().join(format!("sheet-{step}"))).ok();
    assert!(read(4).is_some() && read(8).is_some() && read(10).is_none());
    let sum: f32 = read(11).unwrap().parse().unwrap();
    assert!((sum - weights[0] - weights[1]).abs() < 1e-6, "{sum} {weights:?}");
}

#[test]
fn metrics_files_that_cannot_be_opened_do_not_end_the_run() {
    let toy = Toy::new(20);
    let place = Workplace::new();
    fs::create_dir_all(place.run().join("metrics.jsonl")).unwrap();
    assert_eq!(place.train(&toy).unwrap(), Workplace::new().train(&toy).unwrap());
    assert_eq!(place.state()["history"]["loss"].as_array().unwrap().len(), 4);
}

#[test]
fn infinite_weights_end_the_run_before_they_are_saved() {
    // The gradients are finite, but the first update is not.
    let toy = Toy::new(20).saving_always().with_learning_rate(1e300);
    let place = Workplace::new();
    let complaint = place.train(&toy).unwrap_err().to_string();
    assert!(
        complaint.contains("diverged: the weights after update 1") && complaint.contains("--learning-rate"),
        "{complaint}"
    );
    assert_eq!(place.checkpoints(), [""; 0]);
}
