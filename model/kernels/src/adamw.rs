//! An update of AdamW with averaged weights, in one pass over a parameter's values.

use pulp::{Simd, WithSimd};

/// Hyper-parameters of an update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of the running mean β₁.
    pub beta1: f64,
    /// Decay of the running variance β₂.
    pub beta2: f64,
    /// Added to the square root of the variance.
    pub epsilon: f64,
    /// Number of this update, from 1, for the bias correction of mean and variance.
    pub update: u64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay of this parameter.
    pub weight_decay: f64,
    /// Factor that clips the gradient.
    pub clip: f64,
    /// Upper bound of the running variance.
    pub max_variance: f64,
    /// Decay of the average of the weights.
    pub ewma: f64,
}

/// An update of one parameter, to be dispatched. All slices have the same length.
pub struct AdamWUpdate<'a> {
    /// The hyper-parameters.
    pub adamw: AdamW,
    /// The gradient.
    pub gradient: &'a [f32],
    /// The weights.
    pub weight: &'a mut [f32],
    /// The running mean of the gradient.
    pub mean: &'a mut [f32],
    /// The running variance of the gradient.
    pub variance: &'a mut [f32],
    /// The average of the weights.
    pub average: &'a mut [f32],
}

impl WithSimd for AdamWUpdate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let AdamW { beta1, beta2, epsilon, update, learning_rate, weight_decay, clip, max_variance, ewma } =
            self.adamw;
        let correction = |beta: f64| (1.0 - beta.powf(update as f64)) as f32;
        let (correction1, correction2) = (correction(beta1), correction(beta2));
        let (rest1, rest2, rest) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32, (1.0 - ewma) as f32);
        let decay = (1.0 - learning_rate * weight_decay) as f32;
        let [beta1, beta2, epsilon, rate, clip, most, ewma] =
            [beta1, beta2, epsilon, learning_rate, clip, max_variance, ewma].map(|value| value as f32);
        let state = self.mean.iter_mut().zip(self.variance).zip(self.average);
        for ((weight, gradient), ((mean, variance), average)) in
            self.weight.iter_mut().zip(self.gradient).zip(state)
        {
            let gradient = gradient * clip;
            *mean = *mean * beta1 + gradient * rest1;
            *variance = (*variance * beta2 + gradient * gradient * rest2).min(most);
            let root = (*variance / correction2).sqrt() + epsilon;
            *weight = *weight * decay - *mean / correction1 / root * rate;
            *average = *average * ewma + *weight * rest;
        }
    }
}
