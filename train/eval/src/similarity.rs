//! How alike two pictures are: PSNR, and SSIM as Wang et al. (2004) define it.

use image::RgbImage;

use super::gaussian::window;

/// Standard deviation of SSIM's window, pixels.
const SIGMA: f32 = 1.5;
/// Side of the window, pixels.
pub const WINDOW: u32 = 2 * RADIUS as u32 + 1;
const RADIUS: usize = 5;
/// Brightest value of a channel.
const MAX: f64 = 255.0;
/// Weights of red, green and blue in the luma (ITU-R BT.601).
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// Mean of the squared differences of all channels, in 0..255².
///
/// # Panics
/// If the pictures differ in size.
pub fn mean_squared_error(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions(), "pictures of different sizes");
    let square = |(&a, &b): (&u8, &u8)| f64::from(a.abs_diff(b)).powi(2);
    a.as_raw().iter().zip(b.as_raw()).map(square).sum::<f64>() / a.as_raw().len() as f64
}

/// Peak signal-to-noise ratio in dB of a mean squared error; infinite for none.
pub fn psnr(mean_squared_error: f64) -> f64 {
    10.0 * (MAX * MAX / mean_squared_error).log10()
}

/// The mean structural similarity of two pictures' luma, over all places of the window within them.
///
/// # Panics
/// If the pictures differ in size or are smaller than [`WINDOW`].
pub fn ssim(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions(), "pictures of different sizes");
    let width = a.width() as usize;
    assert!(a.width().min(a.height()) >= WINDOW, "a picture smaller than SSIM's window");
    let (x, y) = (luma(a), luma(b));
    let product = |a: &[f32], b: &[f32]| -> Vec<f32> { a.iter().zip(b).map(|(a, b)| a * b).collect() };
    let mean = |values: &[f32]| filter(values, width);
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

fn luma(picture: &RgbImage) -> Vec<f32> {
    let weigh = |pixel: &image::Rgb<u8>| pixel.0.iter().zip(LUMA).map(|(&v, w)| f32::from(v) * w).sum();
    picture.pixels().map(weigh).collect()
}

/// The Gaussian means around every place whose window lies within the rows of `width` values.
fn filter(values: &[f32], width: usize) -> Vec<f64> {
    let window: Vec<f64> = window(SIGMA, RADIUS).into_iter().map(f64::from).collect();
    let weigh = |values: &mut dyn Iterator<Item = f64>| values.zip(&window).map(|(v, w)| v * w).sum::<f64>();
    let across: Vec<f64> = values
        .chunks(width)
        .flat_map(|row| row.windows(window.len()).map(|part| weigh(&mut part.iter().map(|&v| f64::from(v)))))
        .collect();
    let width = width - 2 * RADIUS;
    let places = across.len() - 2 * RADIUS * width;
    (0..places).map(|at| weigh(&mut across[at..].iter().step_by(width).copied())).collect()
}
