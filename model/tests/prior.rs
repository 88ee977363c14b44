//! The prior as a whole: its size, its agreement with PyTorch, its cache, its causality, its gradients.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{caption, config, image};
use dalle_model::Device;
use dalle_model::burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use dalle_model::burn::tensor::{Distribution, Gradients, Tensor};
use dalle_model::config::{DvaeConfig, ModelConfig, PriorConfig};
use dalle_model::prior::loss::{PriorLoss, TEXT_WEIGHT};
use dalle_model::prior::{Masks, Prior};
use dalle_model::weights::{count_parameters, from_safetensors};
use dalle_shared::{ImageToken, TextToken};
use safetensors::SafeTensors;

/// Random weights of a size at which every part matters: the initialisation's are so small that attention hardly does.
fn prior(config: &ModelConfig, device: &Device) -> Prior {
    struct Loud;
    impl ModuleMapper for Loud {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let tracked = tensor.is_autodiff();
                let quiet = tensor.inner();
                let loud = quiet.clone() + quiet.random_like(Distribution::Normal(0.0, 0.2));
                if tracked { Tensor::from_inner(loud).require_grad() } else { loud }
            })
        }
    }
    device.seed(7);
    Prior::new(config, device).map(&mut Loud)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn assert_close(a: &[f32], b: &[f32], tolerance: f32, what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let difference = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference <= tolerance, "{what}: differ by {difference}");
}

#[test]
fn paper_12b_has_12_09_billion_block_parameters() {
    let config = config("paper-12b");
    let prior = Prior::new(&config, &Device::flex());
    // 64 layers of 12·d² weights and 13·d biases and gains at d = 3968.
    let d = 3968_u64;
    assert_eq!(count_parameters(&prior, "blocks"), 64 * (12 * d * d + 13 * d));
    assert_eq!((count_parameters(&prior, "blocks") as f64 / 1e7).round() / 100.0, 12.10);
    let weights_alone = 64 * 12 * d * d;
    assert_eq!((weights_alone as f64 / 1e7).round() / 100.0, 12.09);
    let geometry = config.geometry();
    assert_eq!((geometry.grid, geometry.stream_length()), (32, 1280));
}

/// Layers, embeddings of each kind, masks, heads, both losses and their gradients, against a network that
/// `fixtures/prior/make.py` writes down from the paper, and PyTorch computes in double precision.
#[test]
fn the_network_its_losses_and_its_gradients_are_pytorchs() {
    /// What the file has of the gradients of the parameters, compared.
    struct Compare<'a> {
        file: &'a SafeTensors<'a>,
        gradients: &'a Gradients,
        path: Vec<String>,
        compared: usize,
    }
    impl ModuleVisitor for Compare<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let name = format!("gradient of {}", self.path.join("."));
            if self.file.tensor(&name).is_ok() {
                let gradient = param.val().grad(self.gradients).unwrap();
                let expected = read(self.file, &name);
                let greatest = expected.iter().fold(0f32, |greatest, value| greatest.max(value.abs()));
                assert_close(&values(gradient), &expected, 2e-5 * greatest, &name);
                self.compared += 1;
            }
        }
    }
    fn read(file: &SafeTensors, name: &str) -> Vec<f32> {
        let view = file.tensor(name).unwrap();
        view.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }
    let config = ModelConfig {
        text_length: 6,
        text_vocab: 11,
        image_size: 32,
        dvae: DvaeConfig { vocab: 7, ..config("tiny").dvae },
        prior: PriorConfig { layers: 7, heads: 2, head_dim: 4, conv_kernel: 3 },
        ..config("tiny")
    };
    let device = Device::flex().autodiff();
    let fresh = Prior::new(&config, &device);
    let network = from_safetensors(fresh, include_bytes!("fixtures/prior/model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(include_bytes!("fixtures/prior/expected.safetensors")).unwrap();
    let captions = [vec![3, 10], vec![], vec![0, 7, 7, 2, 5]]
        .map(|ids| ids.into_iter().map(TextToken).collect::<Vec<_>>());
    let captions: Vec<&[TextToken]> = captions.iter().map(Vec::as_slice).collect();
    let images: Vec<ImageToken> =
        read(&file, "images").into_iter().map(|token| ImageToken(token as u16)).collect();
    let images: Vec<&[ImageToken]> = images.chunks(16).collect();

    let logits = network.forward(&Masks::new(&config, &device), &captions, &images);
    assert_close(&values(logits.text.clone()), &read(&file, "text logits"), 1e-5, "text logits");
    assert_close(&values(logits.image.clone()), &read(&file, "image logits"), 1e-5, "image logits");
    let loss = PriorLoss::new(logits, &captions, &images);
    assert_close(&values(loss.text.clone()), &read(&file, "text loss"), 1e-6, "text loss");
    assert_close(&values(loss.image.clone()), &read(&file, "image loss"), 1e-6, "image loss");
    let total = loss.total();
    assert_close(&values(total.clone()), &read(&file, "total"), 1e-6, "total");
    let mut compare = Compare { file: &file, gradients: &total.backward(), path: Vec::new(), compared: 0 };
    network.visit(&mut compare);
    assert_eq!(compare.compared, 11);
}

#[test]
fn a_cached_step_equals_the_uncached_forward() {
    let (config, device) = (config("tiny"), Device::flex());
    let (prior, masks) = (prior(&config, &device), Masks::new(&config, &device));
    let captions = [caption(&config, 1, 5), caption(&config, 2, 0), caption(&config, 3, 15)];
    let images = [image(&config, 4), image(&config, 5), image(&config, 6)];
    let captions: Vec<_> = captions.iter().map(Vec::as_slice).collect();
    let rows: Vec<_> = images.iter().map(Vec::as_slice).collect();
    let vocab = config.dvae.vocab;
    let whole = values(prior.forward(&masks, &captions, &rows).image);
    let length = config.geometry().image_length();
    let expected = |sample: usize, position: usize| {
        let start = (sample * length + position) * vocab;
        &whole[start..start + vocab]
    };
    let (mut cache, logits) = prior.prefill(&masks, &captions);
    let mut logits = values(logits);
    for position in 0..length {
        for sample in 0..3 {
            let got = &logits[sample * vocab..(sample + 1) * vocab];
            assert_close(
                got,
                expected(sample, position),
                1e-4,
                &format!("sample {sample}, position {position}"),
            );
        }
        if position + 1 < length {
            let tokens: Vec<ImageToken> = images.iter().map(|image| image[position]).collect();
            logits = values(prior.step(&masks, &mut cache, &tokens, &[position; 3]));
        }
    }
}

#[test]
fn rows_at_different_positions_share_a_step() {
    let (config, device) = (config("tiny"), Device::flex());
    let (prior, masks) = (prior(&config, &device), Masks::new(&config, &device));
    let (a, b) = (caption(&config, 1, 5), caption(&config, 2, 7));
    let (x, y) = (image(&config, 3), image(&config, 4));
    let alone = |caption: &[_], image: &[ImageToken], steps: usize| {
        let (mut cache, _) = prior.prefill(&masks, &[caption]);
        let mut last = Vec::new();
        for position in 0..steps {
            last = values(prior.step(&masks, &mut cache, &image[position..=position], &[position]));
        }
        (cache, last)
    };
    let (cache_a, _) = alone(&a, &x, 6);
    let (cache_b, _) = alone(&b, &y, 2);
    let mut cache = cache_a.join(cache_b);
    let got = values(prior.step(&masks, &mut cache, &[x[6], y[2]], &[6, 2]));
    let expected = [alone(&a, &x, 7).1, alone(&b, &y, 3).1].concat();
    assert_close(&got, &expected, 1e-4, "two rows at positions 6 and 2");
}

/// Changing the token at one place may change only the logits of later places.
#[test]
fn changing_a_later_token_never_changes_an_earlier_logit() {
    let (config, device) = (config("tiny"), Device::flex());
    let (prior, masks) = (prior(&config, &device), Masks::new(&config, &device));
    let (caption, image) = (caption(&config, 1, 10), image(&config, 2));
    let run = |caption: &[_], image: &[_]| {
        let logits = prior.forward(&masks, &[caption], &[image]);
        let rows = |tensor: Tensor<3>, classes: usize| -> Vec<Vec<f32>> {
            values(tensor).chunks(classes).map(<[f32]>::to_vec).collect()
        };
        [rows(logits.text, config.text_vocab + 1), rows(logits.image, config.dvae.vocab)].concat()
    };
    let before = run(&caption, &image);
    let text_rows = config.text_length - 1;
    // Row r of the logits predicts token r of the stream (caption ids, then image tokens).
    let check = |after: Vec<Vec<f32>>, changed: usize| {
        for (row, (x, y)) in before.iter().zip(&after).enumerate() {
            if row <= changed {
                assert_eq!(x, y, "token {changed} changed the logits of token {row}");
            }
        }
        assert_ne!(before[changed + 1..], after[changed + 1..], "token {changed} is seen by nobody");
    };
    for place in 0..caption.len() {
        let mut other = caption.clone();
        other[place].0 = (other[place].0 + 1) % config.text_vocab as u32;
        check(run(&other, &image), place);
    }
    // The last image token is an input to nothing.
    for place in 0..image.len() - 1 {
        let mut other = image.clone();
        other[place].0 = (other[place].0 + 1) % config.dvae.vocab as u16;
        check(run(&caption, &other), text_rows + place);
    }
}

#[test]
fn the_loss_weighs_text_an_eighth_and_starts_near_that_of_chance() {
    let (config, device) = (config("tiny"), Device::flex());
    let (prior, masks) = (Prior::new(&config, &device), Masks::new(&config, &device));
    let (caption, image) = (caption(&config, 1, 5), image(&config, 2));
    let (captions, images) = ([caption.as_slice()], [image.as_slice()]);
    let loss = PriorLoss::new(prior.forward(&masks, &captions, &images), &captions, &images);
    let total = loss.total().into_scalar::<f32>();
    let (text, image) = (loss.text.into_scalar::<f32>(), loss.image.into_scalar::<f32>());
    assert!((text - ((config.text_vocab + 1) as f32).ln()).abs() < 0.2, "{text}");
    assert!((image - (config.dvae.vocab as f32).ln()).abs() < 0.2, "{image}");
    assert!((f64::from(total) - TEXT_WEIGHT * f64::from(text) - 0.875 * f64::from(image)).abs() < 1e-5);
}

/// The derivative of the loss along a random direction, by autodiff and by central differences.
#[test]
fn gradients_agree_with_finite_differences() {
    struct Shift {
        step: f64,
        seed: u64,
    }
    impl ModuleMapper for Shift {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.seed += 1;
            let seed = self.seed;
            param.map(|tensor| {
                let here = tensor.inner();
                let noise = direction(here.shape().num_elements(), seed, &here.device());
                let there = here.clone() + noise.reshape(here.shape()).mul_scalar(self.step);
                Tensor::from_inner(there).require_grad()
            })
        }
    }
    struct Along<'a> {
        gradients: &'a Gradients,
        seed: u64,
        sum: f64,
    }
    impl ModuleVisitor for Along<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.seed += 1;
            let gradient = param.val().grad(self.gradients).expect("every parameter has a gradient");
            let length = gradient.shape().num_elements();
            let noise = direction(length, self.seed, &gradient.device());
            self.sum += f64::from((gradient.reshape([length]) * noise).sum().into_scalar::<f32>());
        }
    }
    fn direction(length: usize, seed: u64, device: &Device) -> Tensor<1> {
        let signs: Vec<f32> = (0..length)
            .map(|place| if dalle_model::sample::uniform(seed, 1, place as u64) < 0.5 { -1.0 } else { 1.0 })
            .collect();
        Tensor::from_floats(signs.as_slice(), device)
    }
    let (config, device) = (config("tiny"), Device::flex().autodiff());
    let (network, masks) = (prior(&config, &device), Masks::new(&config, &device));
    let (caption, image) = (caption(&config, 1, 5), image(&config, 2));
    let (captions, images) = ([caption.as_slice()], [image.as_slice()]);
    let loss =
        |prior: &Prior| PriorLoss::new(prior.forward(&masks, &captions, &images), &captions, &images).total();
    let gradients = loss(&network).backward();
    let mut along = Along { gradients: &gradients, seed: 0, sum: 0.0 };
    network.visit(&mut along);
    let step = 2e-4;
    let at =
        |step: f64| f64::from(loss(&network.clone().map(&mut Shift { step, seed: 0 })).into_scalar::<f32>());
    let numeric = (at(step) - at(-step)) / (2.0 * step);
    let error = (along.sum - numeric).abs() / numeric.abs().max(1.0);
    assert!(error < 0.02, "autodiff {}, differences {numeric}", along.sum);
}
