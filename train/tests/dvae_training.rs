//! The parts of stage 1's training, one by one, against PyTorch in double precision: `fixtures/dvae_training/make.py` computed
//! what is expected, and is short enough to be read beside the paper.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use dalle_model::Device;
use dalle_model::burn::module::Param;
use dalle_model::burn::nn::{Linear, LinearConfig};
use dalle_model::burn::tensor::{Tensor, TensorData};
use dalle_model::dvae::loss::{DvaeLoss, gumbel_softmax, kl_to_uniform, logit_laplace_nll};
use dalle_model::dvae::pixels::map_pixels;
use dalle_train::augment::resize_area;
use dalle_train::gradients::Gradients;
use dalle_train::optimizer::{AdamW, AdamWConfig};
use dalle_train::schedule::CosineSchedule;
use image::RgbImage;
use safetensors::SafeTensors;

const FIXTURE: &[u8] = include_bytes!("fixtures/dvae_training/expected.safetensors");

fn device() -> Device {
    Device::flex().autodiff()
}

/// A tensor of the fixture.
fn tensor<const D: usize>(name: &str) -> Tensor<D> {
    let file = SafeTensors::deserialize(FIXTURE).unwrap();
    let view = file.tensor(name).unwrap();
    let values: Vec<f32> =
        view.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    Tensor::from_data(TensorData::new(values, view.shape().to_vec()), &device())
}

fn picture(name: &str) -> RgbImage {
    let file = SafeTensors::deserialize(FIXTURE).unwrap();
    let view = file.tensor(name).unwrap();
    let side = view.shape()[0] as u32;
    RgbImage::from_raw(side, side, view.data().to_vec()).unwrap()
}

/// Asserts that the greatest difference is at most `tolerance` of the greatest expected value.
fn assert_expected<const D: usize>(ours: Tensor<D>, name: &str, tolerance: f32) {
    let expected = tensor::<D>(name);
    assert_eq!(ours.dims(), expected.dims(), "{name}");
    let greatest = |x: Tensor<D>| x.abs().max().into_scalar::<f32>();
    let error = greatest(ours - expected.clone()) / greatest(expected);
    assert!(error <= tolerance, "{name}: relative error {error:e}");
}

/// The gradient of `value` with respect to `of`.
fn gradient<const D: usize, const N: usize>(value: Tensor<N>, of: &Tensor<D>) -> Tensor<D> {
    Tensor::from_inner(of.grad(&value.sum().backward()).unwrap())
}

#[test]
fn the_likelihood_and_its_gradient_match_pytorch() {
    let maps = tensor::<4>("maps").require_grad();
    let nll = logit_laplace_nll(maps.clone(), map_pixels(tensor("x")));
    assert_expected(nll.clone(), "nll", 1e-6);
    assert_expected(gradient(nll, &maps), "nll_gradient", 1e-6);
}

#[test]
fn the_kl_term_and_its_gradient_match_pytorch() {
    let logits = tensor::<4>("logits").require_grad();
    let kl = kl_to_uniform(logits.clone());
    assert_expected(kl.clone(), "kl", 1e-6);
    assert_expected(gradient(kl, &logits), "kl_gradient", 1e-6);
}

#[test]
fn the_whole_loss_and_its_gradients_match_pytorch() {
    let (maps, logits) = (tensor::<4>("maps").require_grad(), tensor::<4>("logits").require_grad());
    let loss = DvaeLoss::new(maps.clone(), map_pixels(tensor("x")), logits.clone());
    assert_expected(loss.reconstruction.clone(), "reconstruction", 1e-6);
    assert_expected(loss.kl.clone(), "divided_kl", 1e-6);
    let total = loss.total(6.6);
    assert_expected(total.clone(), "total", 1e-6);
    let gradients = total.backward();
    let of = |input: &Tensor<4>| Tensor::from_inner(input.grad(&gradients).unwrap());
    assert_expected(of(&maps), "total_maps_gradient", 1e-6);
    assert_expected(of(&logits), "total_logits_gradient", 1e-6);
}

/// A nat of KL in every place adds β/192 to the loss: 3 values in each of the 8×8 pixels of a place.
#[test]
fn the_kl_term_is_weighted_by_beta_over_192() {
    let mut certain = vec![0.0f32; 8];
    certain[5] = 100.0;
    let logits =
        Tensor::<1>::from_floats(certain.as_slice(), &device()).reshape([1, 8, 1, 1]).expand([2, 8, 3, 4]);
    let (maps, x) = (Tensor::zeros([2, 6, 24, 32], &device()), Tensor::full([2, 3, 24, 32], 0.5, &device()));
    let loss = DvaeLoss::new(maps, x, logits);
    let added = (loss.total(6.6) - loss.total(0.0)).into_scalar::<f32>();
    let expected = 6.6 / 192.0 * 8f32.ln();
    assert!((added / expected - 1.0).abs() < 1e-5, "{added} instead of {expected}");
}

#[test]
fn the_relaxation_with_given_noise_and_its_gradient_match_pytorch() {
    for (name, tau) in [("warm", 1.0), ("cold", 1.0 / 16.0)] {
        let logits = tensor::<4>("logits").require_grad();
        let relaxed = gumbel_softmax(logits.clone(), tensor("noise"), tau);
        // At a low temperature a rounding of the logits is sixteen times as large.
        assert_expected(relaxed.clone(), &format!("relaxed_{name}"), 1e-5);
        let weighed = relaxed * tensor::<4>("weights");
        assert_expected(gradient(weighed, &logits), &format!("relaxed_{name}_gradient"), 1e-5);
    }
}

#[test]
fn ten_updates_and_the_averaged_weights_match_pytorch() {
    let [inputs, outputs] = ["inputs", "outputs"].map(tensor::<3>);
    let mut layer = LinearConfig::new(3, 4).init(&device());
    layer.weight = Param::from_tensor(tensor("weight"));
    layer.bias = Some(Param::from_tensor(tensor("bias")));
    let mut optimizer = AdamW::new(AdamWConfig {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.1,
        clip: None,
        ewma: 0.9,
    });
    let step_size = CosineSchedule { from: 0.05, to: 0.001, updates: 10 };
    let check = |layer: &Linear, suffix: &str| {
        assert_expected(layer.weight.val(), &format!("weight_{suffix}"), 2e-6);
        assert_expected(layer.bias.as_ref().unwrap().val(), &format!("bias_{suffix}"), 2e-6);
    };
    for update in 0..10 {
        let row = |tensor: &Tensor<3>| tensor.clone().narrow(0, update, 1).squeeze_dim::<2>(0);
        let loss = (layer.forward(row(&inputs)) - row(&outputs)).square().sum();
        let gradients = Gradients::of(&loss, &layer);
        (layer, _) = optimizer.step(layer, gradients, step_size.at(update as u64));
        if update == 0 {
            check(&layer, "1");
        }
    }
    check(&layer, "10");
    check(&optimizer.averaged(layer), "average");
}

#[test]
fn resizing_is_by_area_at_whole_and_fractional_ratios() {
    let whole = picture("picture");
    for side in [12, 8, 16, 9, 17, 23, 36] {
        assert!(resize_area(&whole, side) == picture(&format!("picture_{side}")), "24 to {side}");
    }
    assert!(resize_area(&whole, 24) == whole);
}
