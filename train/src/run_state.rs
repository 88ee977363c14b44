//! The state of a run without its tensors: its position and everything logged so far. Stored as `state.json` in a checkpoint.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::exact::exact;
use crate::metrics::MetricAverages;

/// Logged values by name: (update, value). All values are finite.
pub type History = BTreeMap<String, Vec<(u64, f64)>>;

/// The network that a run trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkKind {
    /// Encoder and decoder (stage 1).
    Dvae,
    /// The prior (stage 2).
    Prior,
    /// CLIP.
    Clip,
}

impl NetworkKind {
    /// Its name in the identity of a run.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dvae => "dvae",
            Self::Prior => "prior",
            Self::Clip => "clip",
        }
    }
}

/// A halving of the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halving {
    /// The first update with the halved rate, counted from 0.
    pub step: u64,
    /// Why it was halved.
    pub cause: Cause,
}

/// Why the learning rate was halved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// It was requested on the command line.
    ByHand,
    /// The validation loss had stopped falling.
    Plateau,
}

/// The lowest validation loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Number of updates after which it was measured. Its checkpoint is kept.
    pub step: u64,
    /// The validation loss.
    #[serde(deserialize_with = "exact")]
    pub loss: f64,
}

/// The state of a run after an update, without tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// The settings that determine the result of an update. A run resumes only with the same ones.
    #[serde(alias = "settings")]
    pub identity: serde_json::Value,
    /// The number of updates that the run was started with, which determines its schedules. Unchanged when the run is extended.
    #[serde(default)]
    pub schedule_steps: u64,
    /// Number of updates so far, including skipped ones: the position in data and schedules.
    pub step: u64,
    /// Number of updates that the optimizer has applied.
    pub updates: u64,
    /// Halvings of the learning rate in addition to its schedule.
    #[serde(default)]
    pub halvings: Vec<Halving>,
    /// The best validation so far.
    #[serde(default)]
    pub best: Option<Best>,
    /// Number of validations since the best one, or since the last halving on a plateau.
    #[serde(default)]
    pub stale: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Everything logged.
    #[serde(deserialize_with = "history")]
    pub history: History,
    /// Averages of metrics since the last log.
    #[serde(default)]
    pub averages: MetricAverages,
    /// Number of updates since the last log that were skipped because a gradient was not finite.
    #[serde(default)]
    pub skipped: u64,
    /// Number of updates skipped in a row.
    #[serde(default)]
    pub skipped_in_a_row: u64,
    /// The state of the stage.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub stage: serde_json::Value,
    /// Warnings shown so far, by kind.
    #[serde(default)]
    pub warnings: BTreeMap<String, String>,
}

impl RunState {
    /// The state of a new run of `steps` updates.
    pub fn new(identity: serde_json::Value, steps: u64) -> Self {
        Self {
            identity,
            schedule_steps: steps,
            step: 0,
            updates: 0,
            halvings: Vec::new(),
            best: None,
            stale: 0,
            seconds: 0.0,
            history: History::new(),
            averages: MetricAverages::default(),
            skipped: 0,
            skipped_in_a_row: 0,
            stage: serde_json::Value::Null,
            warnings: BTreeMap::new(),
        }
    }

    /// Parses a `state.json`.
    ///
    /// # Errors
    /// The bytes are not a state.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let mut state: Self =
            serde_json::from_slice(bytes).context("state.json is not the state of a run")?;
        state.upgrade();
        Ok(state)
    }

    /// The factor of the scheduled learning rate.
    pub fn learning_rate_factor(&self) -> f64 {
        0.5_f64.powi(self.halvings.len() as i32)
    }

    /// The network that the run trains, if it is one of this project.
    pub fn network(&self) -> Option<NetworkKind> {
        serde_json::from_value(self.identity["network"].clone()).ok()
    }

    /// Upgrades an identity that an older version wrote.
    fn upgrade(&mut self) {
        let Some(identity) = self.identity.as_object_mut() else { return };
        identity.remove("log_every");
        if let Some(steps) = identity.remove("steps").and_then(|steps| steps.as_u64()) {
            self.schedule_steps = steps;
        }
        for (old, new) in [
            ("step_size", "learning_rate"),
            ("final_step_size", "final_learning_rate"),
            ("step_size_updates", "learning_rate_updates"),
        ] {
            if let Some(value) = identity.remove(old) {
                identity.insert(new.to_owned(), value);
            }
        }
        identity.retain(|_, value| !value.is_null());
        let networks = [
            ("tau", NetworkKind::Dvae),
            ("caption_dropout", NetworkKind::Prior),
            ("reconstructed", NetworkKind::Clip),
        ];
        if let Some((_, network)) = networks.iter().find(|(option, _)| identity.contains_key(*option)) {
            identity.entry("network").or_insert_with(|| network.name().into());
        }
    }
}

/// Reads a history [`exact`]ly. Older versions also logged non-finite values, as `null`. These are left out.
fn history<'de, D: Deserializer<'de>>(deserializer: D) -> Result<History, D::Error> {
    let stored = BTreeMap::<String, Vec<(u64, Option<Box<RawValue>>)>>::deserialize(deserializer)?;
    let series = stored.into_iter().map(|(name, values)| {
        let finite = values.into_iter().filter_map(|(step, value)| Some((step, value?)));
        let values = finite.map(|(step, value)| Ok((step, value.get().parse().map_err(D::Error::custom)?)));
        Ok((name, values.collect::<Result<_, _>>()?))
    });
    series.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As version 0.1.0 wrote it.
    const OLD: &str = r#"{
        "settings": {
            "batch": 4, "beta": 15.0, "beta_updates": 1, "data": "d", "ewma": 0.99, "final_step_size": 1e-4,
            "log_every": 50, "model": { "vocab": 64 }, "seed": 0, "step_size": 2e-3, "step_size_updates": null,
            "steps": 5000, "tau": 0.0625, "tau_updates": 3000
        },
        "step": 100, "updates": 99, "seconds": 12.5,
        "history": { "gradient norm": [[50, null], [100, 2.5]], "loss": [[50, -1.5], [100, -2.0]] },
        "warnings": {}
    }"#;

    #[test]
    fn a_state_of_version_0_1_0_is_upgraded() {
        let state = RunState::read(OLD.as_bytes()).unwrap();
        let identity = serde_json::json!({
            "network": "dvae", "batch": 4, "beta": 15.0, "beta_updates": 1, "data": "d", "ewma": 0.99,
            "final_learning_rate": 1e-4, "learning_rate": 2e-3, "model": { "vocab": 64 }, "seed": 0, "tau": 0.0625,
            "tau_updates": 3000
        });
        assert_eq!((state.identity.clone(), state.schedule_steps), (identity, 5000));
        assert_eq!(state.network(), Some(NetworkKind::Dvae));
        assert_eq!((state.step, state.updates, state.learning_rate_factor()), (100, 99, 1.0));
        assert_eq!(state.history["gradient norm"], [(100, 2.5)]);
        assert_eq!(RunState::read(&serde_json::to_vec(&state).unwrap()).unwrap(), state);
    }

    #[test]
    fn numbers_are_read_back_bit_for_bit() {
        // serde_json alone reads the first one with an error of one in the last place.
        let values: Vec<(u64, f64)> = [51.248_178_758_569_94, 1.0 / 3.0, 5e-324, f64::MAX, -0.1]
            .into_iter()
            .map(|value| (1, value))
            .collect();
        let mut state = RunState::new(serde_json::Value::Null, 1);
        state.history.insert("loss".to_owned(), values);
        assert_eq!(RunState::read(&serde_json::to_vec(&state).unwrap()).unwrap(), state);
    }
}
