//! The Gaussian filter: the window of SSIM, and the blur of the paper's Fréchet distances (section 3.1).

use image::{Rgb32FImage, RgbImage};

/// Standard deviations at which the blur's window is truncated.
const TRUNCATE: f32 = 4.0;

/// The weights of a Gaussian at −radius … radius, with sum 1.
pub fn window(sigma: f32, radius: usize) -> Vec<f32> {
    let offset = |index: usize| index as f32 - radius as f32;
    let bell: Vec<f32> =
        (0..=2 * radius).map(|index| (-0.5 * (offset(index) / sigma).powi(2)).exp()).collect();
    let sum: f32 = bell.iter().sum();
    bell.iter().map(|weight| weight / sum).collect()
}

/// Blurs an image with a Gaussian of standard deviation `sigma` pixels; 0 returns it unchanged. Pixels at the edge are repeated
/// beyond it.
pub fn blur(image: &RgbImage, sigma: f32) -> RgbImage {
    if sigma == 0.0 {
        return image.clone();
    }
    let radius = (TRUNCATE * sigma).round() as usize;
    let window = window(sigma, radius);
    let (width, height) = image.dimensions();
    let along = |image: &Rgb32FImage, step: (i64, i64)| {
        Rgb32FImage::from_fn(width, height, |x, y| {
            let mut sum = [0.0; 3];
            for (offset, weight) in (-(radius as i64)..).zip(&window) {
                let at = |position: u32, step: i64, size: u32| {
                    (i64::from(position) + step * offset).clamp(0, i64::from(size) - 1) as u32
                };
                let pixel = image.get_pixel(at(x, step.0, width), at(y, step.1, height));
                for (sum, value) in sum.iter_mut().zip(pixel.0) {
                    *sum += weight * value;
                }
            }
            sum.into()
        })
    };
    let values = Rgb32FImage::from_fn(width, height, |x, y| image.get_pixel(x, y).0.map(f32::from).into());
    let blurred = along(&along(&values, (1, 0)), (0, 1));
    RgbImage::from_fn(width, height, |x, y| blurred.get_pixel(x, y).0.map(|value| value.round() as u8).into())
}
