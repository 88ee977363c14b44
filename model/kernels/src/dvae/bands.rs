//! An image in bands of rows, one for each thread.
//!
//! A band's maps have a layout of their own. Where a whole map has border values of 0 above and below, a band's has copies of its
//! neighbours' rows: [`exchange`] refreshes them before a convolution reads them.

use std::sync::Mutex;

use crate::grid::{Buffer, Grid};

/// Layouts of a band's maps at the four resolutions, the greatest first.
pub(super) type Grids = [Grid; 4];

/// Operations that are worth a thread: with fewer, it would mostly wait for the others.
const FLOPS: u64 = 1_000_000_000;

/// Rows of pixels of a tile: a band has whole tiles at every resolution.
const ROWS: usize = 2;

/// Threads of this process.
pub(super) fn threads() -> usize {
    #[cfg(not(target_arch = "wasm32"))]
    return rayon::current_num_threads();
    #[cfg(target_arch = "wasm32")]
    1
}

/// At most `threads` bands for an image of `rows × columns` pixels at the smallest resolution, each of which takes `flops`
/// operations: those of an earlier image, or new ones.
pub(super) fn fitting<B: AsRef<Grids>>(
    free: &Mutex<Vec<Vec<B>>>,
    (rows, columns): (usize, usize),
    flops: u64,
    border: usize,
    threads: usize,
    band: impl Fn(Grids) -> B,
) -> Vec<B> {
    let worth = flops * (rows * columns) as u64 / FLOPS;
    let layouts = layouts(rows, columns, threads.min(worth as usize), border);
    let before = free.lock().ok().and_then(|mut free| free.pop());
    let fits = |bands: &Vec<B>| {
        let size = |grids: &Grids| (grids[3].height, grids[3].width);
        bands.len() == layouts.len()
            && bands.iter().zip(&layouts).all(|(band, grids)| size(band.as_ref()) == size(grids))
    };
    before.filter(fits).unwrap_or_else(|| layouts.into_iter().map(band).collect())
}

/// Layouts of at most `most` bands of about equally many rows, for an image of `rows × columns` pixels at the smallest
/// resolution. `border` is the greatest resolution's.
fn layouts(rows: usize, columns: usize, most: usize, border: usize) -> Vec<Grids> {
    let units = rows.div_ceil(ROWS);
    let count = most.clamp(1, units);
    let cut = |band: usize| (units * band / count * ROWS).min(rows);
    let band = |band: usize| {
        let height = cut(band + 1) - cut(band);
        std::array::from_fn(|level| {
            let factor = 8 >> level;
            Grid::new(1, factor * height, factor * columns, if level == 0 { border } else { 1 })
        })
    };
    (0..count).map(band).collect()
}

/// Does something with every band, each on a thread where there are threads.
pub(super) fn each<B: Send>(bands: &mut [B], work: impl Fn(&mut B) + Send + Sync) {
    #[cfg(not(target_arch = "wasm32"))]
    if bands.len() > 1 {
        use rayon::prelude::*;
        return bands.par_iter_mut().for_each(work);
    }
    bands.iter_mut().for_each(work);
}

/// The result of `work` for each item, in order; several at once where there are threads. `work` is told how many threads are left
/// for one item.
pub(super) fn all<T: Sync, R: Send>(items: &[T], work: impl Fn(&T, usize) -> R + Send + Sync) -> Vec<R> {
    let threads = (threads() / items.len().max(1)).max(1);
    #[cfg(not(target_arch = "wasm32"))]
    if items.len() > 1 {
        use rayon::prelude::*;
        return items.par_iter().map(|item| work(item, threads)).collect();
    }
    items.iter().map(|item| work(item, threads)).collect()
}

/// Copies the rows of a map that border on other bands to them. `phases` is 4, or 1 for a map of tiles.
pub(super) fn exchange<B>(
    bands: &mut [B],
    phases: usize,
    grid: impl Fn(&B) -> &Grid,
    map: impl Fn(&mut B) -> &mut Buffer,
) {
    for below in 1..bands.len() {
        let (above, below) = bands.split_at_mut(below);
        let (Some(above), Some(below)) = (above.last_mut(), below.first_mut()) else { return };
        let places = |grid: &Grid| {
            let rows = grid.height.div_ceil(2) * grid.stride;
            let border = (grid.rows - grid.height.div_ceil(2)) * grid.stride;
            (grid.plane, grid.front, rows, border)
        };
        let (upper, upper_front, rows, border) = places(grid(above));
        let (lower, lower_front, ..) = places(grid(below));
        let (above, below) = (map(above), map(below));
        debug_assert_eq!(above.len() / upper, below.len() / lower, "as many channels");
        debug_assert_eq!(above.len() / upper % phases, 0, "whole channels");
        for (above, below) in above.chunks_exact_mut(upper).zip(below.chunks_exact_mut(lower)) {
            let end = upper_front + rows;
            below[lower_front - border..lower_front].copy_from_slice(&above[end - border..end]);
            above[end..end + border].copy_from_slice(&below[lower_front..lower_front + border]);
        }
    }
}
