//! What pictures go through before training sees them (appendices A.2 and B.2).

use image::imageops::{self, FilterType};
use image::{GenericImageView, RgbImage};
use rand::{Rng, RngExt};

/// Stage 1: random square crop of the short side s; resized to a side uniform in [min(s, 9/8·target), min(s, 12/8·target)];
/// random crop of the target size; mirrored half of the time.
pub fn for_dvae(image: &RgbImage, target: u32, rng: &mut impl Rng) -> RgbImage {
    let short = image.width().min(image.height());
    let [low, high] = [9, 12].map(|eighths| short.min(target * eighths / 8));
    let square = crop(image, short, 0.0..=1.0, rng);
    let resized = resize(&square, rng.random_range(low..=high));
    let mut picture = crop(&resized, target, 0.0..=1.0, rng);
    if rng.random_bool(0.5) {
        imageops::flip_horizontal_in_place(&mut picture);
    }
    picture
}

/// Stage 2: square crop with an offset in [3/8, 5/8] of the slack; resized to a side uniform in
/// [target, min(s, 9/8·target)]; random crop of the target size; never mirrored, because captions can hold text.
pub fn for_prior(image: &RgbImage, target: u32, rng: &mut impl Rng) -> RgbImage {
    let short = image.width().min(image.height());
    let square = crop(image, short, 0.375..=0.625, rng);
    let resized = resize(&square, rng.random_range(target..=short.min(target * 9 / 8).max(target)));
    crop(&resized, target, 0.0..=1.0, rng)
}

/// A square of side `side` at an offset uniform in `share` of the slack.
fn crop(image: &RgbImage, side: u32, share: std::ops::RangeInclusive<f64>, rng: &mut impl Rng) -> RgbImage {
    let mut offset = |length: u32| {
        let slack = f64::from(length - side);
        (rng.random_range(share.clone()) * slack).round() as u32
    };
    let (x, y) = (offset(image.width()), offset(image.height()));
    image.view(x, y, side, side).to_image()
}

/// Area resizing: a triangle filter whose support grows with the reduction averages all the pixels that a new one covers.
fn resize(image: &RgbImage, side: u32) -> RgbImage {
    if image.dimensions() == (side, side) {
        image.clone()
    } else {
        imageops::resize(image, side, side, FilterType::Triangle)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn results_have_the_target_size_and_only_the_dvae_mirrors() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let image = RgbImage::from_fn(40, 32, |x, _| image::Rgb([(x * 6) as u8, 0, 0]));
        let falls = |picture: &RgbImage| picture.get_pixel(0, 0).0[0] > picture.get_pixel(23, 0).0[0];
        let mut mirrored = 0;
        for _ in 0..100 {
            let picture = for_dvae(&image, 24, &mut rng);
            assert_eq!(picture.dimensions(), (24, 24));
            mirrored += usize::from(falls(&picture));
            let picture = for_prior(&image, 24, &mut rng);
            assert_eq!(picture.dimensions(), (24, 24));
            assert!(!falls(&picture));
        }
        assert!((25..75).contains(&mirrored), "{mirrored}");
    }

    #[test]
    fn a_picture_of_the_target_size_is_only_mirrored() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let image = RgbImage::from_fn(16, 16, |x, y| image::Rgb([x as u8, y as u8, 0]));
        assert_eq!(for_prior(&image, 16, &mut rng), image);
        let picture = for_dvae(&image, 16, &mut rng);
        assert!(picture == image || picture == imageops::flip_horizontal(&image));
    }
}
