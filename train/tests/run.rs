//! The training loop on a network of three weights: what is skipped, saved, resumed and reported.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod toy;

use toy::{Toy, Workplace};

/// Everything that must not depend on where a run was interrupted: the weights, and the state but for the time it took.
fn outcome(toy: &Toy, place: &Workplace) -> (Vec<f32>, serde_json::Value) {
    let weights = place.train(toy).unwrap();
    let mut state = place.state();
    state.as_object_mut().unwrap().remove("seconds");
    (weights, state)
}

/// Asserts that runs interrupted after these updates end as one that was not.
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
fn what_is_logged_does_not_depend_on_where_a_run_was_interrupted() {
    assert_same_when_stopped(&Toy::new(40), &[1, 4, 5, 18, 39]);
}
