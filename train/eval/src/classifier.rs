//! A linear classifier: multinomial logistic regression on standardised features.
//!
//! ```text
//! let classifier = LinearClassifier::train(&features, &labels, 8, &device)?;
//! let predicted = classifier.predict(&others)?;
//! ```

use anyhow::{Result, ensure};
use dalle_model::burn::tensor::activation::{log_softmax, softmax};
use dalle_model::burn::tensor::{Device, Tensor, TensorData};

/// Weight of the squared weights in the loss (half their sum, times this).
const PENALTY: f32 = 0.01;
/// Steps of accelerated gradient descent. The loss is convex and the step size is the inverse of its curvature.
const STEPS: usize = 300;
/// Iterations that estimate the largest eigenvalue of the features' second moments.
const POWER_STEPS: usize = 50;
/// Margin for that estimate, which approaches the eigenvalue from below.
const MARGIN: f32 = 1.05;
/// Standard deviations below this count as 1: the feature is constant.
const CONSTANT: f32 = 1e-6;

/// A trained classifier.
pub struct LinearClassifier {
    mean: Tensor<2>,
    deviation: Tensor<2>,
    /// `[F + 1, C]`; the last row is the bias.
    weights: Tensor<2>,
    device: Device,
}

impl LinearClassifier {
    /// Trains on `features`, rows of equal length, with their `labels` below `classes`.
    ///
    /// # Errors
    /// There are no rows, or a different number of labels, or the result is not finite.
    pub fn train(features: &[Vec<f32>], labels: &[usize], classes: usize, device: &Device) -> Result<Self> {
        ensure!(!features.is_empty(), "a classifier needs images to train on, got none");
        ensure!(features.len() == labels.len(), "{} images have {} labels", features.len(), labels.len());
        ensure!(
            labels.iter().all(|label| *label < classes),
            "a label is not below the number of classes {classes}"
        );
        let count = features.len();
        let x = rows(features, device);
        let mean = x.clone().mean_dim(0);
        let deviation = (x.clone() - mean.clone()).powi_scalar(2).mean_dim(0).sqrt();
        let constant = deviation.clone().lower_elem(CONSTANT);
        let deviation = deviation.mask_fill(constant, 1.0);
        let x = with_ones((x - mean.clone()) / deviation.clone());
        let one_hot = labels
            .iter()
            .flat_map(|label| (0..classes).map(move |class| f32::from(u8::from(class == *label))));
        let targets =
            Tensor::<2>::from_data(TensorData::new(one_hot.collect::<Vec<f32>>(), [count, classes]), device);
        // The Hessian of the cross-entropy is at most half of the features' second moments.
        let step = 1.0 / (0.5 * MARGIN * largest_moment(&x) + PENALTY);
        let mut weights = Tensor::<2>::zeros([x.dims()[1], classes], device);
        let mut ahead = weights.clone();
        for k in 0..STEPS {
            let gradient = gradient(&x, &targets, &ahead);
            let next = ahead - gradient * step;
            let momentum = k as f32 / (k as f32 + 3.0);
            ahead = next.clone() + (next.clone() - weights) * momentum;
            weights = next;
        }
        let sum = weights.clone().abs().sum().into_data().iter::<f32>().sum::<f32>();
        ensure!(sum.is_finite(), "the classifier's weights are NaN or infinite, as the features may be");
        Ok(Self { mean, deviation, weights, device: device.clone() })
    }

    /// The most likely class of each row.
    pub fn predict(&self, features: &[Vec<f32>]) -> Vec<usize> {
        if features.is_empty() {
            return Vec::new();
        }
        let indices = self.logits(features).argmax(1);
        indices.into_data().iter::<i64>().map(|index| index as usize).collect()
    }

    /// Mean cross-entropy of the labels, in nats.
    pub fn loss(&self, features: &[Vec<f32>], labels: &[usize]) -> f64 {
        let logits = self.logits(features);
        let classes = logits.dims()[1];
        let values: Vec<f32> = log_softmax(logits, 1).into_data().iter::<f32>().collect();
        let own = values.chunks(classes).zip(labels).map(|(row, label)| -f64::from(row[*label]));
        own.sum::<f64>() / labels.len() as f64
    }

    fn logits(&self, features: &[Vec<f32>]) -> Tensor<2> {
        let x = (rows(features, &self.device) - self.mean.clone()) / self.deviation.clone();
        with_ones(x).matmul(self.weights.clone())
    }
}

/// The gradient of the penalised loss: Xᵀ·(softmax(X·W) − Y)/N + penalty·W.
fn gradient(x: &Tensor<2>, targets: &Tensor<2>, weights: &Tensor<2>) -> Tensor<2> {
    let errors = softmax(x.clone().matmul(weights.clone()), 1) - targets.clone();
    x.clone().transpose().matmul(errors).div_scalar(x.dims()[0] as f32) + weights.clone() * PENALTY
}

/// The largest eigenvalue of XᵀX/N, by power iteration.
fn largest_moment(x: &Tensor<2>) -> f32 {
    let [count, width] = x.dims();
    let mut v = Tensor::<2>::ones([width, 1], &x.device());
    let mut eigenvalue = 1.0;
    for _ in 0..POWER_STEPS {
        let next = x.clone().transpose().matmul(x.clone().matmul(v)).div_scalar(count as f32);
        eigenvalue = next.clone().powi_scalar(2).sum().sqrt().into_data().iter::<f32>().sum();
        v = next / eigenvalue.max(f32::MIN_POSITIVE);
    }
    eigenvalue
}

fn rows(features: &[Vec<f32>], device: &Device) -> Tensor<2> {
    let shape = [features.len(), features[0].len()];
    Tensor::from_data(TensorData::new(features.concat(), shape), device)
}

/// Appends a column of ones, for the bias.
fn with_ones(x: Tensor<2>) -> Tensor<2> {
    let ones = Tensor::ones([x.dims()[0], 1], &x.device());
    Tensor::cat(vec![x, ones], 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three overlapping clouds in four dimensions, the last of which is constant.
    fn clouds(count: usize, mut state: u64) -> (Vec<Vec<f32>>, Vec<usize>) {
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let labels: Vec<usize> = (0..count).map(|index| index % 3).collect();
        let features = labels
            .iter()
            .map(|&label| {
                vec![
                    label as f32 + noise(),
                    100.0 * noise(),
                    f32::from(u8::from(label == 1)) + 2.0 * noise(),
                    7.0,
                ]
            })
            .collect();
        (features, labels)
    }

    #[test]
    fn the_loss_is_at_its_minimum() {
        let (features, labels) = clouds(120, 1);
        let device = Device::flex();
        let trained = LinearClassifier::train(&features, &labels, 3, &device).unwrap();
        let values: Vec<f64> = trained.weights.clone().into_data().iter::<f64>().collect();
        // The penalised loss in plain double precision, from the definition.
        let standard: Vec<Vec<f64>> = {
            let column = |f: usize| features.iter().map(move |row| f64::from(row[f]));
            let mean: Vec<f64> = (0..4).map(|f| column(f).sum::<f64>() / 120.0).collect();
            let deviation: Vec<f64> = (0..4)
                .map(|f| (column(f).map(|x| (x - mean[f]).powi(2)).sum::<f64>() / 120.0).sqrt())
                .map(|deviation| if deviation == 0.0 { 1.0 } else { deviation })
                .collect();
            let row = |row: &Vec<f32>| {
                let values = (0..4).map(|f| (f64::from(row[f]) - mean[f]) / deviation[f]);
                values.chain([1.0]).collect()
            };
            features.iter().map(row).collect()
        };
        let loss = |weights: &[f64]| {
            let entropy = |(row, label): (&Vec<f64>, &usize)| {
                let logit = |class: usize| (0..5).map(|f| row[f] * weights[f * 3 + class]).sum::<f64>();
                (0..3).map(|class| logit(class).exp()).sum::<f64>().ln() - logit(*label)
            };
            standard.iter().zip(&labels).map(entropy).sum::<f64>() / 120.0
                + f64::from(PENALTY) / 2.0 * weights.iter().map(|w| w * w).sum::<f64>()
        };
        for at in 0..values.len() {
            let moved = |by: f64| {
                let mut weights = values.clone();
                weights[at] += by;
                loss(&weights)
            };
            let slope = (moved(1e-4) - moved(-1e-4)) / 2e-4;
            assert!(slope.abs() < 1e-4, "weight {at}: slope {slope}");
        }
        let penalty = f64::from(PENALTY) / 2.0 * values.iter().map(|w| w * w).sum::<f64>();
        assert!((trained.loss(&features, &labels) + penalty - loss(&values)).abs() < 1e-5);
    }

    #[test]
    fn other_points_of_the_same_clouds_are_classified() {
        let (features, labels) = clouds(300, 1);
        let trained = LinearClassifier::train(&features, &labels, 3, &Device::flex()).unwrap();
        let (others, truth) = clouds(300, 2);
        let right = trained.predict(&others).iter().zip(&truth).filter(|(a, b)| a == b).count();
        assert!(right > 270, "{right} of 300");
        assert!(trained.predict(&[]).is_empty());
        assert!(LinearClassifier::train(&[], &[], 3, &Device::flex()).is_err());
        assert!(LinearClassifier::train(&features, &labels, 2, &Device::flex()).is_err());
    }
}
