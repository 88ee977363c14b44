//! Maps pixels to (0, 1), the domain of the logit-Laplace distribution, and back (appendix A.3).

use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor, TensorData};

/// ε of φ(x) = (1 − 2ε)·x/255 + ε: keeps pixels away from 0 and 1, where ln f has poles.
pub const EPSILON: f64 = 0.1;

/// φ: from 0..1 to (ε, 1 − ε).
pub fn map_pixels(x: Tensor<4>) -> Tensor<4> {
    x.mul_scalar(1.0 - 2.0 * EPSILON).add_scalar(EPSILON)
}

/// φ⁻¹, clamped to 0..1.
pub fn unmap_pixels(x: Tensor<4>) -> Tensor<4> {
    x.sub_scalar(EPSILON).div_scalar(1.0 - 2.0 * EPSILON).clamp(0.0, 1.0)
}

/// The image that six maps describe, `[B, 6, H, W] → [B, 3, H, W]` in 0..1: φ⁻¹(sigmoid(μ)), ignoring ln b.
pub fn maps_to_rgb(maps: Tensor<4>) -> Tensor<4> {
    unmap_pixels(sigmoid(maps.narrow(1, 0, 3)))
}

/// RGB8 images of equal size (interleaved) as `[B, 3, height, width]` in 0..1.
///
/// # Panics
/// If an image does not have `3 · width · height` bytes.
pub fn images_to_tensor(images: &[&[u8]], width: usize, height: usize, device: &Device) -> Tensor<4> {
    let mut values = Vec::with_capacity(images.len() * 3 * width * height);
    for image in images {
        assert_eq!(image.len(), 3 * width * height, "expected RGB8 of {width}×{height} pixels");
        values.extend(image.iter().map(|&byte| f32::from(byte) / 255.0));
    }
    let data = TensorData::new(values, [images.len(), height, width, 3]);
    Tensor::<4>::from_data(data, device).permute([0, 3, 1, 2])
}

/// `[1, 3, H, W]` in 0..1 as interleaved RGB8, rounded to the nearest byte.
pub(super) fn rgb_bytes(data: &TensorData) -> Vec<u8> {
    let [_, planes, height, width] = data.shape().dims();
    let plane = height * width;
    let values: Vec<f32> = data.iter::<f32>().collect();
    (0..plane * planes).map(|i| (values[(i % planes) * plane + i / planes] * 255.0).round() as u8).collect()
}
