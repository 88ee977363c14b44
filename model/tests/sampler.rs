//! The kernels that sample on the CPU, compared with the same prior on Burn.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{assert_close, caption, config, greatest, image, long_config, prior, values};
use dalle_kernels::prior::{Cache as KernelCache, Sampler};
use dalle_kernels::simd::Processor;
use dalle_model::Device;
use dalle_model::config::ModelConfig;
use dalle_model::footprint::Footprint;
use dalle_model::precision::Precision;
use dalle_model::prior::{Cache, Masks, Prior};
use dalle_shared::{ImageToken, TextToken};

fn ids(caption: &[TextToken]) -> Vec<u32> {
    caption.iter().map(|id| id.0).collect()
}

fn numbers(tokens: &[ImageToken]) -> Vec<u32> {
    tokens.iter().map(|token| u32::from(token.0)).collect()
}

fn kernels(prior: &Prior, config: &ModelConfig) -> Sampler {
    prior.clone().into_kernels(config).expect("kernels support this configuration")
}

/// Differences of at most `tolerance` of the largest logit, over `steps` steps of three captions: two that have just begun, one of
/// them with three samples, and one whose first tokens are given.
#[track_caller]
fn same_logits(prior: &Prior, samplers: &[Sampler], config: &ModelConfig, steps: usize, tolerance: f32) {
    let masks = Masks::new(config, &prior.device());
    let (grid, longest) = (config.geometry().grid, config.text_length - 1);
    let captions = [(longest, 0, 1), (3, 0, 3), (0, 2 * grid + 1, 2)];
    let (mut expected_caches, mut starts) = (Vec::new(), Vec::new());
    let mut caches: Vec<Vec<KernelCache>> = vec![Vec::new(); samplers.len()];
    for (seed, (length, given, samples)) in (1..).zip(captions) {
        let (caption, image) = (caption(config, seed, length), image(config, 10 + seed));
        let (cache, logits) = prior.prefill(&masks, &caption, &image[..given]).unwrap();
        let expected = values(logits);
        for (sampler, caches) in samplers.iter().zip(&mut caches) {
            let (cache, got) = sampler.prefill(&ids(&caption), &numbers(&image[..given]));
            assert_close(&got, &expected, tolerance * greatest(&expected), "prefill");
            caches.push(cache.repeat(samples, sampler.sizes()));
        }
        expected_caches.push(cache.repeat(samples));
        starts.extend(vec![given; samples]);
    }
    let images: Vec<Vec<ImageToken>> =
        (0..starts.len() as u64).map(|seed| image(config, 20 + seed)).collect();
    for step in 0..steps {
        let tokens: Vec<ImageToken> =
            images.iter().zip(&starts).map(|(image, start)| image[start + step]).collect();
        let mut all: Vec<&mut Cache> = expected_caches.iter_mut().collect();
        let expected = values(prior.step(&mut all, &tokens).unwrap());
        for (sampler, caches) in samplers.iter().zip(&mut caches) {
            let mut all: Vec<&mut KernelCache> = caches.iter_mut().collect();
            let got = sampler.step(&mut all, &numbers(&tokens));
            assert_close(&got, &expected, tolerance * greatest(&expected), &format!("step {step}"));
        }
    }
    for (cache, expected) in caches.iter().flatten().zip(expected_caches.iter().cycle()) {
        assert_eq!(cache.bytes(), expected.bytes(), "what is kept");
    }
}

#[test]
fn sampling_by_kernels_has_burns_logits_whatever_the_vectors() {
    for config in [config("tiny"), long_config()] {
        let prior = prior(&config, &Device::flex());
        let sampler = kernels(&prior, &config);
        let samplers: Vec<Sampler> =
            Processor::all().into_iter().map(|processor| sampler.clone().with_processor(processor)).collect();
        let steps = config.geometry().image_length() - 2 * config.geometry().grid - 2;
        same_logits(&prior, &samplers, &config, steps, 1e-4);
    }
}

#[test]
fn sampling_by_kernels_has_burns_logits_at_the_shipped_models_size() {
    let config = config("emoji-128");
    let prior = prior(&config, &Device::flex());
    let sampler = kernels(&prior, &config);
    let read = Footprint::new(&config).step_bytes(Precision::F32, 0, 0);
    assert_eq!(sampler.step_bytes() as u64, read, "what a step reads beside caches");
    same_logits(&prior, &[sampler], &config, 100, 1e-4);
}

#[test]
fn sampling_by_kernels_has_burns_logits_at_a_size_that_threads_share() {
    let mut config = config("bench");
    (config.text_vocab, config.prior.layers) = (1000, 6);
    let prior = prior(&config, &Device::flex());
    // Sums of 2048 products, in other orders, through loud weights: most steps differ by 5e-5, some by 1.1e-4.
    same_logits(&prior, &[kernels(&prior, &config)], &config, 40, 3e-4);
}

/// Burn rounds what lies between matrices to 16 bits too, the kernels do not: they are nearer to f32.
#[test]
fn sixteen_bits_halve_weights_and_cache_and_are_nearer_to_f32_than_burns() {
    let (config, device) = (long_config(), Device::flex());
    let (exact, masks) = (prior(&config, &device), Masks::new(&config, &device));
    let (caption, image) = (caption(&config, 1, 5), image(&config, 2));
    let run = |sampler: &Sampler| {
        let (mut cache, mut all) = sampler.prefill(&ids(&caption), &numbers(&image[..3]));
        for token in &image[3..40] {
            all.extend(sampler.step(&mut [&mut cache], &[u32::from(token.0)]));
        }
        (all, cache.bytes())
    };
    let burn = |prior: &Prior| {
        let (mut cache, logits) = prior.prefill(&masks, &caption, &image[..3]).unwrap();
        let mut all = values(logits);
        for token in &image[3..40] {
            all.extend(values(prior.step(&mut [&mut cache], &[*token]).unwrap()));
        }
        all
    };
    let distance =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
    let (expected, bytes) = run(&kernels(&exact, &config));
    for (precision, tolerance) in [(Precision::Bf16, 0.05), (Precision::F16, 0.01)] {
        let rounded = exact.clone().with_precision(precision);
        let sampler = kernels(&rounded, &config);
        let (got, half) = run(&sampler);
        assert_close(&got, &expected, tolerance * greatest(&expected), &precision.to_string());
        assert!(distance(&got, &expected) < distance(&burn(&rounded), &expected), "{precision}");
        assert_ne!(got, expected, "{precision} is another type");
        assert_eq!(2 * half, bytes);
        assert_eq!(Footprint::new(&config).cache_bytes(precision, 1, 1), half as u64);
    }
}
