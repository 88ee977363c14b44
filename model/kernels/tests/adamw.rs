//! AdamW against its definition in f64.

mod common;

use common::{assert_close, numbers};
use dalle_kernels::adamw::{AdamW, AdamWUpdate, sum_of_squares};
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
