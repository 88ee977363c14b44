//! An image in bands of rows, one for each thread.
//!
//! A band's maps have a layout of their own. Where a whole map has border values of 0 above and below, a band's has copies of its
//! neighbours' rows. The step that writes a map sends the rows at its edges ([`Edges::send`]), and the next step receives them
//! ([`Edges::receive`]) before a convolution reads the map.

use std::cell::Cell;
use std::sync::Mutex;

use super::team::{Member, Turn, lock, together};
use crate::grid::{Buffer, Grid, zeros};

/// Layouts of a band's maps at the four resolutions, the greatest first.
pub(super) type Grids = [Grid; 4];

/// Operations that are worth a thread. With fewer, its steps are too short for what bands compute twice and for waiting.
const FLOPS: u64 = 300_000_000;

/// Rows of pixels of a tile: a band has whole tiles at every resolution.
const ROWS: usize = 2;

/// Threads of this process.
pub(super) fn threads() -> usize {
    #[cfg(not(target_arch = "wasm32"))]
    return rayon::current_num_threads();
    #[cfg(target_arch = "wasm32")]
    1
}

/// The bands of an image, each with working memory `B`.
#[derive(Debug)]
pub(super) struct Bands<B> {
    bands: Vec<Mutex<B>>,
    /// What each band sends, in even and in odd steps: a neighbour may still receive the rows of one step while those of the next
    /// are sent.
    sent: Vec<[Sent; 2]>,
}

/// The rows at a band's upper and lower edge.
#[derive(Debug, Default)]
struct Sent {
    upper: Mutex<Vec<f32>>,
    lower: Mutex<Vec<f32>>,
}

/// At most `threads` bands for an image of `rows × columns` pixels at the smallest resolution, each of which takes `flops`
/// operations: those of an earlier image, or new ones. `border` is the greatest resolution's.
pub(super) fn fitting<B: AsRef<Grids>>(
    free: &Mutex<Vec<Bands<B>>>,
    (rows, columns): (usize, usize),
    flops: u64,
    border: usize,
    threads: usize,
    band: impl Fn(Grids) -> B,
) -> Bands<B> {
    let heights = heights((rows, columns), flops, threads);
    let before = lock(free).pop();
    let fits = |bands: &Bands<B>| {
        let size = |band: &Mutex<B>| {
            let band = lock(band);
            let grid = &band.as_ref()[3];
            (grid.height, grid.width)
        };
        bands.bands.iter().map(size).eq(heights.iter().map(|height| (*height, columns)))
    };
    before.filter(fits).unwrap_or_else(|| Bands {
        bands: heights
            .iter()
            .map(|height| Mutex::new(band(layouts(*height, columns, border, Grid::new))))
            .collect(),
        sent: heights.iter().map(|_| Default::default()).collect(),
    })
}

/// Heights of at most `threads` bands of about equally many rows.
fn heights((rows, columns): (usize, usize), flops: u64, threads: usize) -> Vec<usize> {
    let worth = flops * (rows * columns) as u64 / FLOPS;
    let units = rows.div_ceil(ROWS);
    let count = threads.min(worth as usize).clamp(1, units);
    let cut = |band: usize| (units * band / count * ROWS).min(rows);
    (0..count).map(|band| cut(band + 1) - cut(band)).collect()
}

/// Layouts of a band of `height × columns` pixels at the smallest resolution.
fn layouts(
    height: usize,
    columns: usize,
    border: usize,
    grid: fn(usize, usize, usize, usize) -> Grid,
) -> Grids {
    std::array::from_fn(|level| {
        let factor = 8 >> level;
        grid(1, factor * height, factor * columns, if level == 0 { border } else { 1 })
    })
}

/// Allocates a buffer of some values.
pub(super) type Allocate<'a> = &'a dyn Fn(usize) -> Buffer;

/// Values of the bands that [`all`] allocates for `images` images of one size: `band` makes one with a function that allocates its
/// buffers. Nothing is allocated.
pub(super) fn values<B>(
    (rows, columns): (usize, usize),
    flops: u64,
    border: usize,
    (images, threads): (usize, usize),
    band: impl Fn(Grids, Allocate<'_>) -> B,
) -> usize {
    let values = Cell::new(0);
    for height in heights((rows, columns), flops, threads_of_each(images, threads)) {
        let grids = layouts(height, columns, border, Grid::without_mask);
        values.set(values.get() + grids.iter().map(Grid::mask_values).sum::<usize>());
        band(grids, &|length| {
            values.set(values.get() + length);
            zeros(0)
        });
    }
    values.get() * images.min(threads)
}

/// Threads for each of some images.
fn threads_of_each(images: usize, threads: usize) -> usize {
    (threads / images.max(1)).max(1)
}

impl<B> Bands<B> {
    /// Calls `steps` on a thread for each band, where there are threads. See [`together`].
    pub fn run(&self, steps: impl Fn(&mut BandSteps<'_, '_, B>) + Sync)
    where
        B: Send,
    {
        together(&self.bands, |member| steps(&mut BandSteps { member, sent: &self.sent }));
    }

    /// The bands, from the top.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut B> {
        self.bands.iter_mut().map(|band| band.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

/// A thread's steps through an image.
pub(super) struct BandSteps<'a, 'b, B> {
    member: &'a mut Member<'b, B>,
    sent: &'a [[Sent; 2]],
}

impl<B> BandSteps<'_, '_, B> {
    /// A step: does something with every band.
    pub fn each(&mut self, work: impl Fn(&mut B, Edges<'_>)) {
        let sent = self.sent;
        self.member.each(|Turn { band, number, step }| work(band, Edges { sent, number, step }));
    }
}

/// A band's neighbours in a step.
#[derive(Clone, Copy)]
pub(super) struct Edges<'a> {
    sent: &'a [[Sent; 2]],
    number: usize,
    step: usize,
}

/// How far beyond a band's edges a convolution reads a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// One row of a map that has one value for each tile.
    Tile,
    /// Rows of pixels.
    Pixels(usize),
}

impl Edges<'_> {
    /// Sends the rows at the edges of a map to the neighbours.
    pub fn send(self, grid: &Grid, reach: Reach, map: &[f32]) {
        let sent = &self.sent[self.number][self.step % 2];
        let copy = |to: &Mutex<Vec<f32>>, from: usize, up: bool| {
            let mut to = lock(to);
            to.clear();
            for channel in map.chunks_exact(reach.channel(grid)) {
                reach.each(grid, from, up, |at| to.extend_from_slice(&channel[at..at + grid.stride]));
            }
        };
        if self.number > 0 {
            copy(&sent.upper, 0, false);
        }
        if self.number + 1 < self.sent.len() {
            copy(&sent.lower, grid.height.div_ceil(2), true);
        }
    }

    /// Writes what the neighbours sent in the step before beside the edges of a map.
    pub fn receive(self, grid: &Grid, reach: Reach, map: &mut [f32]) {
        let step = (self.step + 1) % 2;
        let mut copy = |sent: &Mutex<Vec<f32>>, from: usize, up: bool| {
            let sent = lock(sent);
            let mut rows = sent.chunks_exact(grid.stride);
            for channel in map.chunks_exact_mut(reach.channel(grid)) {
                reach.each(grid, from, up, |at| {
                    if let Some(row) = rows.next() {
                        channel[at..at + grid.stride].copy_from_slice(row);
                    }
                });
            }
        };
        if let Some(above) = self.number.checked_sub(1) {
            copy(&self.sent[above][step].lower, 0, true);
        }
        if let Some(below) = self.sent.get(self.number + 1) {
            copy(&below[step].upper, grid.height.div_ceil(2), false);
        }
    }
}

impl Reach {
    /// Values of a channel.
    fn channel(self, grid: &Grid) -> usize {
        match self {
            Self::Tile => grid.plane,
            Self::Pixels(_) => grid.channel(),
        }
    }

    /// Calls `row` with the index of each row that is read: upwards from above the row of tiles `from`, or down from it.
    #[inline]
    fn each(self, grid: &Grid, from: usize, up: bool, mut row: impl FnMut(usize)) {
        let tile = |distance: usize| {
            if up {
                grid.front + from * grid.stride - (distance + 1) * grid.stride
            } else {
                grid.front + (from + distance) * grid.stride
            }
        };
        match self {
            Self::Tile => row(tile(0)),
            Self::Pixels(count) => {
                for pixel in 0..count {
                    let odd = if up { 1 - pixel % 2 } else { pixel % 2 };
                    for phase in [2 * odd, 2 * odd + 1] {
                        row(phase * grid.plane + tile(pixel / 2));
                    }
                }
            }
        }
    }
}

/// The result of `work` for each item, in order; several at once where there are threads. `work` is told how many threads are left
/// for one item.
pub(super) fn all<T: Sync, R: Send>(items: &[T], work: impl Fn(&T, usize) -> R + Send + Sync) -> Vec<R> {
    let threads = threads_of_each(items.len(), threads());
    #[cfg(not(target_arch = "wasm32"))]
    if items.len() > 1 {
        use rayon::prelude::*;
        return items.par_iter().map(|item| work(item, threads)).collect();
    }
    items.iter().map(|item| work(item, threads)).collect()
}
