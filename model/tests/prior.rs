//! The prior as a whole: size, agreement with PyTorch, cache, causality and gradients.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{assert_close, caption, config, gradients, greatest, image, long_config, prior, values};
use dalle_model::Device;
use dalle_model::burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use dalle_model::burn::tensor::{Gradients, Tensor};
use dalle_model::config::{DvaeConfig, ModelConfig, PriorConfig};
use dalle_model::footprint::Footprint;
use dalle_model::precision::Precision;
use dalle_model::prior::loss::{PriorLoss, TEXT_WEIGHT};
use dalle_model::prior::mask::{Pattern, StreamLayout};
use dalle_model::prior::{Masks, Prior, TextCache};
use dalle_model::weights::{self, count_parameters, from_safetensors};
use dalle_shared::{ImageToken, TextToken};
use safetensors::SafeTensors;

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

/// Compares logits, both losses and gradients with an implementation of the paper in `fixtures/prior/make.py`, which PyTorch runs
/// in double precision.
#[test]
fn logits_losses_and_gradients_match_pytorch() {
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

    let logits = network.forward(&Masks::new(&config, &device), &captions, &images).unwrap();
    assert_close(&values(logits.text.clone()), &read(&file, "text logits"), 1e-5, "text logits");
    assert_close(&values(logits.image.clone()), &read(&file, "image logits"), 1e-5, "image logits");
    let targets: Vec<Option<&[TextToken]>> = captions.iter().copied().map(Some).collect();
    let loss = PriorLoss::new(logits, &targets, &images);
    assert_close(&values(loss.text.clone()), &read(&file, "text loss"), 1e-6, "text loss");
    assert_close(&values(loss.image.clone()), &read(&file, "image loss"), 1e-6, "image loss");
    let total = loss.total();
    assert_close(&values(total.clone()), &read(&file, "total"), 1e-6, "total");
    // The file has the gradients of some parameters, at least one of each kind.
    let gradients = gradients(&network, &total.backward());
    let kept: Vec<_> =
        file.names().into_iter().filter_map(|name| name.strip_prefix("gradient of ")).collect();
    assert_eq!(kept.len(), 11);
    for name in kept {
        let expected = read(&file, &format!("gradient of {name}"));
        assert_close(&gradients[name], &expected, 2e-5 * greatest(&expected), name);
    }
}

#[test]
fn continuing_a_caption_step_by_step_gives_the_logits_of_the_full_forward() {
    let (config, device) = (config("tiny"), Device::flex());
    let (prior, masks) = (prior(&config, &device), Masks::new(&config, &device));
    let caption = caption(&config, 1, config.text_length - 1);
    let whole = values(prior.forward(&masks, &[&caption], &[&image(&config, 2)]).unwrap().text);
    let classes = config.text_vocab + 1;
    let mut cache = TextCache::default();
    // The first three ids at once, then one by one. Row r of the logits predicts id r.
    for length in 3..caption.len() {
        let got = values(prior.continue_text(&masks, &mut cache, &caption[..length]).unwrap());
        let expected = &whole[length * classes..(length + 1) * classes];
        assert_close(&got, expected, 1e-4, &format!("{length} ids"));
    }
}

#[test]
fn a_cached_step_equals_the_uncached_forward() {
    for config in [config("tiny"), long_config()] {
        let device = Device::flex();
        let (prior, masks) = (prior(&config, &device), Masks::new(&config, &device));
        let captions = [caption(&config, 1, 5), caption(&config, 2, 0), caption(&config, 3, 15)];
        let images = [image(&config, 4), image(&config, 5), image(&config, 6)];
        let (vocab, length) = (config.dvae.vocab, config.geometry().image_length());
        for (caption, given) in captions.iter().zip([0, 1, length / 2 + 1]) {
            // Two samples of one caption with a prefix.
            let images = images.each_ref().map(|image| [&images[0][..given], &image[given..]].concat());
            let rows = [images[1].as_slice(), &images[2]];
            let whole = values(prior.forward(&masks, &[caption, caption], &rows).unwrap().image);
            let expected = |position: usize| {
                [0, 1].map(|sample| {
                    let start = (sample * length + position) * vocab;
                    whole[start..start + vocab].to_vec()
                })
            };
            let (cache, logits) = prior.prefill(&masks, caption, &rows[0][..given]).unwrap();
            let mut cache = cache.repeat(2);
            assert_close(&values(logits), &expected(given)[0], 1e-4, &format!("{given} given"));
            for position in given..length - 1 {
                let logits = prior.step(&mut [&mut cache], &rows.map(|row| row[position])).unwrap();
                let expected = expected(position + 1).concat();
                assert_close(
                    &values(logits),
                    &expected,
                    1e-4,
                    &format!("{given} given, position {position}"),
                );
            }
        }
    }
}

#[test]
fn sixteen_bits_change_the_logits_little_and_halve_the_cache() {
    let (config, device) = (long_config(), Device::flex());
    let masks = Masks::new(&config, &device);
    let (caption, image) = (caption(&config, 1, 5), image(&config, 2));
    let exact = prior(&config, &device);
    let run = |prior: &Prior| {
        let (mut cache, logits) = prior.prefill(&masks, &caption, &image[..3]).unwrap();
        let mut all = values(logits);
        for token in &image[3..40] {
            all.extend(values(prior.step(&mut [&mut cache], &[*token]).unwrap()));
        }
        (all, cache.bytes())
    };
    let (expected, bytes) = run(&exact);
    let scale = expected.iter().fold(0.0, |max: f32, value| max.max(value.abs()));
    for (precision, tolerance) in [(Precision::Bf16, 0.05), (Precision::F16, 0.01)] {
        let (got, half) = run(&exact.clone().with_precision(precision));
        assert_close(&got, &expected, tolerance * scale, &precision.to_string());
        assert_ne!(got, expected, "{precision} is another type");
        assert_eq!(2 * half, bytes);
    }
}

#[test]
fn captions_at_different_positions_share_a_step() {
    let (config, device) = (long_config(), Device::flex());
    let (prior, masks) = (prior(&config, &device), Masks::new(&config, &device));
    let (a, b) = (caption(&config, 1, 5), caption(&config, 2, 7));
    let (x, y) = (image(&config, 3), image(&config, 4));
    let alone = |caption: &[_], image: &[ImageToken], steps: usize| {
        let (mut cache, _) = prior.prefill(&masks, caption, &[]).unwrap();
        let mut last = Vec::new();
        for token in &image[..steps] {
            last = values(prior.step(&mut [&mut cache], &[*token]).unwrap());
        }
        (cache, last)
    };
    let (mut cache_a, _) = alone(&a, &x, 36);
    let (mut cache_b, _) = alone(&b, &y, 2);
    let got = values(prior.step(&mut [&mut cache_a, &mut cache_b], &[x[36], y[2]]).unwrap());
    let expected = [alone(&a, &x, 37).1, alone(&b, &y, 3).1].concat();
    assert_close(&got, &expected, 1e-4, "two captions at positions 36 and 2");
}

/// The cache holds the caption once, and for each sample `grid + 1` slots in row layers, all slots in column layers, and the reach
/// of the kernel in the convolutional layer.
#[test]
fn the_cache_is_as_large_as_its_formula() {
    let (config, device) = (long_config(), Device::flex());
    let (prior, masks) = (prior(&config, &device), Masks::new(&config, &device));
    let (fresh, _) = prior.prefill(&masks, &caption(&config, 1, 5), &[]).unwrap();
    let grid = 8;
    // Six layers: row, column, row, row, row, convolution (3 × 3).
    let places = 4 * (grid + 1) + grid * grid + (grid + 2);
    let entry = 2 * config.prior.d_model() * size_of::<f32>();
    for samples in [1, 5] {
        let expected = (6 * config.text_length + samples * places) * entry;
        assert_eq!(fresh.clone().repeat(samples).bytes(), expected);
        assert_eq!(Footprint::new(&config).cache_bytes(Precision::F32, 1, samples as u64), expected as u64);
    }
}

#[test]
fn ids_out_of_range_are_errors_not_panics() {
    let (config, device) = (config("tiny"), Device::flex());
    let (prior, masks) = (prior(&config, &device), Masks::new(&config, &device));
    let (good, tokens) = (caption(&config, 1, 3), image(&config, 2));
    let (bad_id, bad_token) = (TextToken(config.text_vocab as u32), ImageToken(config.dvae.vocab as u16));
    let long = vec![TextToken(0); config.text_length];
    let (mut cache, _) = prior.prefill(&masks, &good, &[]).unwrap();
    let refusals = [
        prior.forward(&masks, &[&[bad_id]], &[&tokens]).map(|_| ()),
        prior.forward(&masks, &[&good], &[&vec![bad_token; tokens.len()]]).map(|_| ()),
        prior.prefill(&masks, &long, &[]).map(|_| ()),
        prior.prefill(&masks, &good, &[bad_token]).map(|_| ()),
        prior.step(&mut [&mut cache], &[bad_token]).map(|_| ()),
        prior.continue_text(&masks, &mut TextCache::default(), &[bad_id]).map(|_| ()),
        prior.attention(&masks, &[bad_id], &[], 0).map(|_| ()),
    ];
    for refusal in refusals {
        let said = refusal.unwrap_err().to_string();
        assert!(
            said.contains("expected ids below") || said.contains("expected at most 15 ids, got 16"),
            "{said}"
        );
    }
    assert!(prior.step(&mut [&mut cache], &tokens[..1]).is_ok(), "the cache is unchanged");
}

/// The weights of the last slot are positive exactly where its pattern allows, and applied to the values they give the attention's
/// output.
#[test]
fn the_attention_of_a_slot_sums_to_one_over_the_keys_that_its_pattern_sees() {
    let (config, device) = (long_config(), Device::flex());
    let (prior, masks) = (prior(&config, &device), Masks::new(&config, &device));
    let (caption, image) = (caption(&config, 1, 5), image(&config, 2));
    let layout = StreamLayout::new(&config);
    for layer in 0..config.prior.layers {
        for given in [0, 1, 27] {
            let weights = prior.attention(&masks, &caption, &image[..given], layer).unwrap();
            let slots = config.text_length + given;
            assert_eq!(weights.dims(), [config.prior.heads, slots]);
            let pattern = Pattern::of_layer(layer, config.prior.layers);
            for head in values(weights).chunks(slots) {
                assert!((head.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                for (key, &weight) in head.iter().enumerate() {
                    assert_eq!(
                        weight > 0.0,
                        layout.sees(pattern, slots - 1, key),
                        "key {key} of {pattern:?}"
                    );
                }
            }
        }
    }
}

/// Runs the layers one by one without autodiff, then backpropagates through each with its own tape.
#[test]
fn backward_through_single_layers_equals_backward_through_the_whole() {
    let config = config("tiny");
    let (plain, tracked) = (Device::flex(), Device::flex().autodiff());
    let (captions, images) = ([caption(&config, 1, 5)], [image(&config, 2)]);
    let (captions, images) = (captions.each_ref().map(Vec::as_slice), images.each_ref().map(Vec::as_slice));
    let loss = |logits| PriorLoss::new(logits, &captions.map(Some), &images).total();

    let whole = prior(&config, &tracked);
    let masks = Masks::new(&config, &tracked);
    let total = loss(whole.forward(&masks, &captions, &images).unwrap());
    let (expected_loss, expected) = (values(total.clone()), gradients(&whole, &total.backward()));

    let prior = prior(&config, &plain);
    let masks = Masks::new(&config, &plain);
    let mut x = prior.embed(&captions, &images).unwrap();
    let slots = x.dims()[1];
    let mut inputs = Vec::new();
    for (layer, mask) in prior.layers().iter().zip(masks.of_layers(config.prior.layers, slots)) {
        inputs.push(x.clone());
        x = layer.attention.forward(x, mask);
        inputs.push(x.clone());
        x = layer.mlp.forward(x);
    }
    let top = x.autodiff().require_grad();
    let total = loss(prior.clone().train().logits(top.clone()));
    assert_eq!(values(total.clone()), expected_loss);
    let mut dy = top.grad(&total.backward()).unwrap();
    // A gradient scale per resblock, which only affects rounding.
    let scale = 1024.0;
    let layers = prior.layers().iter().zip(masks.of_layers(config.prior.layers, slots)).enumerate();
    for (index, (layer, mask)) in layers.collect::<Vec<_>>().into_iter().rev() {
        let layer = layer.clone().train();
        let (mlp_input, attention_input) = (inputs.pop().unwrap(), inputs.pop().unwrap());
        let input = mlp_input.autodiff().require_grad();
        let seeded = layer.mlp.residual(input.clone()) * dy.clone().mul_scalar(scale).autodiff();
        let tape = seeded.sum().backward();
        let mlp = gradients(&layer.mlp, &tape);
        dy = dy + input.grad(&tape).unwrap().div_scalar(scale);
        let input = attention_input.autodiff().require_grad();
        let seeded = layer.attention.residual(input.clone(), mask) * dy.clone().mul_scalar(scale).autodiff();
        let tape = seeded.sum().backward();
        let attention = gradients(&layer.attention, &tape);
        dy = dy + input.grad(&tape).unwrap().div_scalar(scale);
        for (resblock, found) in [("attention", attention), ("mlp", mlp)] {
            for (name, got) in found {
                let path = format!("layers.{index}.{resblock}.{name}");
                let name = weights::name(&path.split('.').map(str::to_owned).collect::<Vec<_>>());
                let got: Vec<f32> = got.iter().map(|value| value / scale as f32).collect();
                assert_close(&got, &expected[&name], 1e-5 * greatest(&expected[&name]), &name);
            }
        }
    }
}

/// Changing a token may only change the logits of later slots.
#[test]
fn changing_a_later_token_never_changes_an_earlier_logit() {
    let (config, device) = (config("tiny"), Device::flex());
    let (prior, masks) = (prior(&config, &device), Masks::new(&config, &device));
    let (caption, image) = (caption(&config, 1, 10), image(&config, 2));
    let run = |caption: &[_], image: &[_]| {
        let logits = prior.forward(&masks, &[caption], &[image]).unwrap();
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
        assert_ne!(before[changed + 1..], after[changed + 1..], "token {changed} affects no logit");
    };
    for place in 0..caption.len() {
        let mut other = caption.clone();
        other[place].0 = (other[place].0 + 1) % config.text_vocab as u32;
        check(run(&other, &image), place);
    }
    // No logit depends on the last image token.
    for place in 0..image.len() - 1 {
        let mut other = image.clone();
        other[place].0 = (other[place].0 + 1) % config.dvae.vocab as u16;
        check(run(&caption, &other), text_rows + place);
    }
}

#[test]
fn the_loss_weights_text_by_an_eighth_and_starts_near_chance() {
    let (config, device) = (config("tiny"), Device::flex());
    let (prior, masks) = (Prior::new(&config, &device), Masks::new(&config, &device));
    let (caption, image) = (caption(&config, 1, 5), image(&config, 2));
    let (captions, images) = ([caption.as_slice()], [image.as_slice()]);
    let loss =
        PriorLoss::new(prior.forward(&masks, &captions, &images).unwrap(), &captions.map(Some), &images);
    let total = loss.total().into_scalar::<f32>();
    let (text, image) = (loss.text.into_scalar::<f32>(), loss.image.into_scalar::<f32>());
    assert!((text - ((config.text_vocab + 1) as f32).ln()).abs() < 0.2, "{text}");
    assert!((image - (config.dvae.vocab as f32).ln()).abs() < 0.2, "{image}");
    assert!((f64::from(total) - TEXT_WEIGHT * f64::from(text) - 0.875 * f64::from(image)).abs() < 1e-5);
}

/// Compares the derivative of the loss along a random direction with central differences.
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
    let loss = |prior: &Prior| {
        PriorLoss::new(prior.forward(&masks, &captions, &images).unwrap(), &captions.map(Some), &images)
            .total()
    };
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
