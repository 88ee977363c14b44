//! What the tests of all transports share.

use dalle_comm::{Communicator, Failure, Group, Wire};

/// Numbers that look random: the same for the same seed.
pub fn numbers(count: usize, seed: usize) -> Vec<f32> {
    let mut state = (seed as u32).wrapping_mul(2_654_435_761) ^ 0x9e37_79b9;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    (0..count)
        .map(|_| (next() as f32 / u32::MAX as f32 - 0.5) * 2f32.powi((next() % 12) as i32 - 8))
        .collect()
}

/// Every collective in every group and format, with several lengths: all that came of them, as bytes.
pub fn everything(communicator: &Communicator) -> Result<Vec<u8>, Failure> {
    let rank = communicator.rank(Group::World);
    let mut results = Vec::new();
    let mut keep = |values: Vec<f32>| results.extend(values.into_iter().flat_map(f32::to_le_bytes));
    for group in Group::ALL {
        for length in [0, 1, 2, 7, 64, 1000, 4099] {
            for wire in Wire::ALL {
                // Called first and waited for last: results come in order.
                let values = numbers(length, 17 * length + rank);
                let sums = communicator.all_reduce(group, values.clone(), wire);
                let share = communicator.reduce_scatter(group, values.clone(), wire);
                let own = values[..length.min(3 * rank + 5)].to_vec();
                let gathered = communicator.gather_values(group, own, wire);
                keep(sums.wait()?);
                keep(share.wait()?);
                keep(gathered.wait()?);
            }
        }
    }
    for group in Group::ALL {
        let (own, size) = (communicator.rank(group), communicator.size(group));
        communicator.barrier(group).wait()?;
        for root in 0..size {
            let bytes = vec![(rank + root) as u8; 100 + 999 * root];
            results.extend(communicator.broadcast(group, root, bytes).wait()?);
        }
        results.extend(communicator.all_gather(group, vec![rank as u8; 3 * own]).wait()?);
        let parts = (0..size).flat_map(|to| vec![(10 * rank + to) as u8; 1234]).collect();
        results.extend(communicator.all_to_all(group, parts).wait()?);
    }
    Ok(results)
}

/// A hash of bytes (FNV-1a), to be printed.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
