//! A GPU computes what the processor computes: logits in every type that it has, gradients, pictures, scores.
//!
//! Without a GPU's backend this file is empty. On a machine that has one:
//!
//! ```sh
//! cargo test --release --package dalle-model --features cuda --test devices
//! ```
//!
//! or `--features wgpu` for any adapter of Vulkan, Metal or Direct3D, one in software too. `DALLE_TEST_DEVICE` names the device;
//! without it that is `cuda:0`, or `wgpu`.

#![cfg(any(feature = "cuda", feature = "wgpu"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::{assert_close, caption, config, image, long_config, prior, values};
use dalle_model::Device;
use dalle_model::burn::module::{Module, ModuleVisitor, Param};
use dalle_model::burn::tensor::{Distribution, FloatDType, Gradients, Tensor};
use dalle_model::clip::{Clip, ClipConfig, TowerConfig};
use dalle_model::device::{DeviceError, DeviceName};
use dalle_model::dvae::Dvae;
use dalle_model::dvae::loss::{DvaeLoss, gumbel_noise, gumbel_softmax};
use dalle_model::dvae::pixels::map_pixels;
use dalle_model::precision::Precision;
use dalle_model::prior::loss::PriorLoss;
use dalle_model::prior::{Masks, Prior};
use dalle_model::weights::{from_safetensors, to_safetensors};
use dalle_shared::TextToken;

/// The device under test.
fn name() -> DeviceName {
    let default = if cfg!(feature = "cuda") { "cuda:0" } else { "wgpu" };
    std::env::var("DALLE_TEST_DEVICE").unwrap_or_else(|_| default.to_owned()).parse().unwrap()
}

/// The same tensor on another device.
fn moved<const D: usize>(tensor: &Tensor<D>, device: &Device) -> Tensor<D> {
    Tensor::from_data(tensor.to_data(), device)
}

/// The gradient of every parameter, by its name.
fn gradients(module: &impl Module, gradients: &Gradients) -> BTreeMap<String, Vec<f32>> {
    struct Collect<'a> {
        gradients: &'a Gradients,
        path: Vec<String>,
        found: BTreeMap<String, Vec<f32>>,
    }
    impl ModuleVisitor for Collect<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = values(param.val().grad(self.gradients).unwrap());
            self.found.insert(self.path.join("."), gradient);
        }
    }
    let mut collect = Collect { gradients, path: Vec::new(), found: BTreeMap::new() };
    module.visit(&mut collect);
    collect.found
}

/// Compares relative to the greatest value expected.
fn assert_alike(got: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    let greatest = expected.iter().fold(0.0, |greatest: f32, value| greatest.max(value.abs()));
    assert_close(got, expected, tolerance * greatest, what);
}

/// Of gradients that pass through GELU: on GPUs Burn's derivative of it is that of an approximation by tanh, which the
/// processor's is not. Everything before the first one agrees within 1e-6.
const THROUGH_GELU: f32 = 2e-3;

/// Runs a loss on the processor and on the device, with the same weights, and compares it and its gradients.
fn compare_training<M: Module>(
    tolerance: f32,
    fresh: impl Fn(&Device) -> M,
    loss: impl Fn(&M, &Device) -> Tensor<1>,
) {
    let here = Device::flex();
    here.seed(7);
    let weights = to_safetensors(&fresh(&here), FloatDType::F32).unwrap();
    let [expected, got] = [here, name().open().unwrap()].map(|device| {
        let device = device.autodiff();
        let module = from_safetensors(fresh(&device), &weights).unwrap();
        let loss = loss(&module, &device);
        (values(loss.clone()), gradients(&module, &loss.backward()))
    });
    assert_alike(&got.0, &expected.0, 1e-5, "loss");
    assert!(!expected.1.is_empty());
    for (name, expected) in &expected.1 {
        assert_alike(&got.1[name], expected, tolerance, &format!("gradient of {name}"));
    }
}

/// A caption, the first rows of an image given, the others step by step: every logit on the way.
fn logits(prior: &Prior, masks: &Masks) -> Vec<f32> {
    let config = long_config();
    let (caption, image) = (caption(&config, 1, 5), image(&config, 2));
    let (cache, first) = prior.prefill(masks, &caption, &image[..9]);
    let mut cache = cache.repeat(2);
    let mut all = values(first);
    for &token in &image[9..40] {
        all.extend(values(prior.step(&mut [&mut cache], &[token, token])));
    }
    all
}

#[test]
fn logits_are_those_of_the_processor_in_every_type() {
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
fn the_priors_gradients_are_those_of_the_processor() {
    let config = long_config();
    let captions = [caption(&config, 1, 5), caption(&config, 2, 0)];
    let captions: Vec<&[TextToken]> = captions.iter().map(Vec::as_slice).collect();
    let images = [image(&config, 3), image(&config, 4)];
    let images = images.each_ref().map(Vec::as_slice);
    let targets: Vec<Option<&[TextToken]>> = captions.iter().copied().map(Some).collect();
    compare_training(
        THROUGH_GELU,
        |device| prior(&config, device),
        |prior, device| {
            let logits = prior.forward(&Masks::new(&config, device), &captions, &images);
            PriorLoss::new(logits, &targets, &images).total()
        },
    );
}

#[test]
fn the_dvaes_gradients_are_those_of_the_processor() {
    let (config, here) = (config("tiny").dvae, Device::flex());
    let pictures = Tensor::random([2, 3, 32, 32], Distribution::Uniform(0.0, 1.0), &here);
    let noise = gumbel_noise(&Tensor::zeros([2, config.vocab, 4, 4], &here));
    compare_training(
        1e-5,
        |device| Dvae::new(&config, device),
        |dvae, device| {
            let pictures = map_pixels(moved(&pictures, device));
            let logits = dvae.encoder.forward(pictures.clone());
            let codes = gumbel_softmax(logits.clone(), moved(&noise, device), 0.5);
            DvaeLoss::new(dvae.decoder.forward(codes), pictures, logits).total(6.6)
        },
    );
}

#[test]
fn the_contrastive_models_gradients_are_those_of_the_processor() {
    let (config, here) = (config("tiny"), Device::flex());
    let tower = |width, layers, heads| TowerConfig { width, layers, heads };
    let (text, image) = (tower(16, 2, 2), tower(24, 2, 3));
    let clip = ClipConfig { embedding: 10, patch: 8, text, image, tokenizer: None };
    let captions = [caption(&config, 1, 5), caption(&config, 2, 3), caption(&config, 3, 9)];
    let captions: Vec<&[TextToken]> = captions.iter().map(Vec::as_slice).collect();
    let pictures = Tensor::random([3, 3, 32, 32], Distribution::Uniform(0.0, 1.0), &here);
    compare_training(
        THROUGH_GELU,
        |device| Clip::new(&clip, &config, device),
        |clip, device| clip.loss(&captions, moved(&pictures, device)).loss,
    );
}

#[test]
fn pictures_are_those_of_the_processor() {
    let (config, here) = (config("tiny"), Device::flex());
    let fresh = |device: &Device| Dvae::new(&config.dvae, device);
    let weights = to_safetensors(&fresh(&here), FloatDType::F32).unwrap();
    let tokens = image(&config, 1);
    let [expected, got] = [here, name().open().unwrap()].map(|device| {
        let dvae = from_safetensors(fresh(&device), &weights).unwrap();
        dvae.decoder.decode_rgb(&tokens, config.geometry().grid)
    });
    assert_eq!(got.len(), expected.len());
    assert!(got.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 1), "more than 1 of 255 apart");
}
