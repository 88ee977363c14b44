//! AdamW whose state is split by rows over the ranks of a machine (section 2.5 of the paper).
//!
//! ```text
//! gradients ─ reduce-scatter ─▶ own rows ─ sum over machines ─▶ AdamW on own rows ─ all-gather ─▶ network
//!             in the machine                                    mean, variance, average
//! ```
//!
//! The sum over machines may be compressed by PowerSGD ([`power_sgd`]).
//!
//! A rank of m on its machine keeps 1/m of the running mean, the running variance and the average of the weights, and updates 1/m of the
//! weights. The gradients it puts in are those of its share of the batch; sums are taken in f32 in the order of ranks.

mod compression;
mod layout;
mod traffic;
mod trial;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use dalle_comm::{Communicator, Group, Wire};
use dalle_data::log_line;
use dalle_kernels::adamw::{AdamW, AdamWUpdate, update_flat};
use dalle_model::burn::module::{Module, ModuleMapper, Param};
use dalle_model::burn::tensor::{Tensor, TensorData};
use dalle_model::weights::read_values;

use crate::gradients::Gradients;
use crate::optimizer::{AdamWConfig, MAX_VARIANCE, tracked};
use crate::power_sgd::{self, global_norm};
use compression::Compression;
use layout::{RowLayout, SplitParameter, floats};
pub use traffic::UpdateTraffic;
use trial::{Trial, Verdict};

/// What is kept of each parameter, by the suffix it is saved under.
const PARTS: [&str; 3] = ["mean", "variance", "average"];

/// The optimizer of a rank.
pub struct ShardedAdamW {
    config: AdamWConfig,
    updates: u64,
    communicator: Arc<Communicator>,
    layout: RowLayout,
    mean: Vec<f32>,
    variance: Vec<f32>,
    average: Vec<f32>,
    /// Own values that decay.
    decays: Vec<Range<usize>>,
    /// If gradients are compressed between machines.
    compression: Option<Compression>,
    /// While it is measured whether that pays.
    trial: Option<Trial>,
    /// Whether the gradients of the last update were.
    compressed: bool,
}

/// Whether gradients are compressed between machines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compress {
    /// How.
    pub config: power_sgd::Config,
    /// Whether the first updates measure if it is faster, and switch it off if it is not.
    pub on_trial: bool,
}

/// Rows of a tensor in a checkpoint.
pub(crate) struct SavedRows {
    /// Name of the tensor.
    pub name: String,
    /// Shape of the rows.
    pub shape: Vec<usize>,
    /// Their values.
    pub values: Vec<f32>,
}

impl ShardedAdamW {
    /// A new optimizer of a network, whose weights are the same on all ranks. With `compression`, the matrices of the prior's resblocks
    /// are compressed between machines, if there are several.
    pub fn new<M: Module>(
        config: AdamWConfig,
        compression: Option<Compress>,
        communicator: Arc<Communicator>,
        network: &M,
    ) -> Self {
        let layout = RowLayout::of(network, communicator.size(Group::Machine));
        let rank = communicator.rank(Group::Machine);
        let decaying = layout.own(rank).filter(|own| own.parameter.decays() && !own.values.is_empty());
        let decays = decaying.map(|own| own.values).collect();
        let (mean, variance) = (vec![0.0; layout.part()], vec![0.0; layout.part()]);
        let machines = communicator.size(Group::Peers);
        let compression = compression.filter(|_| machines > 1);
        let trial = compression.filter(|compress| compress.on_trial).map(|_| Trial::default());
        let compression =
            compression.map(|compress| Compression::new(compress.config, machines, &layout, rank));
        let mut new = Self {
            config,
            updates: 0,
            communicator,
            layout,
            mean,
            variance,
            average: Vec::new(),
            decays,
            compression,
            trial,
            compressed: false,
        };
        new.average = new.own_values(network);
        new
    }

    /// The same, with the state of `updates` updates from whole tensors, named as by [`AdamW::save`](crate::optimizer::AdamW::save), and
    /// from the sums of error buffers over machines, by path. A parameter may have none.
    ///
    /// # Errors
    /// The state is that of another network.
    pub fn load<M: Module>(
        (config, compression): (AdamWConfig, Option<Compress>),
        updates: u64,
        (mut tensors, errors): (BTreeMap<String, TensorData>, &BTreeMap<String, TensorData>),
        communicator: Arc<Communicator>,
        network: &M,
    ) -> Result<Self> {
        let mut loaded = Self { updates, ..Self::new(config, compression, communicator, network) };
        if let Some(compression) = &mut loaded.compression {
            compression.restore(errors)?;
        }
        let Self { communicator, layout, mean, variance, average, .. } = &mut loaded;
        for own in layout.own(communicator.rank(Group::Machine)) {
            let path = &own.parameter.path;
            let parts = PARTS.map(|part| tensors.remove(&format!("{path}:{part}")));
            if parts.iter().all(Option::is_none) {
                continue;
            }
            for (part, values) in parts.into_iter().zip([&mut *mean, variance, average]) {
                let part = part.filter(|part| part.num_elements() == own.parameter.length());
                let part = part.with_context(|| {
                    format!(
                        "the checkpoint's optimizer state of `{path}` is not three tensors of {} values; it belongs to another \
                         configuration",
                        own.parameter.length()
                    )
                })?;
                let whole = floats(part);
                values[own.values.clone()].copy_from_slice(&whole[own.in_parameter()]);
            }
        }
        if let Some(name) = tensors.keys().next() {
            anyhow::bail!(
                "the checkpoint's optimizer state holds `{name}`, which this network does not have; it belongs to another \
                 configuration"
            );
        }
        Ok(loaded)
    }

    /// The network and the optimizer after `updates` updates, from this rank's rows by the names that [`save`](Self::save) gives them. All
    /// ranks call it.
    ///
    /// # Errors
    /// The rows are those of another network, or communication failed.
    pub(crate) fn load_rows<M: Module>(
        (config, compression): (AdamWConfig, Option<Compress>),
        updates: u64,
        mut rows: BTreeMap<String, TensorData>,
        communicator: Arc<Communicator>,
        network: M,
    ) -> Result<(M, Self)> {
        let mut loaded = Self { updates, ..Self::new(config, compression, communicator, &network) };
        let mut weights = vec![0.0; loaded.layout.part()];
        let mut errors = BTreeMap::new();
        let Self { communicator, layout, mean, variance, average, .. } = &mut loaded;
        for own in layout.own(communicator.rank(Group::Machine)) {
            let path = &own.parameter.path;
            let shape = [&[own.rows.len()], &own.parameter.shape[1..]].concat();
            let all = [&mut weights, &mut *mean, variance, average];
            for (part, values) in std::iter::once("weight").chain(PARTS).zip(all) {
                let found = rows.remove(&format!("{path}:{part}"));
                let found = found.filter(|found| found.shape().to_vec() == shape).with_context(|| {
                    format!("the checkpoint's {part} of `{path}` is not of shape {shape:?}; it belongs to another configuration")
                })?;
                values[own.values.clone()].copy_from_slice(&floats(found));
            }
            if let Some(error) = rows.remove(&format!("{path}:error")) {
                errors.insert(path.clone(), error);
            }
        }
        if let Some(name) = rows.keys().next() {
            anyhow::bail!(
                "the checkpoint holds `{name}`, which this network does not have; it belongs to another configuration"
            );
        }
        if let Some(compression) = &mut loaded.compression {
            compression.restore_rows(errors)?;
        }
        let network = loaded.with_values(network, weights)?;
        Ok((network, loaded))
    }

    /// Number of updates applied.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The compression error of the last update: ‖ΣE − P·Qᵗ‖ ÷ ‖ΣE‖ over all matrices, where ΣE is what error buffers and gradients of all
    /// machines add up to; estimated from random vectors. None if nothing was compressed. All ranks call it.
    ///
    /// # Errors
    /// Communication failed.
    pub fn compression_error(&self) -> Result<Option<f64>> {
        let Some(compression) = self.compression.as_ref().filter(|_| self.compressed) else {
            return Ok(None);
        };
        let own = compression.left_and_sent(self.updates, &self.communicator)?;
        // Each machine adds the same.
        let own = own.map(|squares| squares as f32).to_vec();
        let sums = self.communicator.all_reduce(Group::World, own, Wire::F32).wait()?;
        let [left, sent] = [0, 1].map(|kind| f64::from(sums[kind]));
        let all = left + sent;
        // Infinite if a gradient was.
        Ok((all > 0.0 && all.is_finite()).then(|| (left / all).sqrt()))
    }

    /// Sums gradients over all ranks and applies an update. Returns the network and the global norm of the gradients before clipping. If
    /// the norm is not finite, nothing changes. All ranks call it with networks of the same weights.
    ///
    /// # Errors
    /// Communication failed.
    pub fn step<M: Module>(
        &mut self,
        network: M,
        mut gradients: Gradients,
        learning_rate: f64,
    ) -> Result<(M, f64)> {
        let dealt = self
            .layout
            .deal(|parameter| gradients.remove(&parameter.path).map(|gradient| floats(gradient.into_data())));
        let own = self.communicator.reduce_scatter(Group::Machine, dealt, Wire::F32).wait()?;
        let (own, squares) = self.sum_over_machines(own)?;
        let norm = global_norm(&self.communicator, squares, 0.0)?;
        if !norm.is_finite() {
            return Ok((network, norm));
        }
        self.updates += 1;
        let AdamWConfig { beta1, beta2, epsilon, weight_decay, clip, ewma } = self.config;
        let adamw = AdamW {
            beta1,
            beta2,
            epsilon,
            update: self.updates,
            learning_rate,
            weight_decay,
            clip: clip.map_or(1.0, |clip| (clip / norm).min(1.0)),
            max_variance: MAX_VARIANCE,
            ewma,
        };
        let mut weights = self.own_values(&network);
        let Self { mean, variance, average, decays, .. } = self;
        let (gradient, weight) = (&own[..], &mut weights[..]);
        update_flat(AdamWUpdate { adamw, gradient, weight, mean, variance, average }, decays);
        Ok((self.with_values(network, weights)?, norm))
    }

    /// The sums over machines of this rank's rows of the gradients, and the sum of their squares; infinite if one is not finite.
    fn sum_over_machines(&mut self, mut own: Vec<f32>) -> Result<(Vec<f32>, f64)> {
        let begun = Instant::now();
        let compresses = self.trial.as_ref().is_none_or(Trial::compresses_next);
        self.compressed = compresses && self.compression.is_some();
        let squares = match &mut self.compression {
            Some(compression) if compresses => compression.sum(&mut own, &self.communicator)?,
            _ => {
                own = self.communicator.all_reduce(Group::Peers, own, Wire::F32).wait()?;
                own.iter().map(|value| f64::from(*value).powi(2)).sum()
            }
        };
        let verdict = match &mut self.trial {
            Some(trial) => trial.add(begun.elapsed(), &self.communicator)?,
            None => None,
        };
        if let Some(Verdict { compressed, plain }) = verdict {
            self.trial = None;
            let pays = compressed < plain;
            if self.communicator.rank(Group::World) == 0 {
                log_line(format_args!(
                    "gradients between machines are {} from now on: {:.1} ms an update with PowerSGD, {:.1} ms without",
                    if pays { "compressed" } else { "not compressed" },
                    1e3 * compressed,
                    1e3 * plain,
                ));
            }
            if !pays && let Some(compression) = self.compression.take() {
                // What was not sent yet.
                compression.flush(&mut own, &self.communicator)?;
                let squares = own.iter().map(|value| f64::from(*value).powi(2)).sum();
                return Ok((own, squares));
            }
        }
        Ok((own, squares))
    }

    /// The network with averaged weights.
    ///
    /// # Errors
    /// Communication failed.
    pub fn averaged<M: Module>(&self, network: M) -> Result<M> {
        self.with_values(network, self.average.clone())
    }

    /// This rank's rows of the weights and of the state. All ranks call it.
    ///
    /// # Errors
    /// Communication failed.
    pub(crate) fn save<M: Module>(&self, network: &M) -> Result<Vec<SavedRows>> {
        let weights = self.own_values(network);
        let own = self.layout.own(self.communicator.rank(Group::Machine));
        let rows = own.flat_map(|own| {
            let all = [&weights, &self.mean, &self.variance, &self.average];
            let shape = [&[own.rows.len()], &own.parameter.shape[1..]].concat();
            std::iter::once("weight").chain(PARTS).zip(all).map(move |(part, all)| SavedRows {
                name: format!("{}:{part}", own.parameter.path),
                shape: shape.clone(),
                values: all[own.values.clone()].to_vec(),
            })
        });
        let mut rows: Vec<SavedRows> = rows.collect();
        if let Some(compression) = &self.compression {
            let errors = compression.errors(&self.communicator)?.into_iter();
            rows.extend(errors.map(|(path, shape, values)| SavedRows {
                name: format!("{path}:error"),
                shape: shape.to_vec(),
                values,
            }));
        }
        Ok(rows)
    }

    /// The values of this rank's rows in a network.
    fn own_values<M: Module>(&self, network: &M) -> Vec<f32> {
        let mut values = Vec::new();
        read_values(network, &mut values);
        let mut own = vec![0.0; self.layout.part()];
        let mut begin = 0;
        for rows in self.layout.own(self.communicator.rank(Group::Machine)) {
            let in_parameter = rows.in_parameter();
            own[rows.values].copy_from_slice(&values[begin..][in_parameter]);
            begin += rows.parameter.length();
        }
        own
    }

    /// The network with the values of all ranks, of which `own` are this rank's.
    fn with_values<M: Module>(&self, network: M, own: Vec<f32>) -> Result<M> {
        let all = self.communicator.gather_values(Group::Machine, own, Wire::F32).wait()?;
        ensure!(
            all.len() == self.layout.part() * self.communicator.size(Group::Machine),
            "values of all ranks"
        );
        let mut values = self.layout.collect(&all).into_iter();
        Ok(network.map(&mut Replace { values: &mut values, parameters: self.layout.parameters() }))
    }
}

/// Replaces the values of all parameters, in the network's order.
struct Replace<'a, V> {
    values: &'a mut V,
    parameters: &'a [SplitParameter],
}

impl<V: Iterator<Item = Vec<f32>>> ModuleMapper for Replace<'_, V> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (Some(values), Some((parameter, rest))) = (self.values.next(), self.parameters.split_first())
        else {
            return param;
        };
        self.parameters = rest;
        param.map(|old| {
            let (tracking, dtype) = (old.gradient_checkpointing_strategy(), old.dtype());
            let data = TensorData::new(values, parameter.shape.clone()).convert_dtype(dtype);
            tracked(Tensor::from_data(data, &old.device().without_autodiff()), tracking)
        })
    }
}

#[cfg(test)]
mod tests;
