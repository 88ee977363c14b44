//! Similarity of two images: PSNR, and SSIM as defined by Wang et al. (2004).

use image::RgbImage;

use crate::blur::window;

/// Standard deviation of SSIM's window in pixels.
const SIGMA: f32 = 1.5;
/// Side of SSIM's window in pixels.
pub const WINDOW: u32 = 2 * RADIUS as u32 + 1;
const RADIUS: usize = 5;
/// Largest value of a channel.
const MAX: f64 = 255.0;
/// Weights of red, green and blue in the luma (ITU-R BT.601).
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// Mean of the squared differences of all channels, in 0..255².
///
/// # Panics
/// If the images differ in size.
pub fn mean_squared_error(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions(), "images of different sizes");
    let square = |(&a, &b): (&u8, &u8)| f64::from(a.abs_diff(b)).powi(2);
    a.as_raw().iter().zip(b.as_raw()).map(square).sum::<f64>() / a.as_raw().len() as f64
}

/// Peak signal-to-noise ratio in dB of a mean squared error; infinite for an error of 0.
pub fn psnr(mean_squared_error: f64) -> f64 {
    10.0 * (MAX * MAX / mean_squared_error).log10()
}

/// Mean structural similarity of two images' luma, over all positions where the window lies inside them.
///
/// # Panics
/// If the images differ in size or are smaller than [`WINDOW`].
pub fn ssim(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions(), "images of different sizes");
    let width = a.width() as usize;
    assert!(a.width().min(a.height()) >= WINDOW, "an image smaller than SSIM's window");
    let (x, y) = (luma(a), luma(b));
    let product = |a: &[f32], b: &[f32]| -> Vec<f32> { a.iter().zip(b).map(|(a, b)| a * b).collect() };
    let mean = |values: &[f32]| local_means(values, width);
    let (mean_x, mean_y) = (mean(&x), mean(&y));
    let (xx, yy, xy) = (mean(&product(&x, &x)), mean(&product(&y, &y)), mean(&product(&x, &y)));
    let (c1, c2) = ((0.01 * MAX).powi(2), (0.03 * MAX).powi(2));
    let local = |at: usize| {
        let (mx, my) = (mean_x[at], mean_y[at]);
        let (vx, vy, cov) = (xx[at] - mx * mx, yy[at] - my * my, xy[at] - mx * my);
        (2.0 * mx * my + c1) * (2.0 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    };
    (0..mean_x.len()).map(local).sum::<f64>() / mean_x.len() as f64
}

fn luma(image: &RgbImage) -> Vec<f32> {
    let weigh = |pixel: &image::Rgb<u8>| pixel.0.iter().zip(LUMA).map(|(&v, w)| f32::from(v) * w).sum();
    image.pixels().map(weigh).collect()
}

/// Gaussian means of an image with rows of `width` values, at each position where the window lies inside it.
fn local_means(values: &[f32], width: usize) -> Vec<f64> {
    let window: Vec<f64> = window(SIGMA, RADIUS).into_iter().map(f64::from).collect();
    let weigh = |values: &mut dyn Iterator<Item = f64>| values.zip(&window).map(|(v, w)| v * w).sum::<f64>();
    let across: Vec<f64> = values
        .chunks(width)
        .flat_map(|row| row.windows(window.len()).map(|part| weigh(&mut part.iter().map(|&v| f64::from(v)))))
        .collect();
    let width = width - 2 * RADIUS;
    let positions = across.len() - 2 * RADIUS * width;
    (0..positions).map(|at| weigh(&mut across[at..].iter().step_by(width).copied())).collect()
}
