use dalle_data::{Share, Split, TrainingData};
use dalle_model::burn::module::Module;
use dalle_model::burn::tensor::Tensor;
use dalle_model::dvae::{Encoder, ImageEncoder};
use dalle_shared::Tokenizer;
use image::{Rgb, RgbImage};

use super::*;
use crate::prior_data::{PriorData, held_out};
use crate::ranks::of_all_ranks;
use crate::schedule::WarmupCosine;
use crate::test_dataset::TestDataset;
use crate::token_dataset;

/// The tokenizer of the shipped model.
const TOKENIZER: &[u8] = include_bytes!("../../../assets/models/drawings-128/tokenizer.json");

fn dataset() -> TestDataset {
    let captions =
        ["a cat", "two dogs in a park", "x", "a red apple left of a green pear", "sushi", "a boat"];
    TestDataset::new(captions.iter().zip(0..).map(|(caption, number)| {
        let image = RgbImage::from_fn(32, 32, |x, y| Rgb([x as u8 * 8, y as u8 * 8, 40 * number]));
        ((*caption).to_owned(), image)
    }))
}

#[test]
fn gradients_and_losses_are_the_same_in_any_number_of_parts_and_by_the_kernels() {
    let _random = crate::DEVICE_RANDOM.lock();
    let mut config: ModelConfig = serde_json::from_str(include_str!("../../../configs/tiny.json")).unwrap();
    config.text_vocab = 2048;
    let (plain, device) = (Device::flex(), Device::flex().autodiff());
    let tokenizer = Tokenizer::from_json(TOKENIZER).unwrap();
    device.seed(5);
    let encoder = ImageEncoder::new(Encoder::new(&config.dvae, &plain));
    let prior = Prior::new(&config, &device);
    let (dataset, run) = (dataset(), tempfile::tempdir().unwrap());
    let images = dataset.shards();
    let format = token_dataset::format(images, &config, String::new(), 1, 0);
    let tokens =
        token_dataset::in_run_folder(run.path(), images, &format, &config, || Ok(encoder), || ()).unwrap();
    let data = TrainingData::new(vec![(tokens, None)], Split::Train, 3, 1 << 20).unwrap();
    let items = data.reader(Share::whole(6)).items(0).unwrap();
    let of = |accumulate, kernels: bool| {
        let learning_rate = WarmupCosine { peak: 1.0, warmup: 0, updates: 1 };
        // Captions of different lengths, and none: parts have other shares of the text than of the images.
        let schedule = PriorSchedule {
            batch: 6,
            accumulate,
            learning_rate,
            bpe_dropout: 0.1,
            caption_dropout: 0.4,
            image_noise: 0.5,
            seed: 3,
        };
        let pairs = PriorData::new(&data, Share::whole(6), &tokenizer, config.text_length, schedule).unwrap();
        let held_out = held_out(&items, &tokenizer, config.text_length).unwrap();
        let mut stage = PriorStage::new(pairs, held_out, &config, schedule, &device, Ranks::alone());
        assert!(stage.kernels.is_some(), "the CPU has kernels");
        if !kernels {
            stage.kernels = None;
        }
        let (gradients, metrics) = stage.gradients(&prior, 0).unwrap();
        let metrics = metrics.into_iter().map(|(_, value)| value.into_scalar::<f32>());
        (gradients, metrics.collect::<Vec<_>>(), stage.validate(&prior.valid()).unwrap())
    };
    let (whole, losses, validation) = of(1, false);
    for (parts, kernels) in [(2, false), (4, false), (6, false), (1, true)] {
        let (gradients, metrics, ours) = of(parts, kernels);
        crate::gradients::assert_close(&gradients, &whole);
        for (ours, expected) in metrics.iter().zip(&losses) {
            assert!((ours - expected).abs() < 1e-5, "{metrics:?} {losses:?}");
        }
        assert!((ours.loss - validation.loss).abs() < 1e-5, "{ours:?} {validation:?}");
    }
    // The shares of several ranks, which have different numbers of captions, add up to the batch.
    for (world, kernels) in [(2, true), (3, true), (2, false)] {
        let learning_rate = WarmupCosine { peak: 1.0, warmup: 0, updates: 1 };
        let (bpe_dropout, caption_dropout, image_noise) = (0.1, 0.4, 0.5);
        let schedule = PriorSchedule {
            batch: 6,
            accumulate: 1,
            learning_rate,
            bpe_dropout,
            caption_dropout,
            image_noise,
            seed: 3,
        };
        let shares = of_all_ranks(world, |ranks| {
            let share = ranks.share(6).unwrap();
            let pairs = PriorData::new(&data, share, &tokenizer, config.text_length, schedule).unwrap();
            let held_out = held_out(&items, &tokenizer, config.text_length).unwrap();
            let mut stage = PriorStage::new(pairs, held_out, &config, schedule, &device, ranks.clone());
            if !kernels {
                stage.kernels = None;
            }
            let (gradients, metrics) = stage.gradients(&prior, 0).unwrap();
            let metrics = metrics.into_iter().map(|(_, value)| value.into_scalar::<f32>());
            // Of four pairs on three ranks, the last has none.
            stage.held_out.truncate(4);
            let own = stage.validate(&prior.valid()).unwrap();
            assert_eq!(own.loss == 0.0, ranks.range(4).is_empty());
            let values = std::iter::once(own.loss).chain(own.others.iter().map(|(_, value)| *value));
            let validation = ranks.sum_exactly(values.collect()).unwrap();
            stage.ranks = Ranks::alone();
            let whole = stage.validate(&prior.valid()).unwrap();
            for (ours, expected) in validation.iter().zip([whole.loss, whole.others[0].1, whole.others[1].1])
            {
                assert!((ours - expected).abs() < 1e-5, "{world} ranks: {validation:?}, expected {whole:?}");
            }
            (gradients, metrics.collect::<Vec<_>>())
        });
        let mut gradients = Gradients::default();
        let mut sums = vec![0.0; 3];
        for (own, metrics) in shares {
            gradients.add(own);
            sums.iter_mut().zip(metrics).for_each(|(sum, value)| *sum += value);
        }
        crate::gradients::assert_close(&gradients, &whole);
        for (ours, expected) in sums.iter().zip(&losses) {
            assert!((ours - expected).abs() < 1e-5, "{world} ranks: {sums:?} {losses:?}");
        }
    }
    // In 16 bits, with scales that a checkpoint keeps.
    let learning_rate = WarmupCosine { peak: 1.0, warmup: 0, updates: 1 };
    let (bpe_dropout, caption_dropout, image_noise) = (0.1, 0.4, 0.5);
    let schedule = PriorSchedule {
        batch: 6,
        accumulate: 2,
        learning_rate,
        bpe_dropout,
        caption_dropout,
        image_noise,
        seed: 3,
    };
    let pairs = PriorData::new(&data, Share::whole(6), &tokenizer, config.text_length, schedule).unwrap();
    let stage = PriorStage::new(pairs, Vec::new(), &config, schedule, &device, Ranks::alone());
    let mut stage = stage.in_precision(Precision::F16, config.prior.layers, false);
    let (narrow, metrics) = stage.gradients(&prior, 0).unwrap();
    for (path, expected) in whole.iter() {
        let norm = |x: Tensor<1>| x.square().sum().sqrt().into_scalar::<f32>();
        let error = norm(narrow.get(path).unwrap().clone() - expected.clone());
        assert!(error <= 0.02 * norm(expected.clone()) + 1e-9, "{path}: {error}");
    }
    let scale = metrics.iter().find(|(name, _)| name.starts_with("least gradient scale")).unwrap();
    assert!((scale.1.clone().into_scalar::<f32>() - 13.001).abs() < 1e-4);
    let logged = stage.log_values();
    assert_eq!(logged.len(), 2 * config.prior.layers);
    assert_eq!(logged[3].0, "gradient scale, log2/1 mlp");
    assert!(logged.is_sorted() && logged.iter().all(|(_, value)| (value - 13.001).abs() < 1e-4));
    let state = stage.state();
    stage.restore(&state).unwrap();
    assert_eq!(stage.state(), state);
    // Nothing learned: about the logarithm of the number of choices.
    assert!((validation.others[1].1 - 64f64.ln()).abs() < 0.2, "{validation:?}");
}
