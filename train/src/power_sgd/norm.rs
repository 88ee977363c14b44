//! The norm of all gradients of an update.

use dalle_comm::{Communicator, Failure, Group};

/// The global norm of an update's gradients, the same bits on all ranks.
///
/// `sharded` is the sum of squares of what this rank alone of its machine holds, infinite if any of it was not finite; `whole` that of what
/// every rank holds. The norm is infinite if any rank's is: then the update is skipped by all.
///
/// # Errors
/// Communication failed.
pub fn global_norm(communicator: &Communicator, sharded: f64, whole: f64) -> Result<f64, Failure> {
    let own = [sharded, whole].map(f64::to_le_bytes).concat();
    let all = communicator.all_gather(Group::World, own).wait()?;
    let (all, _) = all.as_chunks::<16>();
    let values = |rank: usize| {
        let (words, _) = all[rank].as_chunks::<8>();
        (f64::from_le_bytes(words[0]), f64::from_le_bytes(words[1]))
    };
    if (0..all.len()).map(values).any(|(sharded, whole)| !(sharded + whole).is_finite()) {
        return Ok(f64::INFINITY);
    }
    // All machines hold the same.
    let machine = communicator.layout().members(Group::Machine);
    let sharded: f64 = machine.iter().map(|rank| values(*rank).0).sum();
    Ok((sharded + values(machine[0]).1).sqrt())
}
