//! The Fréchet distance between Gaussians fitted to two sets of features (Heusel et al. 2017), and the Inception Score of class
//! probabilities (Salimans et al. 2016). Computed in double precision.

use anyhow::{Result, ensure};
use dalle_model::burn::tensor::{DType, Device, Tensor, TensorData};

use crate::symmetric::{eigenvalues, factor};

/// Mean and covariance of features.
pub struct Gaussian {
    mean: Vec<f64>,
    /// Row-major.
    covariance: Vec<f64>,
}

impl Gaussian {
    /// Fits a Gaussian to `features`, one row per image, all of equal length.
    ///
    /// # Errors
    /// There are fewer than two rows, or the features contain NaN or infinite values.
    pub fn of(features: &[Vec<f32>]) -> Result<Self> {
        ensure!(features.len() > 1, "a covariance needs at least two images, got {}", features.len());
        ensure!(
            features.iter().flatten().all(|value| value.is_finite()),
            "the features contain NaN or infinite values"
        );
        let (count, width) = (features.len(), features[0].len());
        let mean: Vec<f64> = (0..width)
            .map(|column| features.iter().map(|row| f64::from(row[column])).sum::<f64>() / count as f64)
            .collect();
        let centred =
            features.iter().flat_map(|row| row.iter().zip(&mean).map(|(x, mean)| f64::from(*x) - mean));
        let centred = matrix(centred.collect(), [count, width]);
        let covariance = centred.clone().transpose().matmul(centred).div_scalar((count - 1) as f64);
        Ok(Self { mean, covariance: values(covariance) })
    }

    fn trace(&self) -> f64 {
        self.covariance.iter().step_by(self.mean.len() + 1).sum()
    }
}

/// The Fréchet distance |μa − μb|² + Tr(Σa + Σb − 2·(Σa·Σb)^½). Not negative except for rounding.
///
/// With Σa = L·Lᵀ, the product Σa·Σb has the eigenvalues of the symmetric Lᵀ·Σb·L (and zeros). The trace of its square root is
/// therefore the sum of their square roots, and no matrix square root is needed. Negative eigenvalues are rounding errors and count
/// as 0.
///
/// # Errors
/// The features are so large that their products are infinite.
///
/// # Panics
/// If the features have different lengths.
pub fn frechet_distance(a: &Gaussian, b: &Gaussian) -> Result<f64> {
    let width = a.mean.len();
    assert_eq!(b.mean.len(), width, "features of different lengths");
    let rows = factor(&a.covariance, width);
    let rank = rows.len();
    let root: f64 = if rank == 0 {
        0.0
    } else {
        let factor = matrix(rows.concat(), [rank, width]);
        let inner =
            factor.clone().matmul(matrix(b.covariance.clone(), [width, width])).matmul(factor.transpose());
        eigenvalues(values(inner), rank)?.iter().map(|value| value.max(0.0).sqrt()).sum()
    };
    let between: f64 = a.mean.iter().zip(&b.mean).map(|(a, b)| (a - b).powi(2)).sum();
    Ok(between + a.trace() + b.trace() - 2.0 * root)
}

/// A matrix on the CPU, because other devices have no double precision.
fn matrix(values: Vec<f64>, shape: [usize; 2]) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), (&Device::flex(), DType::F64))
}

fn values(matrix: Tensor<2>) -> Vec<f64> {
    matrix.into_data().iter::<f64>().collect()
}

/// The Inception Score exp(E[KL(p(class | image) ‖ p(class))]): mean and standard deviation over `splits` splits.
///
/// # Errors
/// There are fewer images than splits.
pub fn inception_score(probabilities: &[Vec<f32>], splits: usize) -> Result<(f64, f64)> {
    ensure!(
        splits > 0 && probabilities.len() >= splits,
        "expected at least {splits} images, one per split, got {}",
        probabilities.len()
    );
    let count = probabilities.len();
    let scores: Vec<f64> = (0..splits)
        .map(|split| score(&probabilities[split * count / splits..(split + 1) * count / splits]))
        .collect();
    let mean = scores.iter().sum::<f64>() / splits as f64;
    let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / splits as f64;
    Ok((mean, variance.sqrt()))
}

fn score(probabilities: &[Vec<f32>]) -> f64 {
    let classes = probabilities[0].len();
    let count = probabilities.len() as f64;
    let marginal: Vec<f64> = (0..classes)
        .map(|class| probabilities.iter().map(|image| f64::from(image[class])).sum::<f64>() / count)
        .collect();
    let divergence = |image: &Vec<f32>| -> f64 {
        let terms = image.iter().zip(&marginal).map(|(&p, &q)| (f64::from(p), q));
        terms.filter(|(p, _)| *p > 0.0).map(|(p, q)| p * (p / q).ln()).sum()
    };
    (probabilities.iter().map(divergence).sum::<f64>() / count).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two points at ± the spread on each axis around the centre; their covariance is diagonal.
    fn cross(spread: &[f32], centre: &[f32]) -> Vec<Vec<f32>> {
        let shifted = |axis: usize, by: f32| {
            centre.iter().enumerate().map(|(i, c)| if i == axis { c + by } else { *c }).collect()
        };
        (0..spread.len())
            .flat_map(|axis| [shifted(axis, spread[axis]), shifted(axis, -spread[axis])])
            .collect()
    }

    #[test]
    fn gaussians_of_diagonal_covariance_have_a_closed_form() {
        let (a, b) = (cross(&[1.0, 2.0, 4.0], &[0.0; 3]), cross(&[3.0, 2.0, 0.5], &[1.0, -2.0, 0.0]));
        let (a, b) = (Gaussian::of(&a).unwrap(), Gaussian::of(&b).unwrap());
        // Variances are 2s²/5, so standard deviations are s·√(2/5). The distance sums their squared differences over the axes, and
        // adds that of the means.
        let expected = 5.0 + 0.4 * (4.0 + 0.0 + 12.25);
        assert!((frechet_distance(&a, &b).unwrap() - expected).abs() < 1e-12 * expected);
        assert!(frechet_distance(&a, &a).unwrap().abs() < 1e-12);
        let alike = Gaussian::of(&[vec![1.0; 3], vec![1.0; 3]]).unwrap();
        let spread = 3.0 + a.trace();
        assert!((frechet_distance(&alike, &a).unwrap() - spread).abs() < 1e-12 * spread);
        assert!((frechet_distance(&b, &a).unwrap() - expected).abs() < 1e-12 * expected);
    }

    #[test]
    fn scores_of_certain_and_uncertain_classes_are_known() {
        let certain = |class: usize| (0..4).map(|i| if i == class { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
        let all: Vec<Vec<f32>> = (0..8).map(|image| certain(image % 4)).collect();
        let (mean, deviation) = inception_score(&all, 2).unwrap();
        assert!((mean - 4.0).abs() < 1e-12 && deviation < 1e-12, "the number of classes");
        let (mean, _) = inception_score(&vec![vec![0.25; 4]; 8], 1).unwrap();
        assert!((mean - 1.0).abs() < 1e-12, "all images are alike");
        assert!(inception_score(&all, 9).is_err());
        assert!(Gaussian::of(&[vec![0.0]]).is_err());
    }
}
