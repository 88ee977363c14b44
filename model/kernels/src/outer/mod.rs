//! Gradients of kernels with many channels: sums over pixels of outer products of channels.
//!
//! With vectors along pixels ([`gradient`](crate::gradient)) each product of two channels ends in a sum across a vector, which
//! is most of the work where maps are small and channels many. Here one of the two maps is transposed, so that vectors run along
//! its channels and nothing is summed across them. A 3×3 kernel's gradient is computed in Winograd's domain, dg =
//! Gᵀ[(A dy Aᵀ) ⊙ (Bᵀ d B)]G: 16 products for each tile and pair of channels instead of 36.

mod kernel;
mod pointwise;
mod transpose;

pub use kernel::OuterGradient;
pub use pointwise::OuterPointwiseGradient;

use pulp::Simd;

use crate::grid::{Buffer, zeros};
use crate::simd::{vectors, vectors_mut};

/// Working memory of these kernels.
#[derive(Debug)]
pub struct OuterMemory {
    transposed: Buffer,
    lanes: Buffer,
    scalars: Buffer,
    sums: Buffer,
}

impl Default for OuterMemory {
    fn default() -> Self {
        let [transposed, lanes, scalars, sums] = [0; 4].map(zeros);
        Self { transposed, lanes, scalars, sums }
    }
}

/// Most vectors of channels, and of tiles, in work at once.
const VECTORS: usize = 3;

fn grow(buffer: &mut Buffer, length: usize) {
    if buffer.len() < length {
        *buffer = zeros(length);
    }
}

/// c += Σ aᵀ·b over rows of b: runs of `C` lines of `a`, `N` vectors of each row of `b` from a place on.
#[inline(always)]
fn products<S: Simd, const C: usize, const N: usize>(
    s: S,
    (a, a_line): (&[f32], usize),
    (b, b_row, b_at): (&[f32], usize, usize),
    runs: &[(usize, usize)],
    c: &mut [f32],
    c_row: usize,
) {
    let mut acc = [[s.splat_f32s(0.0); N]; C];
    for i in 0..C {
        acc[i] = *vectors::<S, N>(c, i * c_row);
    }
    let mut rows = b.chunks_exact(b_row);
    for &(from, length) in runs {
        let mut lines: [&[f32]; C] = [&[]; C];
        for i in 0..C {
            lines[i] = &a[i * a_line + from..][..length];
        }
        for t in 0..length {
            let Some(b) = rows.next() else { return };
            let b = vectors::<S, N>(b, b_at);
            for i in 0..C {
                let a = s.splat_f32s(lines[i][t]);
                for n in 0..N {
                    acc[i][n] = s.mul_add_e_f32s(b[n], a, acc[i][n]);
                }
            }
        }
    }
    for i in 0..C {
        *vectors_mut::<S, N>(c, i * c_row) = acc[i];
    }
}
