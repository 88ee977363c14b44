//! The epilogue of a convolution: bias, activation and accumulation.

use pulp::Simd;

use crate::grid::{Grid, View};
use crate::simd::{gate, relu, vectors, vectors_mut};

/// The epilogue of a convolution, applied to its result. An empty bias means zeros.
#[derive(Clone, Copy, Debug)]
pub enum Finish<'a> {
    /// result + bias.
    Set(&'a [f32]),
    /// max(0, result + bias).
    Relu(&'a [f32]),
    /// result + bias + another map.
    Add(&'a [f32], View<'a>),
    /// result + bias, added to what is there.
    Accumulate(&'a [f32]),
    /// The result where a map of the output's layout is positive, else 0: the gradient of a ReLU.
    Gate(&'a [f32]),
    /// The same, added to what is there.
    AddGate(&'a [f32]),
    /// The sum of each tile's four results where this map of tiles is positive, else 0: the gradient of an upsampled ReLU.
    /// The output is a map of tiles. Of [`Convolution`](crate::winograd::Convolution) only.
    SumGate(&'a [f32]),
}

impl Finish<'_> {
    /// The bias of a channel, 0 beyond the last.
    #[inline(always)]
    pub fn bias(&self, channel: usize) -> f32 {
        match self {
            Finish::Set(bias) | Finish::Relu(bias) | Finish::Add(bias, _) | Finish::Accumulate(bias) => {
                bias.get(channel).copied().unwrap_or(0.0)
            }
            _ => 0.0,
        }
    }

    /// Stores the results, bias included, of `N` vectors of tiles of one channel and phase; `y` is the channel's map.
    #[inline(always)]
    pub fn store<S: Simd, const N: usize>(
        self,
        s: S,
        grid: &Grid,
        (channel, phase, tile): (usize, usize, usize),
        result: &[S::f32s; N],
        y: &mut [f32],
    ) {
        let at = phase * grid.plane + grid.front + tile;
        let mask = vectors::<S, N>(grid.mask(phase), tile);
        match self {
            Finish::Set(_) => {
                let y = vectors_mut::<S, N>(y, at);
                for n in 0..N {
                    y[n] = s.mul_f32s(result[n], mask[n]);
                }
            }
            Finish::Relu(_) => {
                let y = vectors_mut::<S, N>(y, at);
                for n in 0..N {
                    y[n] = s.mul_f32s(relu(s, result[n]), mask[n]);
                }
            }
            Finish::Add(_, other) => {
                let y = vectors_mut::<S, N>(y, at);
                let other = vectors::<S, N>(other.from(channel), phase * other.phase + grid.front + tile);
                for n in 0..N {
                    y[n] = s.mul_f32s(s.add_f32s(result[n], other[n]), mask[n]);
                }
            }
            Finish::Accumulate(_) => {
                let y = vectors_mut::<S, N>(y, at);
                for n in 0..N {
                    y[n] = s.mul_add_e_f32s(result[n], mask[n], y[n]);
                }
            }
            Finish::Gate(input) => {
                let y = vectors_mut::<S, N>(y, at);
                let input = vectors::<S, N>(input, channel * grid.channel() + at);
                for n in 0..N {
                    y[n] = gate(s, result[n], input[n]);
                }
            }
            Finish::AddGate(input) => {
                let y = vectors_mut::<S, N>(y, at);
                let input = vectors::<S, N>(input, channel * grid.channel() + at);
                for n in 0..N {
                    y[n] = s.add_f32s(y[n], gate(s, result[n], input[n]));
                }
            }
            Finish::SumGate(_) => unreachable!("a sum over phases is stored by `store_sum`"),
        }
    }
}
