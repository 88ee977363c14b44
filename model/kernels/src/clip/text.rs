//! The tower of captions: causal attention, and the feature at the end token.

use super::network::ClipNetwork;
use super::tower::{Tower, TowerMemory};
use crate::transformer::attention::Group;
use crate::transformer::memory::StackWork;

/// Where the rows begin whose sum is each slot's embedding: the start token, the ids, the end token.
fn rows(network: &ClipNetwork, ids: &[u32]) -> Vec<[usize; 2]> {
    let (d, vocab) = (network.sizes.text_tower.width, network.sizes.text_vocab);
    let ids = ids.iter().map(|id| *id as usize);
    let tokens = std::iter::once(vocab).chain(ids).chain([vocab + 1]);
    tokens.enumerate().map(|(slot, id)| [network.token + id * d, network.text_position + slot * d]).collect()
}

/// The feature of a caption.
pub(super) fn forward(
    network: &ClipNetwork,
    tower: Tower<'_>,
    ids: &[u32],
    groups: &[Group],
    (memory, work): (&mut TowerMemory, &mut StackWork),
    feature: &mut [f32],
) {
    let d = tower.sizes.width;
    let rows = rows(network, ids);
    for ([token, position], x) in rows.iter().zip(memory.stack.input().chunks_exact_mut(d)) {
        let (token, position) = (&tower.parameters[*token..][..d], &tower.parameters[*position..][..d]);
        for ((x, token), position) in x.iter_mut().zip(token).zip(position) {
            *x = token + position;
        }
    }
    tower.forward(memory, (rows.len(), rows.len() - 1), groups, work, feature);
}

/// Adds the gradients of all parameters.
pub(super) fn backward(
    network: &ClipNetwork,
    tower: Tower<'_>,
    ids: &[u32],
    groups: &[Group],
    (memory, work): (&mut TowerMemory, &mut StackWork),
    d_feature: &[f32],
    gradients: &mut [f32],
) {
    let d = tower.sizes.width;
    let rows = rows(network, ids);
    tower.backward(memory, (rows.len(), rows.len() - 1), groups, work, d_feature, gradients);
    for (tables, dx) in rows.iter().zip(work.dx.chunks_exact(d)) {
        for table in tables {
            for (gradient, dx) in gradients[*table..][..d].iter_mut().zip(dx) {
                *gradient += dx;
            }
        }
    }
}
