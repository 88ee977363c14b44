//! Augmentation of images (appendices A.2 and B.2).

use std::ops::{Range, RangeInclusive};

use image::imageops;
use image::{GenericImageView, RgbImage};
use rand::{Rng, RngExt};

/// Stage 1: a random square crop with the side of the short edge s, resized to a side uniform in
/// [min(s, 9/8·target), min(s, 12/8·target)], a random crop of the target size, and a horizontal flip half of the time.
pub fn for_dvae(image: &RgbImage, target: u32, rng: &mut impl Rng) -> RgbImage {
    let square = crop(image, short_side(image), everywhere, rng);
    let side = rng.random_range(dvae_sides(short_side(image), target));
    let mut cropped = crop(&resize_area(&square, side), target, everywhere, rng);
    if rng.random_bool(0.5) {
        imageops::flip_horizontal_in_place(&mut cropped);
    }
    cropped
}

/// Stage 2: a square crop with an offset in [3/8, 5/8) of the slack, resized to a side uniform in [target, min(s, 9/8·target)], and
/// a random crop of the target size. Never flipped, because captions can describe text.
pub fn for_prior(image: &RgbImage, target: u32, rng: &mut impl Rng) -> RgbImage {
    let square = crop(image, short_side(image), near_the_middle, rng);
    let side = rng.random_range(prior_sides(short_side(image), target));
    crop(&resize_area(&square, side), target, everywhere, rng)
}

/// Validation: the centre crop, resized to the target size. Deterministic.
pub fn centred(image: &RgbImage, target: u32) -> RgbImage {
    let side = short_side(image);
    let [x, y] = [image.width(), image.height()].map(|length| (length - side) / 2);
    resize_area(&image.view(x, y, side, side).to_image(), target)
}

fn short_side(image: &RgbImage) -> u32 {
    image.width().min(image.height())
}

fn dvae_sides(short: u32, target: u32) -> RangeInclusive<u32> {
    short.min(target * 9 / 8)..=short.min(target * 12 / 8)
}

/// An image smaller than the target is enlarged to it. The paper's data has none.
fn prior_sides(short: u32, target: u32) -> RangeInclusive<u32> {
    target..=short.min(target * 9 / 8).max(target)
}

/// All offsets in `slack`.
fn everywhere(slack: u32) -> Range<u32> {
    0..slack + 1
}

/// Offsets of a crop in the middle quarter of `slack` without its upper end, as in the paper's listing, but at least one.
fn near_the_middle(slack: u32) -> Range<u32> {
    let first = slack * 3 / 8;
    first..(slack * 5 / 8).max(first + 1)
}

/// A square crop of side `side`. Its offsets are uniform over those that `offsets` allows for the slack.
fn crop(image: &RgbImage, side: u32, offsets: fn(u32) -> Range<u32>, rng: &mut impl Rng) -> RgbImage {
    let mut offset = |length: u32| rng.random_range(offsets(length - side));
    let (x, y) = (offset(image.width()), offset(image.height()));
    image.view(x, y, side, side).to_image()
}

/// Resizes a square image to `side` by area: a new pixel is the mean of the old pixels it covers, weighted by the covered area, and
/// rounded to the nearest byte, ties to even.
///
/// # Panics
/// If the image is not square.
pub fn resize_area(image: &RgbImage, side: u32) -> RgbImage {
    let old = image.width();
    assert_eq!(old, image.height(), "the image is not square");
    if old == side {
        return image.clone();
    }
    let covers = covers(old, side);
    let columns = covers.len();
    // Along rows, then along columns, in units of 1/old² of a new pixel, so that nothing is rounded before the end.
    let mut rows = vec![[0u64; 3]; columns * old as usize];
    for (y, row) in image.rows().enumerate() {
        let row: Vec<[u8; 3]> = row.map(|pixel| pixel.0).collect();
        for (x, cover) in covers.iter().enumerate() {
            for &(from, share) in cover {
                add(&mut rows[y * columns + x], row[from].map(u64::from), share);
            }
        }
    }
    let area = f64::from(old) * f64::from(old);
    RgbImage::from_fn(side, side, |x, y| {
        let mut sum = [0; 3];
        for &(from, share) in &covers[y as usize] {
            add(&mut sum, rows[from * columns + x as usize], share);
        }
        image::Rgb(sum.map(|value| (value as f64 / area).round_ties_even() as u8))
    })
}

/// For each of `new` pixels in a row, the old pixels it covers and the covered length of each. In the unit of length a new pixel is
/// `old` long and an old pixel is `new` long.
fn covers(old: u32, new: u32) -> Vec<Vec<(usize, u64)>> {
    let (old, new) = (u64::from(old), u64::from(new));
    let cover = |pixel: u64| {
        let (start, end) = (pixel * old, (pixel + 1) * old);
        let touched = start / new..end.div_ceil(new);
        touched.map(|i| (i as usize, end.min((i + 1) * new) - start.max(i * new))).collect()
    };
    (0..new).map(cover).collect()
}

fn add(sum: &mut [u64; 3], value: [u64; 3], share: u64) {
    for (sum, value) in sum.iter_mut().zip(value) {
        *sum += value * share;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// An image whose pixels contain their own coordinates.
    fn map(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 0]))
    }

    #[test]
    fn sides_and_offsets_are_the_papers() {
        // An image that is large enough, one that limits the upper end, and one that limits both ends.
        assert_eq!([1000, 300, 270].map(|s| dvae_sides(s, 256)), [288..=384, 288..=300, 270..=270]);
        assert_eq!([1000, 270, 256].map(|s| prior_sides(s, 256)), [256..=288, 256..=270, 256..=256]);
        assert_eq!(everywhere(7), 0..8);
        // The listing of appendix B.2: from 3·slack // 8 to below max(that + 1, 5·slack // 8).
        assert_eq!([0, 1, 4, 8, 100].map(near_the_middle), [0..1, 0..1, 1..2, 3..5, 37..62]);
    }

    #[test]
    fn every_allowed_crop_is_equally_likely_and_no_other_occurs() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let draws = 9000;
        // 24 wide and 16 high: all of the slack of 8 is in the width, and the square has the target size.
        for (allowed, mirrors) in [(0..=8, true), (3..=4, false)] {
            let mut seen: BTreeMap<(u8, bool), u32> = BTreeMap::new();
            for _ in 0..draws {
                let image = map(24, 16);
                let picture =
                    if mirrors { for_dvae(&image, 16, &mut rng) } else { for_prior(&image, 16, &mut rng) };
                let ends = [0, 15].map(|x| picture.get_pixel(x, 0).0[0]);
                *seen.entry((ends[0].min(ends[1]), ends[0] > ends[1])).or_default() += 1;
            }
            let ways = if mirrors { 2 * 9 } else { 2 };
            assert_eq!(seen.len(), ways, "{seen:?}");
            // Within five standard deviations of a uniform distribution.
            let expected = f64::from(draws) / ways as f64;
            for (&(offset, mirrored), &count) in &seen {
                assert!(allowed.contains(&offset) && (mirrors || !mirrored), "{offset} {mirrored}");
                assert!((f64::from(count) - expected).abs() < 5.0 * expected.sqrt(), "{seen:?}");
            }
        }
    }

    #[test]
    fn results_have_the_target_size() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        for (width, height) in [(40, 32), (24, 90), (200, 200)] {
            for _ in 0..20 {
                assert_eq!(for_dvae(&map(width, height), 24, &mut rng).dimensions(), (24, 24));
                assert_eq!(for_prior(&map(width, height), 24, &mut rng).dimensions(), (24, 24));
            }
        }
        assert_eq!(for_prior(&map(12, 12), 24, &mut rng).dimensions(), (24, 24));
    }

    #[test]
    fn the_centred_square_keeps_the_middle() {
        let corners =
            |image: &RgbImage| [(0, 0), (15, 15)].map(|(x, y)| image.get_pixel(x, y).0[..2].to_owned());
        assert_eq!(corners(&centred(&map(24, 16), 16)), [[4, 0], [19, 15]]);
        assert_eq!(corners(&centred(&map(16, 21), 16)), [[0, 2], [15, 17]]);
        assert_eq!(centred(&map(48, 32), 16).dimensions(), (16, 16));
        assert_eq!(centred(&map(12, 12), 16).dimensions(), (16, 16));
    }

    #[test]
    fn an_image_of_the_target_size_is_only_flipped() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let image = map(16, 16);
        assert_eq!(for_prior(&image, 16, &mut rng), image);
        let picture = for_dvae(&image, 16, &mut rng);
        assert!(picture == image || picture == imageops::flip_horizontal(&image));
    }
}
