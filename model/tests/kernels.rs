//! The kernels of `dalle-kernels`, compared with the same networks on Burn.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::{caption, config, image, long_config, loud, numbers, random, values};
use dalle_kernels::clip::{ClipPair, ClipUpdate};
use dalle_kernels::dvae::{Decoder, DvaeSizes, DvaeUpdate, ImageNoise};
use dalle_kernels::parameters::Parameter;
use dalle_kernels::prior;
use dalle_model::Device;
use dalle_model::burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use dalle_model::burn::tensor::{Gradients, Tensor, TensorData};
use dalle_model::clip::{self, Clip, ClipConfig, TowerConfig};
use dalle_model::config::{DvaeConfig, ModelConfig};
use dalle_model::dvae::loss::{DvaeLoss, gumbel_softmax};
use dalle_model::dvae::pixels::{images_to_tensor, map_pixels, maps_to_rgb};
use dalle_model::dvae::{self, Dvae, ImageDecoder, ImageEncoder};
use dalle_model::prior::loss::PriorLoss;
use dalle_model::prior::{Masks, Prior, kernel_sizes};
use dalle_model::weights::{name, read_values};
use dalle_shared::{ImageToken, TextToken};

/// Path, shape, values and gradient of a parameter.
type Found = (String, Vec<usize>, Vec<f32>, Vec<f32>);

/// Parameters in the module's order.
struct Collect<'a> {
    gradients: &'a Gradients,
    path: Vec<String>,
    found: Vec<Found>,
}

impl ModuleVisitor for Collect<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let gradient = values(tensor.grad(self.gradients).unwrap());
        let shape = tensor.dims().to_vec();
        self.found.push((name(&self.path), shape, values(tensor.inner()), gradient));
    }
}

#[test]
fn dvae_kernels_match_burns_losses_and_gradients() {
    let device = Device::flex().autodiff();
    let cases = [
        // n_hid, n_init, blocks, vocab, images, height, width
        [24, 16, 2, 40, 2, 24, 40],
        [16, 128, 1, 7, 1, 8, 8],
        [20, 12, 3, 33, 3, 56, 16],
        [32, 24, 1, 50, 1, 32, 72],
    ];
    for [n_hid, n_init, blocks_per_group, vocab, images, height, width] in cases {
        let config = DvaeConfig { n_hid, n_init, blocks_per_group, vocab };
        let dvae = loud(Dvae::new(&config, &device));
        let x = random(
            [7, images, height, width].iter().sum::<usize>() as u64,
            [images, 3, height, width],
            &device,
        );
        let x = x.mul_scalar(0.2).add_scalar(0.5).clamp(0.1, 0.9);
        let logits = dvae.encoder.forward(x.clone());
        let noise = random(5, logits.dims(), &device);
        let (tau, beta) = (0.8, 1.5);
        let z = gumbel_softmax(logits.clone(), noise.clone(), tau);
        let loss = DvaeLoss::new(dvae.decoder.forward(z), x.clone(), logits.clone());
        let gradients = loss.total(beta).backward();
        let mut collect = Collect { gradients: &gradients, path: Vec::new(), found: Vec::new() };
        dvae.visit(&mut collect);

        let mut update = DvaeUpdate::new(DvaeSizes { n_hid, n_init, blocks_per_group, vocab }, height, width);
        let network = update.network().clone();
        let layout: Vec<_> = network.parameters.iter().map(|p| (p.name.clone(), p.shape.clone())).collect();
        let expected: Vec<_> =
            collect.found.iter().map(|(name, shape, ..)| (name.clone(), shape.clone())).collect();
        assert_eq!(layout, expected, "names and shapes");
        let parameters: Vec<f32> = collect.found.iter().flat_map(|found| found.2.clone()).collect();
        let mut found = vec![0.0; parameters.len()];
        let losses = update.run(
            &parameters,
            &values(x.inner()),
            ImageNoise::Given(&values(noise.inner())),
            tau as f32,
            beta as f32,
            &mut found,
        );
        let near = |a: f64, b: Tensor<1>| (a / f64::from(b.into_scalar::<f32>()) - 1.0).abs() < 1e-5;
        assert!(near(losses.reconstruction, loss.reconstruction), "reconstruction");
        assert!(near(losses.kl, loss.kl), "KL");
        let codes: Vec<u32> =
            logits.inner().argmax(1).into_data().iter::<i64>().map(|code| code as u32).collect();
        assert_eq!(losses.codes, codes);
        assert_gradients(&network.parameters, &found, &collect.found);
    }
}

/// Asserts that the gradient of each parameter equals Burn's with a relative tolerance of 1e-4.
#[track_caller]
fn assert_gradients(parameters: &[Parameter], ours: &[f32], burns: &[Found]) {
    let mut worst = BTreeMap::new();
    for (parameter, (name, _, _, gradient)) in parameters.iter().zip(burns) {
        let found = &ours[parameter.offset..][..parameter.length()];
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let size = norm(&mut gradient.iter().map(|&g| f64::from(g)));
        let away = norm(&mut found.iter().zip(gradient).map(|(&a, &b)| f64::from(a) - f64::from(b)));
        worst.insert(name, away / size);
    }
    let bad: Vec<_> = worst.iter().filter(|(_, away)| away.is_nan() || **away > 1e-4).collect();
    assert!(bad.is_empty(), "relative differences {bad:?}");
}

#[test]
fn clip_kernels_match_burns_features_and_gradients() {
    let device = Device::flex().autodiff();
    let tower = |width, layers, heads| TowerConfig { width, layers, heads };
    let small = ClipConfig {
        embedding: 16,
        patch: 8,
        text: tower(32, 2, 2),
        image: tower(48, 1, 3),
        tokenizer: None,
    };
    let long = ClipConfig {
        embedding: 48,
        patch: 2,
        text: tower(16, 3, 1),
        image: tower(32, 2, 1),
        tokenizer: None,
    };
    for (clip_config, text_length) in [(small, 8), (long, 100)] {
        let model = ModelConfig { text_length, ..config("tiny") };
        clip_config.validate(&model).unwrap();
        let clip = loud(Clip::new(&clip_config, &model, &device));
        // The last caption fills all slots.
        let captions: Vec<Vec<TextToken>> = [1, 3, 0, text_length - 1]
            .iter()
            .zip(0..)
            .map(|(&length, i)| caption(&model, i, length))
            .collect();
        let captions: Vec<&[TextToken]> = captions.iter().map(Vec::as_slice).collect();
        let side = model.image_size;
        let images: Vec<Vec<u8>> = (0..captions.len())
            .map(|i| (0..3 * side * side).map(|j| (j * (7 + 2 * i) % 256) as u8).collect())
            .collect();
        let bytes: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
        // Any function of the features of both kinds.
        let shape = [captions.len(), clip_config.embedding];
        let weights = [3, 4].map(|seed| random(seed, shape, &device));
        let texts = clip.texts(&captions).unwrap();
        let seen = clip.images(images_to_tensor(&bytes, side, side, &device));
        let loss = (texts.clone() * weights[0].clone()).sum()
            + (seen.clone() * weights[1].clone()).sum()
            + clip.scale();
        let gradients = loss.backward();
        let mut collect = Collect { gradients: &gradients, path: Vec::new(), found: Vec::new() };
        clip.visit(&mut collect);

        let mut update = ClipUpdate::new(clip::kernel_sizes(&clip_config, &model));
        let network = update.network().clone();
        let layout: Vec<_> = network.parameters.iter().map(|p| (p.name.clone(), p.shape.clone())).collect();
        let expected: Vec<_> =
            collect.found.iter().map(|(name, shape, ..)| (name.clone(), shape.clone())).collect();
        assert_eq!(layout, expected, "names and shapes");
        let parameters: Vec<f32> = collect.found.iter().flat_map(|found| found.2.clone()).collect();
        let ids: Vec<Vec<u32>> =
            captions.iter().map(|caption| caption.iter().map(|token| token.0).collect()).collect();
        let pairs: Vec<ClipPair<'_>> =
            ids.iter().zip(&images).map(|(ids, image)| ClipPair { ids, image }).collect();
        let features = update.features(&parameters, &pairs, true);
        assert_eq!(features, update.features(&parameters, &pairs, false), "kept or not");
        let features =
            features.map(|values| Tensor::<1>::from_data(&values[..], &device).reshape(shape).require_grad());
        let units = features.clone().map(clip::unit);
        for (ours, burns) in units.iter().zip([texts, seen]) {
            let away: f32 = (ours.clone() - burns).abs().max().into_scalar();
            assert!(away < 1e-5, "features differ by {away}");
        }
        let [texts, seen] = units;
        let mut tape = ((texts * weights[0].clone()).sum() + (seen * weights[1].clone()).sum()).backward();
        let by_feature = features.map(|features| values(features.grad_remove(&mut tape).unwrap()));
        update.features(&parameters, &pairs, true);
        let mut found = vec![f32::NAN; parameters.len()];
        update.backward(&pairs, by_feature.each_ref().map(Vec::as_slice), &mut found);
        // The scale has no part in features.
        assert_eq!(found.pop(), Some(0.0));
        let (burns, ours) = (&collect.found, &network.parameters);
        assert_gradients(&ours[..ours.len() - 1], &found, burns);
    }
}

#[test]
fn prior_kernels_match_burns_losses_and_gradients() {
    let device = Device::flex().autodiff();
    let mut shipped = config("emoji-128");
    (shipped.prior.layers, shipped.text_vocab, shipped.dvae.vocab) = (3, 50, 60);
    for config in [config("tiny"), long_config(), shipped] {
        let prior = loud(Prior::new(&config, &device));
        let masks = Masks::new(&config, &device);
        let captions: Vec<Vec<TextToken>> = (0..3).map(|i| caption(&config, i, 3 * i as usize + 1)).collect();
        let images: Vec<Vec<ImageToken>> = (0..3).map(|i| image(&config, 10 + i)).collect();
        // The second pair is trained without its caption; the third caption fills all slots.
        let mut inputs: Vec<&[TextToken]> = captions.iter().map(Vec::as_slice).collect();
        let longest = caption(&config, 3, config.text_length - 1);
        (inputs[1], inputs[2]) = (&[], &longest);
        let targets = [Some(inputs[0]), None, Some(inputs[2])];
        let image_rows: Vec<&[ImageToken]> = images.iter().map(Vec::as_slice).collect();
        // The prior sees other tokens of the third image than it predicts.
        let seen = [image_rows[0], image_rows[1], image_rows[0]];
        let loss = PriorLoss::new(prior.forward(&masks, &inputs, &seen).unwrap(), &targets, &image_rows);
        let gradients = loss.total().backward();
        let mut collect = Collect { gradients: &gradients, path: Vec::new(), found: Vec::new() };
        prior.visit(&mut collect);

        let mut update = prior::PriorUpdate::new(kernel_sizes(&config));
        let network = update.network().clone();
        let layout: Vec<_> = network.parameters.iter().map(|p| (p.name.clone(), p.shape.clone())).collect();
        let expected: Vec<_> =
            collect.found.iter().map(|(name, shape, ..)| (name.clone(), shape.clone())).collect();
        assert_eq!(layout, expected, "names and shapes");
        let parameters: Vec<f32> = collect.found.iter().flat_map(|found| found.2.clone()).collect();
        let ids = |tokens: &[TextToken]| tokens.iter().map(|token| token.0).collect::<Vec<u32>>();
        let texts: Vec<Vec<u32>> = inputs.iter().map(|input| ids(input)).collect();
        let rows: Vec<Vec<u32>> =
            images.iter().map(|image| image.iter().map(|token| u32::from(token.0)).collect()).collect();
        let pair =
            |i: usize| prior::Pair { input: &texts[i], scored: i != 1, image: &rows[i], seen: &rows[i % 2] };
        let mut found = vec![0.0; parameters.len()];
        let losses = update.run(&parameters, &[pair(0), pair(1), pair(2)], &mut found);
        let near = |a: f64, b: Tensor<1>| (a / f64::from(b.into_scalar::<f32>()) - 1.0).abs() < 1e-5;
        assert!(near(losses.total(), loss.total()), "{}: total", config.name);
        assert!(near(losses.text, loss.text), "{}: text", config.name);
        assert!(near(losses.image, loss.image), "{}: image", config.name);
        assert_gradients(&network.parameters, &found, &collect.found);
    }
}

/// Sizes of dVAEs, the last as wide as the released one, and of the grids that they decode: rows and columns.
const DVAES: [(DvaeConfig, &[[usize; 2]]); 4] = [
    (DvaeConfig { n_hid: 24, n_init: 64, blocks_per_group: 2, vocab: 1024 }, &[[16, 16], [1, 1], [5, 3]]),
    (DvaeConfig { n_hid: 32, n_init: 128, blocks_per_group: 2, vocab: 300 }, &[[7, 9], [2, 1]]),
    (DvaeConfig { n_hid: 64, n_init: 20, blocks_per_group: 1, vocab: 77 }, &[[3, 11]]),
    (DvaeConfig { n_hid: 256, n_init: 128, blocks_per_group: 2, vocab: 512 }, &[[3, 2]]),
];

/// Greatest minus least byte.
fn contrast(image: &[u8]) -> u8 {
    image.iter().max().unwrap() - image.iter().min().unwrap()
}

#[test]
fn images_are_burns_within_one_255th() {
    let device = Device::flex();
    for (config, grids) in &DVAES {
        let network = loud(Dvae::new(config, &device)).decoder;
        let decoder = ImageDecoder::new(network.clone());
        for &[rows, width] in *grids {
            let grid = |seed: u64| -> Vec<ImageToken> {
                let tokens = numbers(seed, rows * width, config.vocab);
                tokens.into_iter().map(|token| ImageToken(token as u16)).collect()
            };
            let grids = [grid(1), grid(2), grid(3)];
            let expected: Vec<Vec<u8>> =
                grids.iter().map(|tokens| network.decode_rgb(tokens, width).unwrap()).collect();
            let tokens: Vec<&[ImageToken]> = grids.iter().map(Vec::as_slice).collect();
            let batch = decoder.decode_batch(&tokens, width).unwrap();
            assert_eq!(network.decode_rgb_batch(&tokens, width).unwrap().len(), 3);
            for ((tokens, expected), image) in tokens.iter().zip(&expected).zip(&batch) {
                assert!(contrast(expected) > 60, "{config:?}: too flat to compare, {}", contrast(expected));
                assert_eq!(image.len(), expected.len());
                let worst = image.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(worst <= Some(1), "{config:?}, {rows} × {width}: {worst:?} of 255 apart");
                assert_eq!(&decoder.decode(tokens, width).unwrap(), image, "alone as in a batch");
            }
        }
    }
}

#[test]
fn the_decoders_stages_are_burns_within_one_255th() {
    let device = Device::flex();
    for (config, grids) in &DVAES {
        let network = loud(Dvae::new(config, &device)).decoder;
        let mut parameters = Vec::new();
        read_values(&network, &mut parameters);
        let decoder = Decoder::new(dvae::kernel_sizes(config), &parameters);
        for &[rows, width] in *grids {
            let tokens: Vec<u16> =
                numbers(1, rows * width, config.vocab).into_iter().map(|token| token as u16).collect();
            let ids: Vec<i32> = tokens.iter().map(|token| i32::from(*token)).collect();
            let grid = Tensor::from_data(TensorData::new(ids, [1, rows, width]), &device);
            let expected = network.stages(grid).into_iter().map(|maps| values(maps_to_rgb(maps)));
            for (group, (expected, stage)) in expected.zip(decoder.stages(&tokens, width)).enumerate() {
                assert_eq!(stage.len(), expected.len());
                let plane = stage.len() / 3;
                let close = |(i, byte): (usize, &u8)| {
                    (255.0 * expected[i % 3 * plane + i / 3] - f32::from(*byte)).abs() < 1.01
                };
                assert!(stage.iter().enumerate().all(close), "{config:?}, {rows} × {width}: stage {group}");
            }
        }
    }
}

#[test]
fn a_batch_on_burn_is_its_images_one_by_one() {
    let config = &config("tiny").dvae;
    let decoder = loud(Dvae::new(config, &Device::flex())).decoder;
    let grid = |seed: u64| -> Vec<ImageToken> {
        numbers(seed, 15, config.vocab).into_iter().map(|token| ImageToken(token as u16)).collect()
    };
    let grids = [grid(1), grid(2), grid(3)];
    let batch = decoder.decode_rgb_batch(&grids.each_ref().map(Vec::as_slice), 5).unwrap();
    assert!(batch[0] != batch[1] && batch[1] != batch[2]);
    for (tokens, image) in grids.iter().zip(&batch) {
        let alone = decoder.decode_rgb(tokens, 5).unwrap();
        assert!(alone.iter().zip(image).all(|(a, b)| a.abs_diff(*b) <= 1));
    }
    assert_eq!(decoder.decode_rgb_batch(&[], 5).unwrap(), Vec::<Vec<u8>>::new());
}

#[test]
fn tokens_are_burns_wherever_rounding_does_not_decide() {
    let device = Device::flex();
    for (config, grids) in &DVAES {
        let network = loud(Dvae::new(config, &device)).encoder;
        let encoder = ImageEncoder::new(network.clone());
        for &[rows, columns] in *grids {
            let (height, width) = (8 * rows, 8 * columns);
            let images = [1, 2].map(|seed| -> Vec<u8> {
                let patches = numbers(seed, 3 * rows * columns, 256);
                let noise = numbers(seed + 2, 3 * height * width, 64);
                let byte = |i: usize| {
                    let (x, y) = (i / 3 % width, i / 3 / width);
                    (patches[(y / 8 * columns + x / 8) * 3 + i % 3] * 3 / 4 + noise[i]) as u8
                };
                (0..3 * height * width).map(byte).collect()
            });
            let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
            let logits = network.forward(map_pixels(images_to_tensor(&images, width, height, &device)));
            let places = rows * columns;
            let logits = values(logits);
            let tokens = encoder.encode(&images, width).unwrap();
            assert_eq!(tokens.len(), images.len());
            let mut decided = 0;
            for (logits, tokens) in logits.chunks(config.vocab * places).zip(&tokens) {
                assert_eq!(tokens.len(), places);
                for (place, token) in tokens.iter().enumerate() {
                    let mut ranked: Vec<(f32, usize)> =
                        (0..config.vocab).map(|entry| (logits[entry * places + place], entry)).collect();
                    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
                    let rounding = 1e-4 * ranked[0].0.abs();
                    if ranked[0].0 - ranked[1].0 > rounding {
                        assert_eq!(usize::from(token.0), ranked[0].1, "{config:?}, place {place}");
                        decided += 1;
                    }
                }
            }
            assert!(2 * places < decided + 2 + places / 8, "{decided} of {} are decided", 2 * places);
        }
    }
}

#[test]
fn weights_that_are_not_finite_still_give_tokens_of_the_codebook() {
    let config = &config("tiny").dvae;
    let device = Device::flex();
    let dvae = Dvae::new(config, &device).map(&mut NotFinite);
    let tokens = ImageEncoder::new(dvae.encoder).encode(&[&[7; 3 * 16 * 8]], 8).unwrap().swap_remove(0);
    assert!(tokens.iter().all(|token| usize::from(token.0) < config.vocab), "{tokens:?}");
    assert_eq!(ImageDecoder::new(dvae.decoder).decode(&tokens, 1).unwrap().len(), 3 * 16 * 8);
}

/// Makes all weights NaN, as a training does that diverges.
struct NotFinite;

impl ModuleMapper for NotFinite {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.mul_scalar(f64::NAN))
    }
}
