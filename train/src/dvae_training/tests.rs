use std::collections::BTreeMap;

use dalle_data::Share;
use image::Rgb;

use super::*;
use crate::augment;
use crate::dvae_data::DvaeData;
use crate::ranks::of_all_ranks;
use crate::schedule::CosineSchedule;
use crate::test_dataset::TestDataset;

fn config() -> ModelConfig {
    serde_json::from_str(include_str!("../../../configs/tiny.json")).unwrap()
}

fn image(number: u8) -> RgbImage {
    RgbImage::from_fn(40, 40, |x, y| Rgb([x as u8 * 6, y as u8 * 6, number * 25]))
}

/// Ten images.
fn dataset() -> TestDataset {
    TestDataset::new((0..10).map(|number| (String::new(), image(number))))
}

fn stage(dataset: &TestDataset, batch: usize, accumulate: usize, device: Device) -> DvaeStage {
    let cosine = CosineSchedule { from: 1.0, to: 1.0, updates: 0 };
    let schedule = DvaeSchedule {
        batch,
        accumulate,
        beta: cosine,
        tau: cosine,
        learning_rate: cosine,
        decoder_only: false,
        seed: 3,
    };
    let data = DvaeData::new(&dataset.data, Share::whole(batch), config().image_size, 3).unwrap();
    let held_out = [8, 9].map(|number| augment::centred(&image(number), config().image_size as u32));
    DvaeStage::new(data, held_out.to_vec(), &config(), schedule, device, Ranks::alone())
}

#[test]
fn gradients_and_metrics_are_the_same_however_many_parts_a_batch_is_computed_in() {
    let _random = crate::DEVICE_RANDOM.lock();
    let device = Device::flex().autodiff();
    device.seed(5);
    let (dvae, dataset) = (Dvae::new(&config().dvae, &device), dataset());
    let of = |parts| {
        let mut stage = stage(&dataset, 6, parts, device.clone());
        stage.kernels = None;
        let (gradients, mut metrics) = stage.gradients(&dvae, 1).unwrap();
        metrics.extend(stage.extra_metrics(&dvae, 1).unwrap());
        let metrics = metrics.into_iter().map(|(name, value)| (name, value.into_scalar::<f32>()));
        (gradients, metrics.collect::<Vec<_>>(), stage.validate(&dvae.valid()).unwrap())
    };
    let (whole, expected, loss) = of(1);
    // The last part of four is smaller.
    for parts in [2, 3, 4] {
        let (gradients, metrics, validation) = of(parts);
        crate::gradients::assert_close(&gradients, &whole);
        for ((name, ours), (_, expected)) in metrics.into_iter().zip(&expected) {
            assert!((ours - expected).abs() <= 1e-5 * expected.abs() + 1e-6, "{name}: {ours} {expected}");
        }
        assert!((validation.loss - loss.loss).abs() < 1e-5, "{validation:?} {loss:?}");
    }
}

#[test]
fn ranks_validate_on_shares_whose_sums_are_the_validation_of_one() {
    let _random = crate::DEVICE_RANDOM.lock();
    let device = Device::flex().autodiff();
    device.seed(5);
    let (dvae, dataset) = (Dvae::new(&config().dvae, &device), dataset());
    for kernels in [true, false] {
        let validate = |ranks: Ranks| {
            let mut stage = stage(&dataset, 6, 1, device.clone());
            stage.ranks = ranks;
            if !kernels {
                stage.kernels = None;
            }
            let Validation { loss, others } = stage.validate(&dvae.valid()).unwrap();
            [loss, others[0].1, others[1].1]
        };
        let whole = validate(Ranks::alone());
        // Of two images the last of three ranks has none.
        let shares = of_all_ranks(3, validate);
        assert_eq!(shares[2], [0.0; 3]);
        for (kind, expected) in whole.into_iter().enumerate() {
            let sum: f64 = shares.iter().map(|share| share[kind]).sum();
            assert!((sum - expected).abs() < 1e-5, "{shares:?}, expected {whole:?}");
        }
    }
}

/// At the start of training the encoder's gradients are small differences: Burn's own rounding is this large.
fn assert_near(ours: &Gradients, burns: &Gradients) {
    let greatest = |x: &Tensor<1>| x.clone().abs().max().into_scalar::<f32>();
    for ((path, ours), (same, burns)) in ours.iter().zip(burns.iter()) {
        assert_eq!(path, same);
        let error = greatest(&(ours.clone() - burns.clone()));
        assert!(error <= 1e-3 * greatest(burns), "{path}: {error} of {}", greatest(burns));
    }
    assert_eq!(ours.iter().count(), burns.iter().count());
}

#[test]
fn the_kernels_give_burns_gradients_and_metrics() {
    let _random = crate::DEVICE_RANDOM.lock();
    let device = Device::flex().autodiff();
    device.seed(5);
    let (dvae, dataset) = (Dvae::new(&config().dvae, &device), dataset());
    let of = |kernels: bool| {
        let mut stage = stage(&dataset, 5, 1, device.clone());
        // So warm that the noise, which the two generate differently, plays no part.
        stage.schedule.tau = CosineSchedule { from: 1e6, to: 1e6, updates: 0 };
        assert!(stage.kernels.is_some(), "the CPU has kernels");
        if !kernels {
            stage.kernels = None;
        }
        let (gradients, mut metrics) = stage.gradients(&dvae, 1).unwrap();
        metrics.extend(stage.extra_metrics(&dvae, 1).unwrap());
        let metrics = metrics.into_iter().map(|(name, value)| (name, value.into_scalar::<f32>()));
        (gradients, metrics.collect::<Vec<_>>(), stage.validate(&dvae.valid()).unwrap())
    };
    let ((ours, our_metrics, our_validation), (burns, metrics, validation)) = (of(true), of(false));
    assert_near(&ours, &burns);
    for ((name, ours), (same, burns)) in our_metrics.into_iter().zip(metrics) {
        assert_eq!(name, same);
        assert!((ours - burns).abs() <= 1e-5 * burns.abs() + 1e-6, "{name}: {ours} {burns}");
    }
    assert!((our_validation.loss - validation.loss).abs() < 1e-5, "{our_validation:?} {validation:?}");
}

#[test]
fn a_decoder_trained_alone_has_the_hard_loss_and_burns_gradients() {
    let _random = crate::DEVICE_RANDOM.lock();
    let device = Device::flex().autodiff();
    device.seed(5);
    let (dvae, dataset) = (Dvae::new(&config().dvae, &device), dataset());
    let of = |kernels: bool| {
        let mut stage = stage(&dataset, 5, 1, device.clone());
        stage.schedule.decoder_only = true;
        if !kernels {
            stage.kernels = None;
        }
        let (gradients, metrics) = stage.gradients(&dvae, 1).unwrap();
        let extra = stage.extra_metrics(&dvae, 1).unwrap();
        let read = |metrics: Metrics| {
            let value = |(name, value): (_, Tensor<1>)| (name, value.into_scalar::<f32>());
            metrics.into_iter().map(value).collect::<BTreeMap<_, _>>()
        };
        (gradients, read(metrics), read(extra))
    };
    let ((ours, our_metrics, our_extra), (burns, metrics, extra)) = (of(true), of(false));
    assert!(burns.iter().all(|(path, _)| path.starts_with("decoder.")), "{:?}", burns.iter().next());
    assert_near(&ours, &burns);
    for (name, value) in &metrics {
        assert!((our_metrics[name] - value).abs() <= 1e-5 * value.abs() + 1e-6, "{name}");
    }
    // The loss that is trained is the one that training of both reports as the true one.
    for (metrics, extra) in [(our_metrics, our_extra), (metrics, extra)] {
        assert!((metrics["loss"] - extra["true loss"]).abs() < 1e-5, "{metrics:?} {extra:?}");
    }
}

#[test]
fn an_example_is_augmented_and_disturbed_alike_in_batches_of_any_size() {
    let _random = crate::DEVICE_RANDOM.lock();
    let dataset = dataset();
    let of = |batch, step| {
        let mut stage = stage(&dataset, batch, 1, Device::flex());
        let batch = stage.data.batch(step).unwrap();
        let noise = stage.noise(&batch, &Tensor::zeros([batch.len(), 8, 4, 4], &stage.device));
        let images: Vec<RgbImage> = batch.iter().map(|example| example.image.clone()).collect();
        (images, noise.into_data().iter::<f32>().collect::<Vec<_>>())
    };
    // Across the end of an epoch of ten.
    let (images, noise) = of(8, 1);
    for (step, part) in [(2, 0..4), (3, 4..8)] {
        let (few, some) = of(4, step);
        assert!(few == images[part.clone()]);
        assert_eq!(some, noise[part.start * 128..part.end * 128]);
    }
    assert!(images[0] != images[1] && noise[..128] != noise[128..256]);
}

#[test]
fn use_of_the_codebook_has_known_values() {
    let of = |tokens: &[i32]| {
        let tokens = Tensor::from_data(tokens, &Device::flex());
        let (perplexity, usage) = codebook_use(tokens, 8);
        (perplexity.into_scalar::<f32>(), usage.into_scalar::<f32>())
    };
    let near = |(a, b): (f32, f32), (c, d): (f32, f32)| (a - c).abs() < 1e-4 && (b - d).abs() < 1e-6;
    assert!(near(of(&[3; 16]), (1.0, 1.0 / 8.0)));
    assert!(near(of(&[0, 1, 2, 3, 4, 5, 6, 7]), (8.0, 1.0)));
    // Shares 1/2, 1/4, 1/4: entropy 1.5 ln 2.
    assert!(near(of(&[7, 7, 0, 1]), (2f32.powf(1.5), 3.0 / 8.0)));
}
