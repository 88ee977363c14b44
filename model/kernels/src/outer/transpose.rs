//! Maps with channels along the rows.

use pulp::Simd;

use super::grow;
use crate::grid::{Buffer, UNIT};
use crate::simd::{load, vectors_mut};

/// Channels that are transposed at once.
const STEP: usize = 4;

/// Whether [`Simd::deinterleave_shfl_f32s`] of four vectors transposes each four values of them; its order is the instruction
/// set's.
#[inline(always)]
fn transposes<S: Simd>(s: S) -> bool {
    if S::F32_LANES < STEP {
        return false;
    }
    let mut lines = [[0.0; UNIT]; STEP];
    for (i, value) in lines.as_flattened_mut().iter_mut().enumerate() {
        *value = i as f32;
    }
    let mut columns = [[0.0; UNIT]; STEP];
    transpose_four(s, &lines, &mut columns);
    (0..STEP * S::F32_LANES).all(|i| {
        let (column, line) = (i / STEP, i % STEP);
        columns[column % STEP][column / STEP * STEP + line] == lines[line][column]
    })
}

/// Four vectors' values, of the first lanes of four lines: column 4·i + k becomes the values from 4·i on of line k.
#[inline(always)]
fn transpose_four<S: Simd>(s: S, lines: &[[f32; UNIT]; STEP], columns: &mut [[f32; UNIT]; STEP]) {
    let mut v = [s.splat_f32s(0.0); STEP];
    for i in 0..STEP {
        v[i] = load::<S>(&lines[i], 0);
    }
    let v = s.deinterleave_shfl_f32s(v);
    for i in 0..STEP {
        vectors_mut::<S, 1>(&mut columns[i], 0)[0] = v[i];
    }
}

/// Copies `channels` channels of `length` values, `distance` apart, to `[length, channels]`, each row padded to whole units.
#[inline(always)]
pub(super) fn transpose<S: Simd>(
    s: S,
    x: &[f32],
    (distance, channels, length): (usize, usize, usize),
    relu: bool,
    y: &mut Buffer,
) -> usize {
    let row = channels.next_multiple_of(UNIT);
    grow(y, length * row);
    let lowest = if relu { 0.0 } else { f32::NEG_INFINITY };
    let lanes = if transposes(s) { S::F32_LANES } else { 1 };
    let whole = if lanes > 1 { channels - channels % STEP } else { 0 };
    for from in (0..length).step_by(UNIT) {
        let y = &mut y[from * row..(from + UNIT) * row];
        for channel in (0..whole).step_by(STEP) {
            for part in (0..UNIT).step_by(S::F32_LANES) {
                let mut lines = [[0.0; UNIT]; STEP];
                for i in 0..STEP {
                    let line = &x[(channel + i) * distance + from + part..][..S::F32_LANES];
                    for (to, value) in lines[i].iter_mut().zip(line) {
                        *to = value.max(lowest);
                    }
                }
                let mut columns = [[0.0; UNIT]; STEP];
                transpose_four(s, &lines, &mut columns);
                for (i, y) in y[part * row..(part + S::F32_LANES) * row].chunks_exact_mut(row).enumerate() {
                    y[channel..channel + STEP].copy_from_slice(&columns[i % STEP][i / STEP * STEP..][..STEP]);
                }
            }
        }
        for channel in whole..channels {
            let line = &x[channel * distance + from..][..UNIT];
            for (value, y) in line.iter().zip(y.chunks_exact_mut(row)) {
                y[channel] = value.max(lowest);
            }
        }
    }
    row
}
