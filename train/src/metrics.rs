//! Averages of logged values.

use std::collections::BTreeMap;

use dalle_model::Device;
use dalle_model::burn::tensor::{Tensor, Transaction};
use serde::{Deserialize, Serialize};

use crate::run_state::exact;

/// Values worth logging, by name, all of shape `[1]`.
pub type Metrics = Vec<(&'static str, Tensor<1>)>;

/// Metrics that were not computed on a device.
pub(crate) fn scalars(values: &[(&'static str, f64)]) -> Metrics {
    let tensor = |value: f64| Tensor::from_floats([value as f32], &Device::flex());
    values.iter().map(|&(name, value)| (name, tensor(value))).collect()
}

/// Adds the metrics of a part of a batch to those of the parts before; `share` is the part's weight, all together 1.
pub(crate) fn add_share(sums: &mut Metrics, part: Metrics, share: f64) {
    for (name, value) in part {
        // Without autodiff: a tracked value would keep the graph of its part.
        let value = value.inner().mul_scalar(share);
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum = sum.clone() + value,
            None => sums.push((name, value)),
        }
    }
}

/// Metrics of updates since the last log that are still on the device: reading each at once would make the device wait for the
/// program in every update.
#[derive(Default)]
pub(crate) struct PendingMetrics(Metrics);

impl PendingMetrics {
    /// Most values to keep on the device.
    const MOST: usize = 1 << 12;

    /// Adds the metrics of an update. Now and then they are read into `averages`, so that there are not too many.
    pub(crate) fn add(&mut self, metrics: Metrics, averages: &mut MetricAverages) {
        // Without autodiff: a tracked value would keep the whole graph.
        self.0.extend(metrics.into_iter().map(|(name, value)| (name, value.inner())));
        if self.0.len() > Self::MOST {
            self.read(averages);
        }
    }

    /// Reads all values into `averages`, in one transfer.
    pub(crate) fn read(&mut self, averages: &mut MetricAverages) {
        let (names, values): (Vec<_>, Vec<_>) = std::mem::take(&mut self.0).into_iter().unzip();
        let read = values.into_iter().fold(Transaction::default(), Transaction::register).execute();
        for (name, value) in names.into_iter().zip(read) {
            value.iter::<f64>().for_each(|value| averages.add(name, value));
        }
    }
}

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

    /// The averages, which begin again.
    pub(crate) fn take(&mut self) -> BTreeMap<String, f64> {
        let sums = std::mem::take(&mut self.0).into_iter();
        sums.map(|(name, Sum { sum, count })| (name, sum / count as f64)).collect()
    }
}
