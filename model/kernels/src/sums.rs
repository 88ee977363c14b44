//! Gradients of a batch, whatever the number of threads.

use rayon::prelude::*;

/// Sums of gradients that are added to independently, and then to each other in order. Examples are dealt out to them, so the
/// result does not depend on the number of threads.
pub(crate) const SUMS: usize = 8;

/// Adds up gradients in order.
pub(crate) fn add(parts: &[Vec<f32>], sum: &mut [f32]) {
    const RANGE: usize = 1 << 14;
    sum.par_chunks_mut(RANGE).enumerate().for_each(|(range, sum)| {
        sum.copy_from_slice(&parts[0][range * RANGE..][..sum.len()]);
        for part in &parts[1..] {
            for (sum, part) in sum.iter_mut().zip(&part[range * RANGE..]) {
                *sum += part;
            }
        }
    });
}
