//! AdamW against its definition in f64.

mod common;

use common::{assert_close, numbers};
use dalle_kernels::adamw::{AdamW, AdamWUpdate, sum_of_squares, update_flat};
use dalle_kernels::formats::{F0_6_10, F1_6_9, Stored};
use dalle_kernels::simd::Processor;

#[test]
fn updates_follow_the_definition() {
    let length = 37;
    for processor in Processor::all() {
        let [mut weight, mut mean, mut variance] = [numbers(length, 1), vec![0.0; length], vec![0.0; length]];
        let mut average = weight.clone();
        let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
        let (mut w, mut m, mut v, mut a) =
            (wide(&weight), vec![0.0; length], vec![0.0; length], wide(&weight));
        for step in 1..6 {
            let adamw = AdamW {
                beta1: 0.9,
                beta2: 0.96,
                epsilon: 1e-8,
                update: step,
                learning_rate: 0.01,
                weight_decay: 0.045,
                clip: 0.5,
                max_variance: 0.05,
                ewma: 0.99,
            };
            let gradient: Vec<f32> = numbers(length, 10 + step as u32).iter().map(|g| 5.0 * g).collect();
            processor.run(AdamWUpdate {
                adamw,
                gradient: &gradient,
                weight: &mut weight,
                mean: &mut mean,
                variance: &mut variance,
                average: &mut average,
            });
            for i in 0..length {
                let g = 0.5 * f64::from(gradient[i]);
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = (0.96 * v[i] + 0.04 * g * g).min(0.05);
                let unbiased = (v[i] / (1.0 - 0.96f64.powf(step as f64))).sqrt();
                let direction = m[i] / (1.0 - 0.9f64.powf(step as f64)) / (unbiased + 1e-8);
                w[i] = w[i] * (1.0 - 0.01 * 0.045) - 0.01 * direction;
                a[i] = 0.99 * a[i] + 0.01 * w[i];
            }
        }
        let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect::<Vec<_>>();
        for (got, expected) in [(&weight, &w), (&mean, &m), (&variance, &v), (&average, &a)] {
            assert_close(got, &narrow(expected), 1e-5, "state");
        }
    }
}

#[test]
fn an_update_on_all_threads_is_that_on_one() {
    let length = (1 << 16) + 7;
    let adamw = AdamW {
        beta1: 0.9,
        beta2: 0.96,
        epsilon: 1e-8,
        update: 3,
        learning_rate: 0.01,
        weight_decay: 0.045,
        clip: 0.5,
        max_variance: 0.05,
        ewma: 0.99,
    };
    let gradient = numbers(length, 1);
    let run = |update: &dyn Fn(AdamWUpdate<'_>)| {
        let [mut weight, mut mean, mut average] = [2, 3, 4].map(|seed| numbers(length, seed));
        let mut variance: Vec<f32> = numbers(length, 5).iter().map(|x| x * x).collect();
        let (mean, variance, average) = (&mut mean[..], &mut variance[..], &mut average[..]);
        update(AdamWUpdate { adamw, gradient: &gradient, weight: &mut weight, mean, variance, average });
        [weight, mean.to_vec(), variance.to_vec(), average.to_vec()]
    };
    let alone = run(&|update| Processor::detect().run(update));
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert!(pool.install(|| run(&|update| update.run())) == alone, "{threads} threads");
    }
}

#[test]
fn squares_are_added_up_exactly_enough_and_alike_on_any_number_of_threads() {
    let x: Vec<f32> = numbers(100_003, 1).iter().enumerate().map(|(i, x)| x * (1 + i % 50) as f32).collect();
    let expected: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let sums = [1, 2, 5].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| sum_of_squares(&x))
    });
    assert!(sums[1..].iter().all(|sum| *sum == sums[0]), "{sums:?}");
    assert!((sums[0] / expected - 1.0).abs() < 1e-6, "{} {expected}", sums[0]);
    assert!(sum_of_squares(&[1.0, f32::NAN]).is_nan());
    assert_eq!(sum_of_squares(&[]), 0.0);
}

/// What a plain loop makes of some parameters, one value at a time.
struct Plain<M, V> {
    weight: Vec<f32>,
    mean: Vec<M>,
    variance: Vec<V>,
    average: Vec<f32>,
}

impl<M: Stored, V: Stored> Plain<M, V> {
    fn new(weight: &[f32]) -> Self {
        let length = weight.len();
        let (weight, average) = (weight.to_vec(), weight.to_vec());
        Self { weight, mean: vec![M::default(); length], variance: vec![V::default(); length], average }
    }

    fn update(&mut self, adamw: AdamW, gradient: &[f32], decays: impl Fn(usize) -> bool) {
        for (i, gradient) in gradient.iter().enumerate() {
            let g = adamw.clip * f64::from(*gradient);
            let m = adamw.beta1 * f64::from(self.mean[i].to_f32()) + (1.0 - adamw.beta1) * g;
            let v = adamw.beta2 * f64::from(self.variance[i].to_f32()) + (1.0 - adamw.beta2) * g * g;
            let v = v.min(adamw.max_variance);
            (self.mean[i], self.variance[i]) = (M::from_f32(m as f32), V::from_f32(v as f32));
            let corrected = |value: f64, beta: f64| value / (1.0 - beta.powf(adamw.update as f64));
            let direction = corrected(m, adamw.beta1) / (corrected(v, adamw.beta2).sqrt() + adamw.epsilon);
            let decay = if decays(i) { adamw.learning_rate * adamw.weight_decay } else { 0.0 };
            let weight = f64::from(self.weight[i]) * (1.0 - decay) - adamw.learning_rate * direction;
            self.weight[i] = weight as f32;
            let average = adamw.ewma * f64::from(self.average[i]) + (1.0 - adamw.ewma) * weight;
            self.average[i] = average as f32;
        }
    }
}

/// Many updates of a flat slice, longer than what a thread updates at once, beside the plain loop. Returns the greatest difference
/// of mean and variance as a part of the gradients' size.
fn check_flat<M: Stored, V: Stored>() -> f32 {
    let length = 70_001;
    let initial = numbers(length, 3);
    let mut plain = Plain::<M, V>::new(&initial);
    let mut flat = Plain::<M, V>::new(&initial);
    let decays = [0..5, 100..100, 1000..50_000, 60_000..70_001];
    for update in 1..=20 {
        let adamw = AdamW {
            beta1: 0.9,
            beta2: 0.96,
            epsilon: 1e-8,
            update,
            learning_rate: 1e-3,
            weight_decay: 0.045,
            clip: 0.5,
            max_variance: 0.02,
            ewma: 0.99,
        };
        // From far below one to large ones, whose variance is clipped.
        let mut gradient = numbers(length, 50 + update as u32);
        for (i, gradient) in gradient.iter_mut().enumerate() {
            *gradient *= 10f32.powi((i % 12) as i32 - 9);
        }
        plain.update(adamw, &gradient, |i| decays.iter().any(|range| range.contains(&i)));
        let Plain { weight, mean, variance, average } = &mut flat;
        update_flat(AdamWUpdate { adamw, gradient: &gradient, weight, mean, variance, average }, &decays);
    }
    assert_close(&flat.weight, &plain.weight, 1e-5, "weights");
    assert_close(&flat.average, &plain.average, 1e-5, "averages");
    assert!(flat.variance.iter().all(|variance| variance.to_f32() <= V::from_f32(0.02).to_f32()));
    let mut worst: f32 = 0.0;
    for i in 0..length {
        let ([m, expected_m], [v, expected_v]) = (
            [flat.mean[i], plain.mean[i]].map(M::to_f32),
            [flat.variance[i], plain.variance[i]].map(V::to_f32),
        );
        // A mean of gradients that cancel is as exact as they are.
        worst = worst.max((m - expected_m).abs() / (expected_m.abs() + expected_v.sqrt() + 1e-30));
        worst = worst.max((v - expected_v).abs() / (expected_v + 1e-30));
    }
    worst
}

#[test]
fn a_flat_slice_with_moments_in_32_bits_is_updated_as_value_by_value() {
    let worst = check_flat::<f32, f32>();
    assert!(worst < 1e-4, "{worst}");
}

#[test]
fn a_flat_slice_with_moments_in_16_bits_is_updated_as_value_by_value() {
    // A value between two codes may be rounded to either: a step of 2⁻⁹.
    let worst = check_flat::<F1_6_9, F0_6_10>();
    assert!(worst < 2.1 * 2f32.powi(-9), "{worst}");
}

#[test]
fn sixteen_bits_move_at_the_papers_decays() {
    // A mean that decays by 0.9 and a variance by 0.96 reach a constant gradient's within a step of their formats.
    let (length, gradient) = (1, [0.3]);
    let mut state = Plain::<F1_6_9, F0_6_10>::new(&vec![0.0; length]);
    for update in 1..=300 {
        let adamw = AdamW {
            beta1: 0.9,
            beta2: 0.96,
            epsilon: 1e-8,
            update,
            learning_rate: 1e-3,
            weight_decay: 0.0,
            clip: 1.0,
            max_variance: 5.0,
            ewma: 0.0,
        };
        let Plain { weight, mean, variance, average } = &mut state;
        update_flat(AdamWUpdate { adamw, gradient: &gradient, weight, mean, variance, average }, &[]);
    }
    let (mean, variance) = (state.mean[0].to_f32(), state.variance[0].to_f32());
    assert!((mean / 0.3 - 1.0).abs() < 0.01, "{mean}");
    assert!((variance / 0.09 - 1.0).abs() < 0.015, "{variance}");
}
