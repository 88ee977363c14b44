//! Held-out pictures that training has nearly seen (section 3.2): each with its nearest training picture by the cosine of their
//! features, nearest first, so that a person can choose by eye from where on two pictures are no longer the same.

use anyhow::{Result, ensure};
use dalle_model::burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;

/// Held-out pictures compared with all training pictures together.
const BATCH: usize = 256;

/// A held-out picture and the training picture nearest to it, by their places in the lists compared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// The held-out picture.
    pub validation: usize,
    /// The nearest training picture.
    pub train: usize,
    /// Cosine of the angle between their features: 1 is the same picture.
    pub cosine: f32,
}

/// The nearest training picture of each held-out one, nearest first.
///
/// # Errors
/// One of the lists is empty, or the device fails.
pub fn nearest(train: &[Vec<f32>], validation: &[Vec<f32>], device: &Device) -> Result<Vec<Pair>> {
    ensure!(!train.is_empty() && !validation.is_empty(), "there is nothing to compare");
    let train = unit(train, device).transpose();
    let mut pairs = Vec::with_capacity(validation.len());
    for chunk in validation.chunks(BATCH) {
        let (cosines, places) = unit(chunk, device).matmul(train.clone()).max_dim_with_indices(1);
        let places: Vec<i64> = places.into_data().iter::<i64>().collect();
        for (cosine, place) in cosines.into_data().iter::<f32>().zip(places) {
            pairs.push(Pair { validation: pairs.len(), train: place as usize, cosine });
        }
    }
    pairs.sort_by(|a, b| b.cosine.total_cmp(&a.cosine).then(a.validation.cmp(&b.validation)));
    Ok(pairs)
}

/// Features of length 1 as rows, `[N, F]`.
fn unit(features: &[Vec<f32>], device: &Device) -> Tensor<2> {
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
    fn the_nearest_is_by_angle_and_the_list_starts_with_the_most_alike() {
        let train = [vec![1.0, 0.0], vec![0.0, 2.0], vec![-1.0, 0.0]];
        let validation = [vec![1.0, 1.5], vec![-9.0, 0.0], vec![3.0, 1.0]];
        let pairs = nearest(&train, &validation, &Device::flex()).unwrap();
        let places: Vec<(usize, usize)> = pairs.iter().map(|pair| (pair.validation, pair.train)).collect();
        assert_eq!(places, [(1, 2), (2, 0), (0, 1)]);
        for (pair, cosine) in pairs.iter().zip([1.0, 3.0 / 10f32.sqrt(), 1.5 / 3.25f32.sqrt()]) {
            assert!((pair.cosine - cosine).abs() < 1e-6, "{pair:?}");
        }
        assert!(nearest(&train, &[], &Device::flex()).is_err());
    }
}
