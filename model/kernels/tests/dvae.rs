//! The whole update: its gradient against differences of its loss, and what it must not depend on.

mod common;

use std::sync::Mutex;

use common::numbers;
use dalle_kernels::dvae::{DvaeLosses, DvaeNetwork, DvaeSizes, DvaeUpdate, ImageNoise};

const SIZES: DvaeSizes = DvaeSizes { n_hid: 20, n_init: 12, blocks_per_group: 2, vocab: 11 };

fn parameters(network: &DvaeNetwork) -> Vec<f32> {
    let mut values = numbers(network.length(), 1);
    for parameter in &network.parameters {
        let fan_in: usize = parameter.shape[1..].iter().product();
        // Loud residual paths, so that their share of the gradient is seen.
        let loud = if parameter.name.contains("conv_4") { 4.0 } else { 1.0 };
        let scale = loud * (3.0 / fan_in as f32).sqrt();
        for value in &mut values[parameter.offset..][..parameter.length()] {
            *value *= if parameter.shape.len() == 1 { 0.1 } else { scale };
        }
    }
    values
}

fn images(count: usize, height: usize, width: usize) -> Vec<f32> {
    numbers(count * 3 * height * width, 2).iter().map(|x| 0.5 + 0.4 * x).collect()
}

#[test]
fn the_gradient_of_every_parameter_is_the_slope_of_the_loss() {
    for sizes in
        [SIZES, DvaeSizes { n_init: 160, ..SIZES }].map(|sizes| DvaeSizes { blocks_per_group: 1, ..sizes })
    {
        let (height, width, beta, tau) = (24, 16, 1.5, 0.7);
        let mut update = DvaeUpdate::new(sizes, height, width);
        let network = update.network().clone();
        let (parameters, images) = (parameters(&network), images(3, height, width));
        let noise = numbers(3 * sizes.vocab * height * width / 64, 3);
        let mut run = |parameters: &[f32], gradients: &mut [f32]| {
            let losses = update.run(parameters, &images, ImageNoise::Given(&noise), tau, beta, gradients);
            losses.reconstruction + f64::from(beta) * losses.kl
        };
        let mut gradients = vec![0.0; parameters.len()];
        run(&parameters, &mut gradients);
        let mut unused = gradients.clone();
        for (seed, parameter) in network.parameters.iter().enumerate() {
            let range = parameter.offset..parameter.offset + parameter.length();
            let direction = numbers(range.len(), 100 + seed as u32);
            let slope: f64 = gradients[range.clone()]
                .iter()
                .zip(&direction)
                .map(|(gradient, direction)| f64::from(*gradient) * f64::from(*direction))
                .sum();
            let step = 4e-3 / (range.len() as f32).sqrt().max(1.0);
            let mut at = |step: f32| {
                let mut moved = parameters.clone();
                for (value, direction) in moved[range.clone()].iter_mut().zip(&direction) {
                    *value += step * direction;
                }
                run(&moved, &mut unused)
            };
            let measured = (at(step) - at(-step)) / (2.0 * f64::from(step));
            let norm: f64 =
                gradients[range].iter().map(|gradient| f64::from(gradient.powi(2))).sum::<f64>().sqrt();
            assert!(norm > 0.0, "{}: no gradient", parameter.name);
            assert!(
                (slope - measured).abs() < 0.02 * norm + 2e-4,
                "{}: slope {slope}, measured {measured}, norm {norm}",
                parameter.name
            );
        }
    }
}

#[test]
fn a_decoder_trained_alone_has_the_slope_of_its_loss_and_leaves_the_encoder() {
    let (height, width) = (24, 16);
    let mut update = DvaeUpdate::new(SIZES, height, width);
    let network = update.network().clone();
    let (parameters, images) = (parameters(&network), images(3, height, width));
    let mut gradients = vec![f32::NAN; parameters.len()];
    let losses = update.run_decoder(&parameters, &images, &mut gradients);
    let evaluation = update.evaluate(&parameters, &images, None);
    assert!((losses.reconstruction - evaluation.reconstruction).abs() < 1e-6, "{losses:?} {evaluation:?}");
    assert!((losses.kl - evaluation.kl).abs() < 1e-6, "{losses:?} {evaluation:?}");
    for parameter in network.encoder() {
        let range = parameter.offset..parameter.offset + parameter.length();
        assert!(gradients[range].iter().all(|gradient| *gradient == 0.0), "{}", parameter.name);
    }
    for (seed, parameter) in network.decoder().iter().enumerate() {
        let range = parameter.offset..parameter.offset + parameter.length();
        let direction = numbers(range.len(), 100 + seed as u32);
        let own = gradients[range.clone()].iter().zip(&direction);
        let slope: f64 = own.map(|(gradient, direction)| f64::from(gradient * direction)).sum();
        let step = 4e-3 / (range.len() as f32).sqrt().max(1.0);
        let mut at = |step: f32| {
            let mut moved = parameters.clone();
            for (value, direction) in moved[range.clone()].iter_mut().zip(&direction) {
                *value += step * direction;
            }
            update.evaluate(&moved, &images, None).reconstruction
        };
        let difference = (at(step) - at(-step)) / f64::from(2.0 * step);
        let squares = gradients[range].iter().map(|gradient| f64::from(gradient.powi(2)));
        let norm = squares.sum::<f64>().sqrt();
        assert!(norm > 0.0, "{}: no gradient", parameter.name);
        let error = (slope - difference).abs();
        assert!(error < 0.02 * norm + 2e-4, "{}: {slope} {difference} {norm}", parameter.name);
    }
}

#[test]
fn a_batch_is_the_mean_of_its_images_and_the_same_on_any_number_of_threads() {
    let (height, width, vocab) = (16, 40, SIZES.vocab);
    let update = Mutex::new(DvaeUpdate::new(SIZES, height, width));
    let parameters = parameters(update.lock().expect("no panic").network());
    let images = images(11, height, width);
    let noise = numbers(11 * vocab * height * width / 64, 3);
    let run = |images: &[f32], noise: &[f32]| -> (DvaeLosses, Vec<f32>) {
        let mut gradients = vec![0.0; parameters.len()];
        let mut update = update.lock().expect("no panic");
        let losses = update.run(&parameters, images, ImageNoise::Given(noise), 0.5, 2.0, &mut gradients);
        (losses, gradients)
    };
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| run(&images, &noise))
    };
    let (losses, gradients) = on(1);
    for threads in [2, 3, 8] {
        assert!(on(threads) == (losses.clone(), gradients.clone()), "{threads} threads");
    }
    let mut mean = vec![0.0; parameters.len()];
    let mut codes = Vec::new();
    for (image, noise) in images.chunks_exact(images.len() / 11).zip(noise.chunks_exact(noise.len() / 11)) {
        let (losses, gradients) = run(image, noise);
        codes.extend(losses.codes);
        for (mean, gradient) in mean.iter_mut().zip(gradients) {
            *mean += gradient / 11.0;
        }
    }
    assert_eq!(codes, losses.codes);
    common::assert_close(&gradients, &mean, 1e-5, "gradients");
}

#[test]
fn generated_noise_is_gumbel_noise_and_depends_on_key_and_place() {
    use dalle_kernels::grid::Grid;
    use dalle_kernels::simd::Processor;
    let grid = Grid::new(1, 8, 12, 1);
    let entries = 400;
    let sample = |processor: Processor, key: u64| {
        let mut map = grid.map(entries);
        processor.run(dalle_kernels::codes::Noise { grid: &grid, key, noise: &mut map });
        let mut values = vec![0.0; entries * 96];
        grid.read(&map, 0, &mut values);
        values
    };
    let values = sample(Processor::detect(), 1);
    let count = values.len() as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let variance = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
    // Euler's constant and π²/6, four standard errors wide.
    assert!((mean - 0.577_216).abs() < 4.0 * (variance / count).sqrt(), "mean {mean}");
    assert!((variance - std::f64::consts::PI.powi(2) / 6.0).abs() < 0.08, "variance {variance}");
    for key in [2, 1 << 32 | 1] {
        let other = sample(Processor::detect(), key);
        assert!(values.iter().zip(&other).filter(|(a, b)| a == b).count() < 4, "key {key}");
    }
    for processor in Processor::all() {
        common::assert_close(&sample(processor, 1), &values, 1e-5, "another processor");
    }
}

#[test]
fn an_evaluation_has_the_relaxed_loss_and_that_of_nearly_hard_codes() {
    let (height, width) = (24, 16);
    let mut update = DvaeUpdate::new(SIZES, height, width);
    let parameters = parameters(update.network());
    let images = images(3, height, width);
    let places = 3 * height * width / 64;
    let mut unused = vec![0.0; parameters.len()];
    let keys = ImageNoise::Keys(&[5, 6, 7]);
    let losses = update.run(&parameters, &images, keys, 0.5, 1.0, &mut unused);
    let evaluation = update.evaluate(&parameters, &images, Some((keys, 0.5)));
    assert_eq!(evaluation.relaxed, Some(losses.reconstruction));
    assert!((evaluation.kl - losses.kl).abs() < 1e-9);
    // Without noise and at a low temperature the relaxed codes are the most likely ones.
    let silent = vec![0.0; places * SIZES.vocab];
    let cold = update.run(&parameters, &images, ImageNoise::Given(&silent), 1e-6, 1.0, &mut unused);
    let evaluation = update.evaluate(&parameters, &images, None);
    assert_eq!(evaluation.relaxed, None);
    let (hard, cold) = (evaluation.reconstruction, cold.reconstruction);
    assert!((hard - cold).abs() < 1e-6, "{hard} and {cold}");
}
