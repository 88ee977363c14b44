//! An update of AdamW with averaged weights, in one pass over a parameter's values, and the norm that clips gradients.
//!
//! The running mean and variance are f32, or 16 bits: [`F1_6_9`](crate::formats::F1_6_9) and
//! [`F0_6_10`](crate::formats::F0_6_10) (section 2.4). [`update_flat`] updates many parameters that lie in one slice.

#[cfg(not(target_arch = "wasm32"))]
use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::formats::Stored;
#[cfg(not(target_arch = "wasm32"))]
use crate::simd::Processor;

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
pub struct AdamWUpdate<'a, M = f32, V = f32> {
    /// The hyper-parameters.
    pub adamw: AdamW,
    /// The gradient.
    pub gradient: &'a [f32],
    /// The weights.
    pub weight: &'a mut [f32],
    /// The running mean of the gradient.
    pub mean: &'a mut [M],
    /// The running variance of the gradient.
    pub variance: &'a mut [V],
    /// The average of the weights.
    pub average: &'a mut [f32],
}

impl<M: Stored, V: Stored> WithSimd for AdamWUpdate<'_, M, V> {
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
            // What is stored is rounded; this update uses it as it was before.
            let new_mean = mean.to_f32() * beta1 + gradient * rest1;
            let new_variance = (variance.to_f32() * beta2 + gradient * gradient * rest2).min(most);
            (*mean, *variance) = (M::from_f32(new_mean), V::from_f32(new_variance));
            let root = (new_variance / correction2).sqrt() + epsilon;
            *weight = *weight * decay - new_mean / correction1 / root * rate;
            *average = *average * ewma + *weight * rest;
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl<M: Stored, V: Stored> AdamWUpdate<'_, M, V> {
    /// Runs the update on all threads.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn run(self) {
        use rayon::prelude::*;

        /// Values that a thread updates at once.
        const PART: usize = 1 << 15;

        let Self { adamw, gradient, weight, mean, variance, average } = self;
        let lengths = [weight.len(), mean.len(), variance.len(), average.len()];
        assert_eq!(lengths, [gradient.len(); 4], "a gradient of {} values", gradient.len());
        let processor = Processor::detect();
        let state = mean.par_chunks_mut(PART).zip(variance.par_chunks_mut(PART));
        gradient
            .par_chunks(PART)
            .zip(weight.par_chunks_mut(PART))
            .zip(state)
            .zip(average.par_chunks_mut(PART))
            .for_each(|(((gradient, weight), (mean, variance)), average)| {
                processor.run(AdamWUpdate { adamw, gradient, weight, mean, variance, average });
            });
    }
}

/// Σx², computed on all threads. It does not depend on their number.
#[cfg(not(target_arch = "wasm32"))]
pub fn sum_of_squares(x: &[f32]) -> f64 {
    use rayon::prelude::*;

    /// Values whose squares are added up in f32, by sixteen sums.
    const PART: usize = 1 << 12;

    let part = |x: &[f32]| {
        let (groups, rest) = x.as_chunks::<16>();
        let mut sums = [0.0_f32; 16];
        for group in groups {
            for (sum, x) in sums.iter_mut().zip(group) {
                *sum += x * x;
            }
        }
        let rest: f64 = rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() + rest
    };
    x.par_chunks(PART).map(part).collect::<Vec<f64>>().iter().sum()
}

#[cfg(not(target_arch = "wasm32"))]
impl<'a, M, V> AdamWUpdate<'a, M, V> {
    /// The first `at` values, and the rest.
    fn split(self, at: usize) -> (Self, Self) {
        let Self { adamw, gradient, weight, mean, variance, average } = self;
        let (gradient, gradients) = gradient.split_at(at);
        let (weight, weights) = weight.split_at_mut(at);
        let (mean, means) = mean.split_at_mut(at);
        let (variance, variances) = variance.split_at_mut(at);
        let (average, averages) = average.split_at_mut(at);
        (
            Self { adamw, gradient, weight, mean, variance, average },
            Self {
                adamw,
                gradient: gradients,
                weight: weights,
                mean: means,
                variance: variances,
                average: averages,
            },
        )
    }
}

/// Updates parameters that lie one after the other in one slice, on all threads. Only those in `decays` decay: ranges in order,
/// which do not overlap.
///
/// # Panics
/// If the slices differ in length, or `decays` is out of order or reaches beyond them.
#[cfg(not(target_arch = "wasm32"))]
pub fn update_flat<M: Stored, V: Stored>(update: AdamWUpdate<'_, M, V>, decays: &[Range<usize>]) {
    use rayon::prelude::*;

    /// Values that one thread updates at once.
    const PART: usize = 1 << 15;

    let length = update.weight.len();
    let lengths = [update.gradient.len(), update.mean.len(), update.variance.len(), update.average.len()];
    assert_eq!(lengths, [length; 4], "gradients and state of {length} weights");
    let decaying = update.adamw.weight_decay;
    // Alternating: what does not decay, what does, and so on to the end.
    let ends =
        decays.iter().flat_map(|range| [(range.start, 0.0), (range.end, decaying)]).chain([(length, 0.0)]);
    let (mut parts, mut rest, mut begin) = (Vec::new(), update, 0);
    for (end, weight_decay) in ends {
        assert!(begin <= end && end <= length, "ranges in order within {length} weights, got {decays:?}");
        while begin < end {
            let count = PART.min(end - begin);
            let (mut part, others) = rest.split(count);
            part.adamw.weight_decay = weight_decay;
            parts.push(part);
            (rest, begin) = (others, begin + count);
        }
    }
    let processor = Processor::detect();
    parts.into_par_iter().for_each(|part| processor.run(part));
}
