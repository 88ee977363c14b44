//! Products of a few rows with a large matrix, as sampling has them: a weight is read from memory once for all rows.
//!
//! Rows lie in *tiles* of 64 columns: `[tiles, rows, 64]`, the last tile padded with zeros. So the columns that a thread computes
//! are one slice, and the result of one product is the input of the next without being copied. The matrix lies in panels of 64
//! columns, `[panels, k, 64]`, and is read in order, whatever the vectors.

use std::hint::black_box;

use aligned_vec::{AVec, ConstAlign, avec};
use pulp::{Simd, WithSimd};

use crate::grid::{Buffer, zeros};
use crate::simd::{roomy, vectors, vectors_mut};
use crate::storage::{F16_SCALE, Storage};

/// Columns of a tile and of a panel.
pub const TILE: usize = 64;

/// Columns of half a panel. In 16 bits a word holds a column of the first half and, above it, that of the second half.
const HALF: usize = TILE / 2;

/// Bytes of a page of memory on most systems.
const PAGE: usize = 4096;

/// Two 16-bit values.
type Words = AVec<u32, ConstAlign<64>>;

/// Values of `rows` rows of `columns` columns in tiles.
pub fn tiles(rows: usize, columns: usize) -> usize {
    rows * columns.next_multiple_of(TILE)
}

/// A matrix `[k, n]` in panels.
#[derive(Clone, Debug)]
pub struct Matrix {
    values: Values,
    k: usize,
    n: usize,
}

#[derive(Clone, Debug)]
enum Values {
    F32(Buffer),
    Bf16(Words),
    F16(Words),
}

impl Matrix {
    /// The matrix `w`, `[k, n]`.
    ///
    /// # Panics
    /// If `w` is of another size.
    pub fn new(w: &[f32], k: usize, n: usize, storage: Storage) -> Self {
        assert_eq!(w.len(), k * n, "a matrix of another size");
        let panels = n.div_ceil(TILE);
        let values = match storage {
            Storage::F32 => {
                let mut values = zeros(panels * k * TILE);
                for (panel, rows) in values.chunks_exact_mut((k * TILE).max(1)).enumerate() {
                    for (row, w) in rows.chunks_exact_mut(TILE).zip(w.chunks_exact(n)) {
                        let w = &w[panel * TILE..n.min((panel + 1) * TILE)];
                        row[..w.len()].copy_from_slice(w);
                    }
                }
                Values::F32(values)
            }
            Storage::Bf16 | Storage::F16 => {
                let mut words: Words = avec![[64] | 0; panels * k * HALF];
                for (panel, rows) in words.chunks_exact_mut((k * HALF).max(1)).enumerate() {
                    for (row, w) in rows.chunks_exact_mut(HALF).zip(w.chunks_exact(n)) {
                        for (column, w) in w.iter().skip(panel * TILE).take(TILE).enumerate() {
                            row[column % HALF] |=
                                u32::from(storage.narrow(*w)) << (if column < HALF { 0 } else { 16 });
                        }
                    }
                }
                if storage == Storage::F16 { Values::F16(words) } else { Values::Bf16(words) }
            }
        };
        Self { values, k, n }
    }

    /// Rows.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Bytes that a product reads.
    pub fn bytes(&self) -> usize {
        match &self.values {
            Values::F32(values) => size_of_val(values.as_slice()),
            Values::Bf16(words) | Values::F16(words) => size_of_val(words.as_slice()),
        }
    }
}

/// y += a · w for some panels of w, to be dispatched.
///
/// The sum of a row is the same whatever other rows are computed with it.
pub struct Skinny<'a> {
    /// The left matrix in tiles.
    pub a: &'a [f32],
    /// Its rows.
    pub rows: usize,
    /// The right matrix.
    pub w: &'a Matrix,
    /// The first panel.
    pub first: usize,
    /// The tiles of the sum that belong to the panels from `first` on.
    pub y: &'a mut [f32],
}

impl WithSimd for Skinny<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { a, rows, w, first, y } = self;
        match &w.values {
            Values::F32(values) => panels::<S, Single>(s, a, rows, w.k, &values[first * w.k * TILE..], y),
            Values::Bf16(words) => panels::<S, Upper>(s, a, rows, w.k, &words[first * w.k * HALF..], y),
            Values::F16(words) => panels::<S, Half>(s, a, rows, w.k, &words[first * w.k * HALF..], y),
        }
    }
}

/// How a row of a panel lies in memory.
trait Layout {
    type Word: Copy;
    /// Words of a row.
    const WORDS: usize;

    /// `M` vectors from vector `at` on of both halves of a row.
    fn load<S: Simd, const M: usize>(s: S, row: &[Self::Word], at: usize) -> [[S::f32s; M]; 2];

    /// The bits of a word.
    fn bits(word: &Self::Word) -> u32;
}

/// f32.
struct Single;
/// bf16: the upper half of f32.
struct Upper;
/// f16.
struct Half;

impl Layout for Single {
    type Word = f32;
    const WORDS: usize = TILE;

    #[inline(always)]
    fn load<S: Simd, const M: usize>(_: S, row: &[f32], at: usize) -> [[S::f32s; M]; 2] {
        let at = at * S::F32_LANES;
        [*vectors::<S, M>(row, at), *vectors::<S, M>(row, HALF + at)]
    }

    #[inline(always)]
    fn bits(word: &f32) -> u32 {
        word.to_bits()
    }
}

/// `M` vectors of words.
#[inline(always)]
fn words<S: Simd, const M: usize>(row: &[u32], at: usize) -> &[S::u32s; M] {
    let (vectors, _) = S::as_simd_u32s(&row[at * S::F32_LANES..(at + M) * S::F32_LANES]);
    vectors.first_chunk().expect("the slice holds M vectors")
}

impl Layout for Upper {
    type Word = u32;
    const WORDS: usize = HALF;

    #[inline(always)]
    fn load<S: Simd, const M: usize>(s: S, row: &[u32], at: usize) -> [[S::f32s; M]; 2] {
        let mut halves = [[s.splat_f32s(0.0); M]; 2];
        let words = words::<S, M>(row, at);
        for m in 0..M {
            halves[0][m] = s.transmute_f32s_u32s(s.wrapping_dyn_shl_u32s(words[m], s.splat_u32s(16)));
            halves[1][m] = s.transmute_f32s_u32s(s.and_u32s(words[m], s.splat_u32s(0xffff_0000)));
        }
        halves
    }

    #[inline(always)]
    fn bits(word: &u32) -> u32 {
        *word
    }
}

/// The f16 in the upper half of each word, which must be finite.
#[inline(always)]
fn widen<S: Simd>(s: S, word: S::u32s) -> S::f32s {
    let magnitude = s.and_u32s(s.wrapping_dyn_shr_u32s(word, s.splat_u32s(3)), s.splat_u32s(0x0fff_e000));
    let sign = s.and_u32s(word, s.splat_u32s(0x8000_0000));
    s.mul_f32s(s.transmute_f32s_u32s(s.or_u32s(magnitude, sign)), s.splat_f32s(F16_SCALE))
}

impl Layout for Half {
    type Word = u32;
    const WORDS: usize = HALF;

    #[inline(always)]
    fn load<S: Simd, const M: usize>(s: S, row: &[u32], at: usize) -> [[S::f32s; M]; 2] {
        let mut halves = [[s.splat_f32s(0.0); M]; 2];
        let words = words::<S, M>(row, at);
        for m in 0..M {
            halves[0][m] = widen(s, s.wrapping_dyn_shl_u32s(words[m], s.splat_u32s(16)));
            halves[1][m] = widen(s, words[m]);
        }
        halves
    }

    #[inline(always)]
    fn bits(word: &u32) -> u32 {
        *word
    }
}

#[inline(always)]
fn panels<S: Simd, L: Layout>(s: S, a: &[f32], rows: usize, k: usize, w: &[L::Word], y: &mut [f32]) {
    for (panel, y) in y.chunks_exact_mut(rows * TILE).enumerate() {
        // The part of a panel that belongs to a tile of `a` stays in the first cache for all rows.
        for (tile, a) in a.chunks_exact(rows * TILE).enumerate() {
            let mut w =
                Part { words: &w[(panel * k + tile * TILE) * L::WORDS..], rows: TILE.min(k - tile * TILE) };
            let mut row = 0;
            while row < rows {
                row += match rows - row {
                    1 => group::<S, L, 1>(s, a, row, w, y),
                    2 => group::<S, L, 2>(s, a, row, w, y),
                    3 => group::<S, L, 3>(s, a, row, w, y),
                    4 | 5 => group::<S, L, 4>(s, a, row, w, y),
                    _ => group::<S, L, 6>(s, a, row, w, y),
                };
                // The first group has fetched what follows.
                w.words = &w.words[..w.rows * L::WORDS];
            }
        }
    }
}

/// A part of a panel, and what follows it in memory.
#[derive(Clone, Copy)]
struct Part<'a, W> {
    words: &'a [W],
    rows: usize,
}

/// `C` rows of a tile. Returns `C`.
#[inline(always)]
fn group<S: Simd, L: Layout, const C: usize>(
    s: S,
    a: &[f32],
    row: usize,
    w: Part<'_, L::Word>,
    y: &mut [f32],
) -> usize {
    let a: &[[f32; TILE]; C] = a.as_chunks().0[row..].first_chunk().expect("rows of a tile");
    let y: &mut [[f32; TILE]; C] = y.as_chunks_mut().0[row..].first_chunk_mut().expect("rows of a tile");
    let vectors = HALF / S::F32_LANES;
    // As many sums as there are registers for.
    if roomy::<S>() || C <= 3 {
        for at in (0..vectors).step_by(2) {
            block::<S, L, C, 2>(s, a, w, at, y);
        }
    } else {
        for at in 0..vectors {
            block::<S, L, C, 1>(s, a, w, at, y);
        }
    }
    C
}

#[inline(always)]
fn block<S: Simd, L: Layout, const C: usize, const M: usize>(
    s: S,
    a: &[[f32; TILE]; C],
    w: Part<'_, L::Word>,
    at: usize,
    y: &mut [[f32; TILE]; C],
) {
    let lanes = at * S::F32_LANES;
    let mut sums = [[[s.splat_f32s(0.0); M]; 2]; C];
    for c in 0..C {
        sums[c] = [*vectors::<S, M>(&y[c], lanes), *vectors::<S, M>(&y[c], HALF + lanes)];
    }
    let (page, mut touched) = (PAGE / size_of::<L::Word>(), 0);
    for (index, rows) in w.words[..w.rows * L::WORDS].chunks(page).enumerate() {
        // The next page, before it is needed: processors do not prefetch across pages.
        touched ^= w.words.get((index + 1) * page).map_or(0, L::bits);
        for (j, row) in rows.chunks_exact(L::WORDS).enumerate() {
            let j = index * (page / L::WORDS) + j;
            let b = L::load::<S, M>(s, row, at);
            for c in 0..C {
                let a = s.splat_f32s(a[c][j % TILE]);
                for half in 0..2 {
                    for m in 0..M {
                        sums[c][half][m] = s.mul_add_e_f32s(b[half][m], a, sums[c][half][m]);
                    }
                }
            }
        }
    }
    black_box(touched);
    for c in 0..C {
        *vectors_mut::<S, M>(&mut y[c], lanes) = sums[c][0];
        *vectors_mut::<S, M>(&mut y[c], HALF + lanes) = sums[c][1];
    }
}
