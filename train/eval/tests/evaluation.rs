//! Metrics and feature networks agree with other implementations: scikit-image's SSIM, SciPy's blur, the Fréchet distance and
//! Inception of pytorch-fid, torchvision's Inception, and the EfficientNet-Lite0 of its package.
//!
//! `fixtures/evaluation/make.py` writes the fixtures.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use dalle_eval::blur::blur;
use dalle_eval::features::{Extractor, from_arrays, open};
use dalle_eval::frechet::{Gaussian, frechet_distance, inception_score};
use dalle_eval::similarity::{mean_squared_error, psnr, ssim};
use dalle_import::{Array, read_checkpoint};
use dalle_model::Device;
use image::RgbImage;
use serde_json::Value;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/evaluation").join(name)
}

fn picture(name: &str) -> RgbImage {
    image::open(path(name)).unwrap().to_rgb8()
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(path(name)).unwrap()).unwrap()
}

/// The rows of a matrix in `expected.safetensors`.
fn rows(name: &str) -> Vec<Vec<f32>> {
    let Array { shape, values } =
        read_checkpoint(&fs::read(path("expected.safetensors")).unwrap(), &[]).unwrap().remove(name).unwrap();
    values.chunks(shape[1]).map(<[f32]>::to_vec).collect()
}

fn near(name: &str, ours: f64, theirs: &Value, tolerance: f64) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() <= tolerance * theirs.abs(), "{name}: {ours}, expected {theirs}");
}

#[test]
fn squared_error_and_ssim_match_scikit_image() {
    let (a, b, expected) = (picture("a.png"), picture("b.png"), json("expected.json"));
    near("squared error", mean_squared_error(&a, &b), &expected["squared_error"], 1e-12);
    near("ssim", ssim(&a, &b), &expected["ssim"], 1e-5);
    assert!((ssim(&a, &a) - 1.0).abs() < 1e-12 && mean_squared_error(&a, &a) == 0.0);
    assert!((psnr(255.0 * 255.0 / 1000.0) - 30.0).abs() < 1e-9 && psnr(0.0) == f64::INFINITY);
}

#[test]
fn the_blur_matches_scipy() {
    let a = picture("a.png");
    assert!(blur(&a, 0.0) == a);
    for sigma in [1, 4] {
        let (ours, theirs) = (blur(&a, sigma as f32), picture(&format!("blur-{sigma}.png")));
        let worst = ours.as_raw().iter().zip(theirs.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(ours.dimensions() == theirs.dimensions() && worst <= 1, "{sigma}: {worst}");
    }
}

#[test]
fn the_frechet_distance_matches_pytorch_fid_with_more_and_fewer_images_than_features() {
    let expected = json("expected.json");
    for name in ["many", "few"] {
        let [a, b] = [0, 1].map(|which| Gaussian::of(&rows(&format!("{name}.{which}"))).unwrap());
        near(name, frechet_distance(&a, &b).unwrap(), &expected[name], 1e-5);
        assert!(frechet_distance(&a, &a).unwrap().abs() < 1e-5);
    }
}

#[test]
fn the_inception_score_matches_scipys_entropies() {
    let (mean, deviation) = inception_score(&rows("probabilities"), 4).unwrap();
    let expected = &json("expected.json")["score"];
    near("mean", mean, &expected[0], 1e-6);
    near("deviation", deviation, &expected[1], 1e-4);
}

/// Pseudo-random numbers in [0, 1) from a name and an index: FNV-1a, then SplitMix64, as in `make.py`.
fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let seed = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (1..=count as u64).map(move |index| {
        let x = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 40) as f64 / f64::from(1 << 24)
    })
}

/// The weights that `make.py` uses.
fn counted_out(name: &str, shape: Vec<usize>) -> Array {
    let fan_in: usize = shape[1..].iter().product();
    let scale = |u: f64| match shape.len() {
        _ if name.ends_with("running_var") => 0.5 + u,
        1 if name.ends_with("weight") => 0.8 + 0.4 * u,
        1 => 0.2 * (u - 0.5),
        _ => (2.0 * u - 1.0) * (6.0 / fan_in as f64).sqrt(),
    };
    let values = uniform(name, shape.iter().product()).map(|u| scale(u) as f32).collect();
    Array { shape, values }
}

fn arrays(network: &str) -> BTreeMap<String, Array> {
    let shapes: BTreeMap<String, BTreeMap<String, Vec<usize>>> =
        serde_json::from_slice(&fs::read(path("shapes.json")).unwrap()).unwrap();
    let named = shapes[network].iter();
    named.map(|(name, shape)| (name.clone(), counted_out(name, shape.clone()))).collect()
}

/// The image that `make.py` uses.
fn squares(side: u32) -> RgbImage {
    let count = side.div_ceil(16);
    let colours: Vec<u8> =
        uniform("picture", (count * count * 3) as usize).map(|u| (u * 256.0) as u8).collect();
    RgbImage::from_fn(side, side, |x, y| {
        let at = ((y / 16 * count + x / 16) * 3) as usize;
        image::Rgb([colours[at], colours[at + 1], colours[at + 2]])
    })
}

/// Relative error ‖ours − theirs‖ / ‖theirs‖ of features and probabilities.
fn errors(extractor: &dyn Extractor, side: u32, expected: &str) -> [f64; 2] {
    let ours = extractor.extract(&[squares(side)]).unwrap();
    let error = |ours: &[f32], theirs: &[f32]| {
        assert_eq!(ours.len(), theirs.len());
        let norm =
            |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        norm(&mut ours.iter().zip(theirs).map(|(a, b)| a - b)) / norm(&mut theirs.iter().copied())
    };
    let theirs = |part: &str| rows(&format!("{expected}.{part}")).swap_remove(0);
    [error(&ours.features[0], &theirs("features")), error(&ours.probabilities[0], &theirs("probabilities"))]
}

#[test]
fn textures_are_means_deviations_and_correlations_of_the_packages_early_maps() {
    let network = from_arrays(arrays("lite0"), &Device::flex()).unwrap();
    let ours = network.extract(&[squares(224)]).unwrap().textures.swap_remove(0);
    let theirs = rows("lite0.textures").swap_remove(0);
    assert_eq!((ours.len(), theirs.len()), (1496, 1496));
    let largest = theirs.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    for (at, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        assert!((ours - theirs).abs() < 1e-4 * largest, "{at}: {ours}, {theirs}");
    }
}

#[test]
fn lite0_matches_its_package() {
    let network = from_arrays(arrays("lite0"), &Device::flex()).unwrap();
    assert_eq!(network.names().distance, "FD-lite0");
    let errors = errors(&*network, 224, "lite0");
    assert!(errors.iter().all(|error| *error < 1e-4), "{errors:?}");
}

#[test]
#[ignore = "needs the package's file: LITE0=…/efficientnet-lite0-57934424.pth"]
fn lite0_with_released_weights_matches_its_package() {
    let file = std::env::var_os("LITE0").expect("LITE0 names the file");
    let network = open(Path::new(&file), &Device::flex()).unwrap();
    let errors = errors(&*network, 224, "real_lite0");
    println!("relative errors of features and probabilities: {errors:?}");
    assert!(errors.iter().all(|error| *error < 1e-4), "{errors:?}");
}

#[test]
fn inception_matches_torchvision_and_the_network_of_published_fids() {
    let mut weights = arrays("inception");
    let network = from_arrays(weights.clone(), &Device::flex()).unwrap();
    assert_eq!(network.names().distance, "FID (torchvision)");
    let errors_of_torchvision = errors(&*network, 299, "torchvision");
    assert!(errors_of_torchvision.iter().all(|error| *error < 1e-4), "{errors_of_torchvision:?}");

    weights.retain(|name, _| !name.starts_with("AuxLogits."));
    for (name, shape) in [("fc.weight", vec![1008, 2048]), ("fc.bias", vec![1008])] {
        weights.insert(name.to_owned(), counted_out(name, shape));
    }
    let network = from_arrays(weights, &Device::flex()).unwrap();
    assert_eq!(network.names().distance, "FID");
    let errors_of_published = errors(&*network, 299, "published");
    assert!(errors_of_published.iter().all(|error| *error < 1e-4), "{errors_of_published:?}");
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let refusal = |change: &dyn Fn(&mut BTreeMap<String, Array>)| {
        let mut weights = arrays("lite0");
        change(&mut weights);
        from_arrays(weights, &Device::flex()).err().unwrap().to_string()
    };
    let missing = refusal(&|weights| drop(weights.remove("_blocks.3._bn2.running_var")));
    assert!(missing.contains("no tensor `_blocks.3._bn2.running_var`"), "{missing}");
    let more = refusal(&|weights| drop(weights.insert("_blocks.16.x".into(), counted_out("x", vec![1]))));
    assert!(more.contains("`_blocks.16.x`"), "{more}");
    let other = refusal(&|weights| drop(weights.insert("_fc.bias".into(), counted_out("x", vec![7]))));
    assert!(other.contains("shape [7], expected [1000]"), "{other}");
    let foreign = refusal(&BTreeMap::clear);
    assert!(foreign.contains("EfficientNet-Lite0") && foreign.contains("Inception"), "{foreign}");
}
