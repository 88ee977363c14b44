//! What the decoder would paint after each of its four groups, and how two of these differ: which pixels one token reaches.

/// Number of stages.
pub const STAGES: usize = 4;

/// Four square images: of `grid` pixels along a side, and twice, four times and eight times as many. The last is the image.
#[derive(Clone, Debug, PartialEq)]
pub struct Stages {
    /// RGBA of all, the smallest first.
    rgba: Vec<u8>,
    grid: usize,
}

/// How two images of one stage differ around a cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The same by distance, in tokens: first the cell itself, then the cells around it, and so on.
    pub rings: Vec<Ring>,
}

/// How the pixels at one distance from a cell differ.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ring {
    /// Pixels at this distance.
    pub pixels: usize,
    /// Those that differ.
    pub changed: usize,
    /// Sum over pixels of the mean difference of red, green and blue, in 255ths.
    pub total: f64,
    /// The greatest difference of a value, in 255ths.
    pub most: u8,
}

impl Stages {
    /// The stages of a grid with this side; None if there are more or fewer bytes.
    pub fn new(rgba: Vec<u8>, grid: usize) -> Option<Self> {
        let stages = Self { rgba, grid };
        (stages.rgba.len() == stages.start(STAGES)).then_some(stages)
    }

    /// The side of a stage in pixels.
    pub fn side(grid: usize, stage: usize) -> usize {
        grid << stage
    }

    /// RGBA of a stage.
    pub fn rgba(&self, stage: usize) -> &[u8] {
        &self.rgba[self.start(stage)..self.start(stage + 1)]
    }

    fn start(&self, stage: usize) -> usize {
        (0..stage).map(|stage| 4 * Self::side(self.grid, stage).pow(2)).sum()
    }

    /// Mean difference of a stage from the image, in 255ths, over the pixels of the first `known` tokens.
    pub fn distance_from_image(&self, stage: usize, known: usize) -> f64 {
        let (image, small) = (self.rgba(STAGES - 1), self.rgba(stage));
        let (side, factor) = (Self::side(self.grid, STAGES - 1), 1 << (STAGES - 1 - stage));
        let cell = (side / self.grid).max(1);
        let (mut total, mut values) = (0, 0_usize);
        for (pixel, rgba) in image.as_chunks::<4>().0.iter().enumerate() {
            let (y, x) = (pixel / side, pixel % side);
            if y / cell * self.grid + x / cell < known {
                let at = (y / factor * (side / factor) + x / factor) * 4;
                total += sum_of_differences(rgba, &small[at..at + 4]);
                values += 3;
            }
        }
        f64::from(total) / values.max(1) as f64
    }

    /// How a stage differs from that of `other`, by distance from the token at `position`.
    pub fn difference(&self, other: &Self, stage: usize, position: usize) -> Difference {
        let side = Self::side(self.grid, stage);
        let cell = (side / self.grid).max(1);
        let (row, column) = (position / self.grid, position % self.grid);
        let mut rings = vec![Ring::default(); self.grid];
        let pairs = self.rgba(stage).as_chunks::<4>().0.iter().zip(other.rgba(stage).as_chunks::<4>().0);
        for (pixel, (a, b)) in pairs.enumerate() {
            let (y, x) = (pixel / side / cell, pixel % side / cell);
            let ring = &mut rings[y.abs_diff(row).max(x.abs_diff(column))];
            ring.pixels += 1;
            ring.changed += usize::from(a[..3] != b[..3]);
            ring.total += f64::from(sum_of_differences(a, b)) / 3.0;
            let most = a[..3].iter().zip(&b[..3]).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
            ring.most = ring.most.max(most);
        }
        rings.retain(|ring| ring.pixels > 0);
        Difference { rings }
    }
}

impl Ring {
    /// Mean difference of its pixels, in 255ths.
    pub fn mean(&self) -> f64 {
        self.total / self.pixels.max(1) as f64
    }
}

impl Difference {
    /// Pixels that differ.
    pub fn changed(&self) -> usize {
        self.rings.iter().map(|ring| ring.changed).sum()
    }

    /// All pixels.
    pub fn pixels(&self) -> usize {
        self.rings.iter().map(|ring| ring.pixels).sum()
    }

    /// The greatest difference of a value, in 255ths.
    pub fn most(&self) -> u8 {
        self.rings.iter().map(|ring| ring.most).max().unwrap_or(0)
    }

    /// How many tokens away the farthest pixel is that differs; None if all are equal.
    pub fn reach(&self) -> Option<usize> {
        self.rings.iter().rposition(|ring| ring.changed > 0)
    }

    /// The share of the difference that is outside the cell, from 0 to 1.
    pub fn outside(&self) -> f64 {
        let total: f64 = self.rings.iter().map(|ring| ring.total).sum();
        let own = self.rings.first().map_or(0.0, |ring| ring.total);
        if total > 0.0 { 1.0 - own / total } else { 0.0 }
    }
}

/// Of red, green and blue.
fn sum_of_differences(a: &[u8], b: &[u8]) -> u32 {
    a[..3].iter().zip(&b[..3]).map(|(a, b)| u32::from(a.abs_diff(*b))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stages of a grid of 3 whose pixels are all of one grey.
    fn grey(values: [u8; STAGES]) -> Vec<u8> {
        let pixels = |stage: usize| {
            vec![[values[stage], values[stage], values[stage], 255]; (3 << stage) * (3 << stage)]
        };
        (0..STAGES).flat_map(pixels).flatten().collect()
    }

    #[test]
    fn stages_are_cut_from_one_buffer_which_must_be_whole() {
        let stages = Stages::new(grey([10, 20, 30, 40]), 3).unwrap();
        for (stage, value) in [10, 20, 30, 40].into_iter().enumerate() {
            let side = Stages::side(3, stage);
            assert_eq!(stages.rgba(stage).len(), 4 * side * side);
            assert!(
                stages
                    .rgba(stage)
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .all(|pixel| pixel == &[value, value, value, 255])
            );
        }
        let means = [0, 1, 2, 3].map(|stage| stages.distance_from_image(stage, 9));
        assert_eq!(means, [30.0, 20.0, 10.0, 0.0]);
        assert_eq!(stages.distance_from_image(0, 0), 0.0);
        assert_eq!(Stages::new(vec![0; 12], 3), None);
    }

    #[test]
    fn only_the_pixels_of_known_tokens_count_for_the_distance_from_the_image() {
        let mut rgba = grey([0; STAGES]);
        let start = rgba.len() - 4 * 24 * 24;
        // A pixel of the second token, in the image alone.
        rgba[start + 4 * 8..][..3].copy_from_slice(&[64, 64, 64]);
        let stages = Stages::new(rgba, 3).unwrap();
        assert_eq!(stages.distance_from_image(2, 1), 0.0);
        assert_eq!(stages.distance_from_image(2, 2), 64.0 / 128.0);
    }

    #[test]
    fn differences_are_counted_by_their_distance_from_the_cell() {
        let whole = Stages::new(grey([0; STAGES]), 3).unwrap();
        let mut rgba = grey([0; STAGES]);
        let start = 4 * 9;
        // At the stage of six pixels along a side: one of the middle cell, and one in the top left corner.
        for (pixel, value) in [(2 * 6 + 2, 90), (0, 30)] {
            rgba[start + 4 * pixel] = value;
        }
        let changed = Stages::new(rgba, 3).unwrap();
        let difference = whole.difference(&changed, 1, 4);
        let ring = |pixels, total, most| Ring { pixels, changed: 1, total, most };
        assert_eq!(difference.rings, [ring(4, 30.0, 90), ring(32, 10.0, 30)]);
        assert_eq!((difference.changed(), difference.pixels(), difference.most()), (2, 36, 90));
        assert_eq!((difference.reach(), difference.outside()), (Some(1), 0.25));
        // From a corner, two more rings are needed.
        assert_eq!(whole.difference(&changed, 1, 8).rings.len(), 3);
        let same = whole.difference(&whole, 3, 0);
        assert_eq!((same.reach(), same.changed(), same.outside()), (None, 0, 0.0));
    }
}
