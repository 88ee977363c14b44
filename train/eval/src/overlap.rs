//! Held-out images that are nearly in the training set (section 3.2).
//!
//! Each held-out image is paired with its nearest training image by the cosine similarity of their features. The pairs come nearest
//! first, so that a threshold for duplicates can be picked by eye.

use anyhow::{Result, ensure};
use dalle_model::burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;

/// Held-out images compared with all training images at once.
const BATCH: usize = 256;

/// A held-out image and its nearest training image, as indices into the lists that were compared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NearestPair {
    /// The held-out image.
    pub validation: usize,
    /// The nearest training image.
    pub train: usize,
    /// Cosine similarity of their features; 1 for identical images.
    pub cosine: f32,
}

/// The nearest training image of each held-out image, nearest pair first. Features are rows of equal length.
///
/// # Errors
/// One of the lists is empty, or the device fails.
pub fn nearest_pairs(
    train: &[Vec<f32>],
    validation: &[Vec<f32>],
    device: &Device,
) -> Result<Vec<NearestPair>> {
    ensure!(!train.is_empty() && !validation.is_empty(), "there is nothing to compare");
    let train = unit_rows(train, device).transpose();
    let mut pairs = Vec::with_capacity(validation.len());
    for chunk in validation.chunks(BATCH) {
        let (cosines, indices) = unit_rows(chunk, device).matmul(train.clone()).max_dim_with_indices(1);
        let indices: Vec<i64> = indices.into_data().iter::<i64>().collect();
        for (cosine, index) in cosines.into_data().iter::<f32>().zip(indices) {
            pairs.push(NearestPair { validation: pairs.len(), train: index as usize, cosine });
        }
    }
    pairs.sort_by(|a, b| b.cosine.total_cmp(&a.cosine).then(a.validation.cmp(&b.validation)));
    Ok(pairs)
}

/// Features scaled to length 1, `[N, F]`.
fn unit_rows(features: &[Vec<f32>], device: &Device) -> Tensor<2> {
    let shape = [features.len(), features[0].len()];
    let values = features.iter().flat_map(|row| {
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        row.iter().map(move |value| value / length)
    });
    Tensor::from_data(TensorData::new(values.collect::<Vec<f32>>(), shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_pairs_are_found_by_angle_and_sorted_by_cosine() {
        let train = [vec![1.0, 0.0], vec![0.0, 2.0], vec![-1.0, 0.0]];
        let validation = [vec![1.0, 1.5], vec![-9.0, 0.0], vec![3.0, 1.0]];
        let pairs = nearest_pairs(&train, &validation, &Device::flex()).unwrap();
        let indices: Vec<(usize, usize)> = pairs.iter().map(|pair| (pair.validation, pair.train)).collect();
        assert_eq!(indices, [(1, 2), (2, 0), (0, 1)]);
        for (pair, cosine) in pairs.iter().zip([1.0, 3.0 / 10f32.sqrt(), 1.5 / 3.25f32.sqrt()]) {
            assert!((pair.cosine - cosine).abs() < 1e-6, "{pair:?}");
        }
        assert!(nearest_pairs(&train, &[], &Device::flex()).is_err());
    }
}
