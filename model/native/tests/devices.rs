//! A GPU computes what the CPU computes: logits in every type that it supports, gradients, images and scores.
//!
//! Built without a GPU backend, this file is empty. On a machine with a GPU:
//!
//! ```sh
//! cargo test --release --package dalle-native --features cuda --test devices
//! ```
//!
//! Use `--features wgpu` for any adapter of Vulkan, Metal or Direct3D, including software adapters. `DALLE_TEST_DEVICE` selects the
//! device (default: `cuda:0`, or `wgpu`).

#![cfg(any(feature = "cuda", feature = "wgpu"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../tests/common/mod.rs"]
mod common;

use common::{
    assert_close, caption, config, gradients, greatest, image, long_config, loud, prior, random, values,
};
use dalle_model::Device;
use dalle_model::burn::module::Module;
use dalle_model::burn::tensor::activation::sigmoid;
use dalle_model::burn::tensor::{FloatDType, Tensor};
use dalle_model::clip::{Clip, ClipConfig, TowerConfig};
use dalle_model::dvae::Dvae;
use dalle_model::dvae::loss::{DvaeLoss, gumbel_softmax};
use dalle_model::dvae::pixels::map_pixels;
use dalle_model::precision::Precision;
use dalle_model::prior::loss::PriorLoss;
use dalle_model::prior::{Masks, Prior};
use dalle_model::weights::{from_safetensors, to_safetensors};
use dalle_native::device::{DeviceError, DeviceName};
use dalle_shared::TextToken;

/// The device under test.
fn name() -> DeviceName {
    let default = if cfg!(feature = "cuda") { "cuda:0" } else { "wgpu" };
    std::env::var("DALLE_TEST_DEVICE").unwrap_or_else(|_| default.to_owned()).parse().unwrap()
}

/// Random images with pixels in `[0, 1]`: `[count, 3, 32, 32]`.
fn images(count: usize, device: &Device) -> Tensor<4> {
    sigmoid(random(1, [count, 3, 32, 32], device))
}

/// Compares relative to the largest expected value.
fn assert_alike(got: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_close(got, expected, tolerance * greatest(expected), what);
}

/// Tolerance of gradients that pass through GELU. On GPUs Burn differentiates its tanh approximation, on the CPU the exact function.
/// Gradients that do not pass through it agree within 1e-6.
const THROUGH_GELU: f32 = 2e-3;

/// Computes a loss on the CPU and on the device, with the same weights, and compares it and its gradients.
fn compare_training<M: Module>(
    tolerance: f32,
    fresh: impl Fn(&Device) -> M,
    loss: impl Fn(&M, &Device) -> Tensor<1>,
) {
    let [expected, got] = [Device::flex(), name().open().unwrap()].map(|device| {
        let device = device.autodiff();
        let module = loud(fresh(&device));
        let loss = loss(&module, &device);
        (values(loss.clone()), gradients(&module, &loss.backward()))
    });
    assert_alike(&got.0, &expected.0, 1e-5, "loss");
    assert!(!expected.1.is_empty());
    for (name, expected) in &expected.1 {
        assert_alike(&got.1[name], expected, tolerance, &format!("gradient of {name}"));
    }
}

/// All logits of sampling an image for a caption, with the first rows as prefix and the others step by step.
fn logits(prior: &Prior, masks: &Masks) -> Vec<f32> {
    let config = long_config();
    let (caption, image) = (caption(&config, 1, 5), image(&config, 2));
    let (cache, first) = prior.prefill(masks, &caption, &image[..9]).unwrap();
    let mut cache = cache.repeat(2);
    let mut all = values(first);
    for &token in &image[9..40] {
        all.extend(values(prior.step(&mut [&mut cache], &[token, token]).unwrap()));
    }
    all
}

#[test]
fn logits_match_the_cpu_in_every_precision() {
    let (config, here) = (long_config(), Device::flex());
    let exact = prior(&config, &here);
    let weights = to_safetensors(&exact, FloatDType::F32).unwrap();
    let expected = logits(&exact, &Masks::new(&config, &here));
    let mut tested = 0;
    for (precision, tolerance) in [(Precision::F32, 1e-4), (Precision::Bf16, 0.05), (Precision::F16, 0.01)] {
        let device = match name().open_for(precision) {
            Ok(device) => device,
            Err(refusal @ DeviceError::Precision { .. }) => {
                assert_ne!(precision, Precision::F32, "{refusal}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let fresh = Prior::new(&config, &device).with_precision(precision);
        let prior = from_safetensors(fresh, &weights).unwrap();
        let got = logits(&prior, &Masks::new(&config, &device));
        assert_alike(&got, &expected, tolerance, &precision.to_string());
        tested += 1;
    }
    assert!(tested > 0);
}

#[test]
fn gradients_of_the_prior_match_the_cpu() {
    let config = long_config();
    let captions = [caption(&config, 1, 5), caption(&config, 2, 0)];
    let captions: Vec<&[TextToken]> = captions.iter().map(Vec::as_slice).collect();
    let images = [image(&config, 3), image(&config, 4)];
    let images = images.each_ref().map(Vec::as_slice);
    let targets: Vec<Option<&[TextToken]>> = captions.iter().copied().map(Some).collect();
    compare_training(
        THROUGH_GELU,
        |device| Prior::new(&config, device),
        |prior, device| {
            let logits = prior.forward(&Masks::new(&config, device), &captions, &images).unwrap();
            PriorLoss::new(logits, &targets, &images).total()
        },
    );
}

#[test]
fn gradients_of_the_dvae_match_the_cpu() {
    let config = config("tiny").dvae;
    compare_training(
        1e-5,
        |device| Dvae::new(&config, device),
        |dvae, device| {
            let images = map_pixels(images(2, device));
            let logits = dvae.encoder.forward(images.clone());
            let noise = random(2, [2, config.vocab, 4, 4], device);
            let codes = gumbel_softmax(logits.clone(), noise, 0.5);
            DvaeLoss::new(dvae.decoder.forward(codes), images, logits).total(6.6)
        },
    );
}

#[test]
fn gradients_of_clip_match_the_cpu() {
    let config = config("tiny");
    let tower = |width, layers, heads| TowerConfig { width, layers, heads };
    let (text, image) = (tower(16, 2, 2), tower(24, 2, 3));
    let clip = ClipConfig { embedding: 10, patch: 8, text, image, tokenizer: None };
    let captions = [caption(&config, 1, 5), caption(&config, 2, 3), caption(&config, 3, 9)];
    let captions: Vec<&[TextToken]> = captions.iter().map(Vec::as_slice).collect();
    compare_training(
        THROUGH_GELU,
        |device| Clip::new(&clip, &config, device),
        |clip, device| clip.loss(&captions, images(3, device)).unwrap().loss,
    );
}

#[test]
fn images_match_the_cpu() {
    let config = config("tiny");
    let tokens = image(&config, 1);
    let [expected, got] = [Device::flex(), name().open().unwrap()].map(|device| {
        let dvae = loud(Dvae::new(&config.dvae, &device));
        dvae.decoder.decode_rgb(&tokens, config.geometry().grid).unwrap()
    });
    assert_eq!(got.len(), expected.len());
    assert!(got.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 1), "more than 1 of 255 apart");
}

#[cfg(feature = "cuda")]
#[test]
fn a_missing_gpu_is_refused() {
    let absent = DeviceName::Cuda(4096);
    assert!(matches!(absent.open(), Err(DeviceError::Unusable { device, .. }) if device == absent));
    let sentence = absent.open().unwrap_err().to_string();
    assert!(sentence.contains("cuda:4096 cannot be used") && sentence.contains("driver"), "{sentence}");
}
