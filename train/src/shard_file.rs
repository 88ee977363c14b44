//! Files with the rows of one of several ranks, in a checkpoint.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use dalle_model::weights::WeightsError;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::shards::SavedRows;

/// The weights and the optimizer's state of all ranks, as one rank writes them, and the error buffers.
pub(crate) fn joined(shards: &[Vec<u8>]) -> Result<[Vec<u8>; 3]> {
    let shards = shards.iter().map(|shard| SafeTensors::deserialize(shard)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = shards.first() else { bail!("no shards") };
    /// Shape and bytes of each tensor.
    type Tensors = BTreeMap<String, (Vec<usize>, Vec<u8>)>;
    let mut tensors: [Tensors; 3] = Default::default();
    for name in first.names() {
        let (mut shape, mut bytes) = (Vec::new(), Vec::new());
        // A rank without rows of a matrix has no error buffer of it.
        for rows in shards.iter().filter_map(|shard| shard.tensor(name).ok()) {
            match shape.first_mut() {
                Some(sum) => *sum += rows.shape().first().copied().unwrap_or_default(),
                None => shape = rows.shape().to_vec(),
            }
            bytes.extend_from_slice(rows.data());
        }
        let (kind, path) = match name.rsplit_once(':') {
            Some((path, "weight")) => (0, path),
            Some((path, "error")) => (2, path),
            _ => (1, name),
        };
        if kind == 1 {
            // Flat, as one rank's are.
            shape = vec![shape.iter().product()];
        }
        tensors[kind].insert(path.to_owned(), (shape, bytes));
    }
    let [weights, optimizer, errors] = tensors.map(|tensors| {
        let views = tensors.iter().map(|(name, (shape, bytes))| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
        });
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        safetensors::serialize(views, None)
    });
    Ok([weights?, optimizer?, errors?])
}

/// The name of a file with the rows of one of several ranks.
#[derive(Clone, Copy, Debug)]
pub struct ShardName {
    /// Number of the rank on its machine.
    pub rank: usize,
    /// Ranks of the machine.
    pub ranks: usize,
}

impl std::fmt::Display for ShardName {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "shard-{:03}-of-{:03}.safetensors", self.rank, self.ranks)
    }
}

/// The content of a file with a rank's rows.
///
/// # Errors
/// A value of the weights is not finite.
pub(crate) fn shard_file(rows: &[SavedRows]) -> Result<Vec<u8>> {
    let bytes: Vec<Vec<u8>> =
        rows.iter().map(|rows| rows.values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let mut views = Vec::with_capacity(rows.len());
    for (rows, bytes) in rows.iter().zip(&bytes) {
        if rows.values.iter().any(|value| !value.is_finite()) {
            return Err(WeightsError::NotFinite(rows.name.clone()).into());
        }
        views.push((rows.name.as_str(), TensorView::new(Dtype::F32, rows.shape.clone(), bytes)?));
    }
    Ok(safetensors::serialize(views, None)?)
}
