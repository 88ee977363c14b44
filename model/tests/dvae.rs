//! The dVAE: shapes, exact shortcuts, likelihood, gradients.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{config, image, loud, random, values};
use dalle_model::Device;
use dalle_model::burn::tensor::activation::{sigmoid, softmax};
use dalle_model::burn::tensor::{Int, Tensor, TensorData};
use dalle_model::config::DvaeConfig;
use dalle_model::dvae::loss::{gumbel_noise, gumbel_softmax, kl_to_uniform, logit_laplace_nll};
use dalle_model::dvae::pixels::{images_to_tensor, map_pixels, unmap_pixels};
use dalle_model::dvae::{Decoder, Dvae, ImageDecoder};
use dalle_model::weights::count_parameters;
use dalle_shared::ImageToken;

#[test]
fn the_released_size_has_53_8_and_43_8_million_parameters() {
    let dvae = Dvae::new(&config("paper-12b").dvae, &Device::flex());
    let millions = |part: &str| (count_parameters(&dvae, part) as f64 / 1e5).round() / 10.0;
    assert_eq!((millions("encoder"), millions("decoder")), (53.8, 43.8));
}

#[test]
fn images_are_downsampled_by_8_and_restored() {
    let (config, device) = (config("tiny"), Device::flex());
    let dvae = Dvae::new(&config.dvae, &device);
    let images: Vec<Vec<u8>> =
        (0..2u8).map(|i| (0..32 * 48 * 3).map(|x| (x as u8).wrapping_mul(i + 3)).collect()).collect();
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    let x = images_to_tensor(&images, 48, 32, &device);
    assert_eq!(x.dims(), [2, 3, 32, 48]);
    let tokens = dvae.encoder.encode(map_pixels(x));
    assert_eq!(tokens.dims(), [2, 4, 6]);
    assert_eq!(dvae.decoder.forward_tokens(tokens).dims(), [2, 6, 32, 48]);
}

#[test]
fn invalid_token_grids_are_refused() {
    let config = config("tiny");
    let decoder = Decoder::new(&config.dvae, &Device::flex());
    let kernels = ImageDecoder::new(decoder.clone());
    let tokens = image(&config, 1);
    assert_eq!(decoder.decode_rgb(&tokens, 4).unwrap().len(), 3 * 32 * 32);
    let outside = ImageToken(config.dvae.vocab as u16);
    for (tokens, width, expected) in [
        (&tokens[..], 5, "tokens: expected rows of 5, got 16 tokens"),
        (&[], 4, "tokens: expected rows of 4, got 0 tokens"),
        (&tokens, 0, "tokens: expected rows of 0, got 16 tokens"),
        (&[tokens[0], outside], 2, "tokens: expected ids below 64, got 64 at index 1"),
    ] {
        assert_eq!(decoder.decode_rgb(tokens, width).unwrap_err().to_string(), expected);
        assert_eq!(kernels.decode(tokens, width).unwrap_err().to_string(), expected);
        assert_eq!(kernels.decode_batch(&[tokens], width).unwrap_err().to_string(), expected);
    }
}

#[test]
fn hard_tokens_decode_as_their_one_hot_map() {
    let (config, device) = (config("tiny"), Device::flex());
    let decoder = Decoder::new(&config.dvae, &device);
    let ids: Vec<i32> = image(&config, 1).iter().map(|token| i32::from(token.0)).collect();
    let tokens: Tensor<3, Int> = Tensor::from_data(TensorData::new(ids, [1, 4, 4]), &device);
    let one_hot = tokens.clone().one_hot::<4>(config.dvae.vocab).float().permute([0, 3, 1, 2]);
    let (a, b) = (values(decoder.forward_tokens(tokens)), values(decoder.forward(one_hot)));
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn bytes_round_trip_through_the_pixel_map() {
    let device = Device::flex();
    let bytes: Vec<u8> = (0..=255).flat_map(|byte| [byte; 3]).collect();
    let x = images_to_tensor(&[&bytes], 16, 16, &device);
    let mapped = map_pixels(x.clone());
    let range = values(mapped.clone());
    assert!(range.iter().all(|x| (0.1 - 1e-6..=0.9 + 1e-6).contains(x)));
    assert!(values(unmap_pixels(mapped) - x).iter().all(|x| x.abs() < 1e-6));
}

/// ∫ f(x) dx over (0, 1) by the substitution x = sigmoid(t), dx = x·(1 − x)·dt, on a fine grid.
#[test]
fn the_logit_laplace_density_integrates_to_one() {
    let device = Device::flex();
    let n = 40_000;
    let (low, high) = (-20.0f64, 20.0f64);
    let width = (high - low) / n as f64;
    let t: Vec<f64> = (0..n).map(|i| low + (i as f64 + 0.5) * width).collect();
    let x: Vec<f32> = t.iter().map(|t| (1.0 / (1.0 + (-t).exp())) as f32).collect();
    for (mu, ln_b) in [(0.0f32, -1.0f32), (1.5, 0.0), (-2.0, 0.3)] {
        // Where x rounds to 1 in f32, the density's tail (below e⁻⁹) is left out.
        let inside: Vec<usize> = (0..n).filter(|&i| x[i] > 1e-7 && x[i] < 1.0 - 1e-6).collect();
        let xs: Vec<f32> = inside.iter().flat_map(|&i| [x[i]; 3]).collect();
        let count = inside.len();
        let x_tensor: Tensor<4> =
            Tensor::<4>::from_data(TensorData::new(xs, [1, 1, count, 3]), &device).permute([0, 3, 1, 2]);
        let maps: Vec<f32> = [mu, mu, mu, ln_b, ln_b, ln_b].iter().flat_map(|v| vec![*v; count]).collect();
        let maps = Tensor::from_data(TensorData::new(maps, [1, 6, 1, count]), &device);
        let nll = values(logit_laplace_nll(maps, x_tensor));
        let integral: f64 = inside
            .iter()
            .zip(&nll)
            .map(|(&i, nll)| (-f64::from(*nll)).exp() * f64::from(x[i]) * (1.0 - f64::from(x[i])) * width)
            .sum();
        assert!((integral - 1.0).abs() < 2e-3, "μ {mu}, ln b {ln_b}: {integral}");
    }
}

#[test]
fn kl_is_zero_for_a_uniform_and_ln_vocab_for_a_one_hot_distribution() {
    let device = Device::flex();
    let uniform = Tensor::<4>::full([1, 8, 2, 3], 0.7, &device);
    assert!(values(kl_to_uniform(uniform))[0].abs() < 1e-5);
    let mut certain = vec![0.0f32; 8];
    certain[3] = 100.0;
    let certain =
        Tensor::<1>::from_floats(certain.as_slice(), &device).reshape([1, 8, 1, 1]).expand([2, 8, 2, 3]);
    for kl in values(kl_to_uniform(certain)) {
        assert!((kl - 6.0 * 8f32.ln()).abs() < 1e-3, "{kl}");
    }
}

#[test]
fn gumbel_softmax_is_a_distribution_that_hardens_and_samples_the_softmax() {
    let device = Device::flex();
    let logits =
        Tensor::<1>::from_floats([0.0f32, 1.0, 2.0], &device).reshape([1, 3, 1, 1]).expand([1, 3, 200, 200]);
    let draw = |tau| gumbel_softmax(logits.clone(), gumbel_noise(&logits), tau);
    let soft = draw(1.0);
    assert!(values(soft.clone().sum_dim(1)).iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    let hard = draw(1.0 / 16.0);
    let sharp = |tensor: Tensor<4>| values(tensor.max_dim(1)).iter().sum::<f32>() / 4e4;
    assert!(sharp(hard.clone()) > 0.95 && sharp(hard.clone()) > sharp(soft));
    // The argmax is distributed as the softmax (the Gumbel-max trick).
    let drawn = hard.argmax(1).into_data();
    let share = drawn.iter::<i64>().filter(|index| *index == 2).count() as f64 / 4e4;
    let expected = 2f64.exp() / (1.0 + 1f64.exp() + 2f64.exp());
    assert!((share - expected).abs() < 0.02, "{share} instead of {expected}");
}

/// Compares the derivative of the loss with respect to single inputs with central differences.
#[test]
fn gradients_agree_with_finite_differences() {
    let device = Device::flex().autodiff();
    let config = DvaeConfig { n_hid: 4, n_init: 4, blocks_per_group: 1, vocab: 6 };
    let dvae = loud(Dvae::new(&config, &device));
    let x = map_pixels(sigmoid(random(1, [1, 3, 16, 16], &device)));
    let noise = random::<4>(2, [1, 6, 2, 2], &device);
    let terms = |x: Tensor<4>| {
        let logits = dvae.encoder.forward(x.clone());
        let z = softmax(logits.clone() + noise.clone(), 1);
        (logit_laplace_nll(dvae.decoder.forward(z), x), kl_to_uniform(logits).mul_scalar(6.6))
    };
    let input = x.clone().require_grad();
    let (nll, kl) = terms(input.clone());
    let gradient = values(input.grad(&(nll.sum() + kl.sum()).backward()).unwrap());
    let base = values(x);
    for place in [0, 100, 300, 500, 767] {
        // Summed in double precision, because the differences are small compared with the sums.
        let at = |step: f32| {
            let mut moved = base.clone();
            moved[place] += step;
            let (nll, kl) = terms(Tensor::from_data(TensorData::new(moved, [1, 3, 16, 16]), &device));
            values(nll).into_iter().chain(values(kl)).map(f64::from).sum::<f64>()
        };
        let step = 1e-3;
        let numeric = (at(step) - at(-step)) / (2.0 * f64::from(step));
        let error = (f64::from(gradient[place]) - numeric).abs() / numeric.abs().max(1.0);
        assert!(error < 0.01, "value {place}: autodiff {}, differences {numeric}", gradient[place]);
    }
}
