//! The optimizer of a run: whole if one rank trains, split over ranks if several do.

use anyhow::Result;
use dalle_comm::Group;
use dalle_model::burn::module::Module;

use crate::checkpoint::Newest;
use crate::gradients::Gradients;
use crate::optimizer::{AdamW, AdamWConfig};
use crate::ranks::Ranks;
use crate::run_folder::RunFolder;
use crate::run_state::RunState;
use crate::shard_file::{ShardName, shard_file};
use crate::shards::{Compress, ShardedAdamW};

/// The optimizer of a rank.
pub(crate) enum RunOptimizer {
    /// That of the only rank.
    Whole(AdamW),
    /// That of one of several ranks.
    Rows(Box<ShardedAdamW>),
}

impl RunOptimizer {
    /// A new optimizer of a network, whose weights are the same on all ranks.
    pub fn new<M: Module>(
        config: AdamWConfig,
        compression: Option<Compress>,
        ranks: &Ranks,
        network: &M,
    ) -> Self {
        match ranks.others() {
            None => Self::Whole(AdamW::new(config)),
            Some(others) => {
                Self::Rows(Box::new(ShardedAdamW::new(config, compression, others.clone(), network)))
            }
        }
    }

    /// The state, network and optimizer of a checkpoint.
    pub fn restore<M: Module>(
        checkpoint: Newest,
        (config, compression): (AdamWConfig, Option<Compress>),
        ranks: &Ranks,
        fresh: M,
    ) -> Result<(RunState, M, Self)> {
        let settings = (config, compression);
        let (state, network, optimizer) = match (checkpoint, ranks.others()) {
            (Newest::Whole(checkpoint), None) => {
                let (state, network, optimizer) = checkpoint.restore(config, fresh)?;
                return Ok((state, network, Self::Whole(optimizer)));
            }
            (Newest::Whole(checkpoint), Some(others)) => checkpoint.restore_rows(settings, others, fresh)?,
            (Newest::Own(own), Some(others)) => own.restore(settings, others, fresh)?,
            (Newest::Own(_), None) => unreachable!("only one of several ranks has rows"),
        };
        Ok((state, network, Self::Rows(Box::new(optimizer))))
    }

    /// Number of updates applied.
    pub fn updates(&self) -> u64 {
        match self {
            Self::Whole(optimizer) => optimizer.updates(),
            Self::Rows(optimizer) => optimizer.updates(),
        }
    }

    /// Applies an update with the sum over ranks of their gradients. Returns the network and the global norm of the gradients before
    /// clipping. If the norm is not finite, nothing changes.
    pub fn step<M: Module>(
        &mut self,
        network: M,
        gradients: Gradients,
        learning_rate: f64,
    ) -> Result<(M, f64)> {
        match self {
            Self::Whole(optimizer) => Ok(optimizer.step(network, gradients, learning_rate)),
            Self::Rows(optimizer) => optimizer.step(network, gradients, learning_rate),
        }
    }

    /// The compression error of the last update, if its gradients were compressed. All ranks call it.
    pub fn compression_error(&self) -> Result<Option<f64>> {
        match self {
            Self::Whole(_) => Ok(None),
            Self::Rows(optimizer) => optimizer.compression_error(),
        }
    }

    /// The network with averaged weights. All ranks call it.
    pub fn averaged<M: Module>(&self, network: M) -> Result<M> {
        match self {
            Self::Whole(optimizer) => Ok(optimizer.averaged(network)),
            Self::Rows(optimizer) => optimizer.averaged(network),
        }
    }

    /// Writes a checkpoint. All ranks call it.
    pub fn save<M: Module>(
        &self,
        folder: &RunFolder,
        state: &RunState,
        network: &M,
        ranks: &Ranks,
    ) -> Result<()> {
        match (self, ranks.others()) {
            (Self::Rows(optimizer), Some(others)) => {
                let name =
                    ShardName { rank: others.rank(Group::Machine), ranks: others.size(Group::Machine) };
                // Machines hold the same.
                let first = others.rank(Group::Peers) == 0;
                let rows = optimizer.save(network)?;
                let shard = first.then(|| shard_file(&rows).map(|content| (name, content)));
                folder.save_rows(state, ranks, shard.transpose()?)
            }
            (Self::Whole(optimizer), _) => folder.save(state, network, optimizer),
            (Self::Rows(_), None) => unreachable!("only one of several ranks has rows"),
        }
    }
}
