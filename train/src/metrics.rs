//! Metrics, and their averages between two logs.

use std::collections::BTreeMap;

use dalle_model::Device;
use dalle_model::burn::tensor::{Tensor, Transaction};
use serde::{Deserialize, Serialize};

use crate::exact::exact;

/// Metrics of an update by name, each of shape `[1]`.
pub type Metrics = Vec<(&'static str, Tensor<1>)>;

/// Metrics of values on the host.
pub(crate) fn scalars(values: &[(&'static str, f64)]) -> Metrics {
    let tensor = |value: f64| Tensor::from_floats([value as f32], &Device::flex());
    values.iter().map(|&(name, value)| (name, tensor(value))).collect()
}

/// Adds the metrics of a part of a batch to `sums`. `share` is the part's weight; the weights of all parts sum to 1.
pub(crate) fn add_share(sums: &mut Metrics, part: Metrics, share: f64) {
    for (name, value) in part {
        // Without autodiff, because a tracked value would keep the graph of its part alive.
        let value = value.inner().mul_scalar(share);
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum = sum.clone() + value,
            None => sums.push((name, value)),
        }
    }
}

/// Metrics of updates since the last log that are still on the device. Reading them in every update would synchronise the device
/// with the host.
#[derive(Default)]
pub(crate) struct PendingMetrics(Metrics);

impl PendingMetrics {
    /// Maximum number of values on the device.
    const MAX_PENDING: usize = 1 << 12;

    /// Adds the metrics of an update. If there are too many, all are read into `averages`.
    pub(crate) fn add(&mut self, metrics: Metrics, averages: &mut MetricAverages) {
        // Without autodiff, because a tracked value would keep the whole graph alive.
        self.0.extend(metrics.into_iter().map(|(name, value)| (name, value.inner())));
        if self.0.len() > Self::MAX_PENDING {
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
    /// Adds the value of one update. NaN and infinite values are left out, because they would hide all others.
    pub(crate) fn add(&mut self, name: &str, value: f64) {
        if !value.is_finite() {
            return;
        }
        let sum = self.0.entry(name.to_owned()).or_default();
        sum.sum += value;
        sum.count += 1;
    }

    /// Returns the averages and starts new ones.
    pub(crate) fn take(&mut self) -> BTreeMap<String, f64> {
        let sums = std::mem::take(&mut self.0).into_iter();
        sums.map(|(name, Sum { sum, count })| (name, sum / count as f64)).collect()
    }
}
