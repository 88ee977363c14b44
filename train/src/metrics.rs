//! Averages of logged values.

use std::collections::BTreeMap;

use dalle_model::burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::run_state::{History, exact};

/// Values worth logging, by name, all of shape `[1]`.
pub type Metrics = Vec<(&'static str, Tensor<1>)>;

/// Averages of named metrics over the updates between two logs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricAverages(BTreeMap<String, Sum>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sum {
    #[serde(deserialize_with = "exact")]
    sum: f64,
    count: u64,
}

impl MetricAverages {
    /// Adds a value of one update. One that is not finite would hide all others, and is left out.
    pub(crate) fn add(&mut self, name: &str, value: f64) {
        if !value.is_finite() {
            return;
        }
        let sum = self.0.entry(name.to_owned()).or_default();
        sum.sum += value;
        sum.count += 1;
    }

    /// Moves the averages into `history` and returns them as a line.
    pub(crate) fn flush(&mut self, step: u64, history: &mut History) -> String {
        let mut line = Vec::new();
        for (name, Sum { sum, count }) in std::mem::take(&mut self.0) {
            let mean = sum / count as f64;
            line.push(format!("{name} {mean:.4}"));
            history.entry(name).or_default().push((step, mean));
        }
        line.join("  ")
    }
}
