use dalle_model::clip::ClipConfig;
use dalle_shared::Tokenizer;
use image::{Rgb, RgbImage};

use super::*;
use crate::clip_data::{ClipData, held_out};
use crate::ranks::of_all_ranks;
use crate::schedule::WarmupCosine;
use crate::test_dataset::TestDataset;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/models/drawings-128");

/// A stage over images of these captions, one colour each, and a fresh network.
fn stage(captions: &[&str], batch: usize) -> (ClipStage, Clip, TestDataset) {
    stage_in_parts(captions, batch, 1)
}

fn stage_in_parts(captions: &[&str], batch: usize, accumulate: usize) -> (ClipStage, Clip, TestDataset) {
    stage_of(captions, (batch, accumulate), Ranks::alone())
}

fn stage_of(
    captions: &[&str],
    (batch, accumulate): (usize, usize),
    ranks: Ranks,
) -> (ClipStage, Clip, TestDataset) {
    let read = |name: &str| std::fs::read(format!("{MODEL}/{name}")).unwrap();
    let config: ModelConfig = serde_json::from_slice(&read("config.json")).unwrap();
    let tokenizer = Tokenizer::from_json(&read("tokenizer.json")).unwrap();
    let clip = serde_json::from_str::<ClipConfig>(include_str!("../../../configs/tiny.clip.json")).unwrap();
    let dataset = TestDataset::new(captions.iter().zip(0..).map(|(caption, number)| {
        ((*caption).to_owned(), RgbImage::from_pixel(128, 128, Rgb([40 * number, 100, 200])))
    }));
    let learning_rate = WarmupCosine { peak: 1.0, warmup: 0, updates: 1 };
    let schedule =
        ClipSchedule { batch, accumulate, learning_rate, bpe_dropout: 0.5, reconstructed: 0.0, seed: 1 };
    let _random = crate::DEVICE_RANDOM.lock();
    let device = Device::flex().autodiff();
    device.seed(5);
    let network = Clip::new(&clip, &config, &device);
    // Weights are random numbers of the device only when they are first read.
    crate::flat::read(&network, &mut Vec::new());
    let held_out = held_out(&dataset.items(), &tokenizer, &config).unwrap();
    let share = ranks.share(batch).unwrap();
    let data = ClipData::new(&dataset.data, share, Vec::new(), tokenizer, &config, schedule).unwrap();
    (ClipStage::new(data, held_out, (&clip, &config), schedule, device, ranks), network, dataset)
}

#[test]
fn the_captions_of_all_ranks_are_contrasted_with_the_images_of_all_ranks() {
    // Two of one wording, which different ranks have.
    let captions = ["a red apple", "a green pear", "a blue boat", "a red apple"];
    let (mut whole, clip, _dataset) = stage(&captions, 4);
    let (expected, metrics) = whole.gradients(&clip, 0).unwrap();
    for (world, accumulate) in [(2, 1), (2, 2), (4, 1)] {
        let shares = of_all_ranks(world, |ranks| {
            let (mut own, _, _dataset) = stage_of(&captions, (4, accumulate), ranks);
            let (gradients, metrics) = own.gradients(&clip, 0).unwrap();
            let metrics = metrics.into_iter().map(|(_, value)| value.into_scalar::<f32>());
            (gradients, metrics.collect::<Vec<_>>())
        });
        let (mut gradients, mut sums) = (Gradients::default(), vec![0.0; 3]);
        for (own, metrics) in shares {
            gradients.add(own);
            sums.iter_mut().zip(metrics).for_each(|(sum, value)| *sum += value);
        }
        crate::gradients::assert_close(&gradients, &expected);
        for (sum, (name, expected)) in sums.iter().zip(&metrics) {
            let expected = expected.clone().into_scalar::<f32>();
            assert!((sum - expected).abs() < 1e-4, "{world} ranks: {name} {sum}, expected {expected}");
        }
    }
}

#[test]
fn ranks_validate_on_whole_batches_whose_sums_are_the_validation_of_one() {
    let captions = ["a red apple", "a green pear", "a blue boat", "a cat", "two dogs"];
    let validate = |ranks: Ranks| {
        let (mut stage, clip, _dataset) = stage_of(&captions, (2, 1), ranks);
        let Validation { loss, others } = stage.validate(&clip.valid()).unwrap();
        [loss, others[0].1]
    };
    let (whole, shares) = (validate(Ranks::alone()), of_all_ranks(2, validate));
    for kind in 0..2 {
        let sum = shares[0][kind] + shares[1][kind];
        assert!((sum - whole[kind]).abs() < 1e-5, "{shares:?}, expected {whole:?}");
    }
}

#[test]
fn kernels_give_burns_gradients_losses_and_validation() {
    let captions = ["one", "two of several words", "three", "two of several words", "five"];
    for parts in [1, 2] {
        let (mut kernels, clip, _dataset) = stage_in_parts(&captions, 5, parts);
        assert!(kernels.kernels.is_some());
        let (burn, _, _dataset) = stage_in_parts(&captions, 5, parts);
        let mut burn = burn.on_burn();
        let (ours, metrics) = kernels.gradients(&clip, 0).unwrap();
        let (theirs, expected) = burn.gradients(&clip, 0).unwrap();
        crate::gradients::assert_close(&ours, &theirs);
        for ((name, value), (_, expected)) in metrics.into_iter().zip(expected) {
            let (value, expected) = (value.into_scalar::<f32>(), expected.into_scalar::<f32>());
            assert!((value - expected).abs() < 1e-5, "{name}: {value}, expected {expected}");
        }
        let [ours, theirs] =
            [&mut kernels, &mut burn].map(|stage| stage.validate(&clip.valid()).unwrap().loss);
        assert!((ours - theirs).abs() < 1e-5, "{ours}, expected {theirs}");
    }
}

fn loss(stage: &mut ClipStage, clip: &Clip, step: u64) -> f32 {
    stage.gradients(clip, step).unwrap().1[0].1.clone().into_scalar()
}

#[test]
fn captions_of_one_wording_are_not_contrasted() {
    // Spelled otherwise by BPE dropout, and by capitals.
    let (mut same, clip, _same) = stage(&["a red apple", "A red apple"], 2);
    assert!(loss(&mut same, &clip, 0).abs() < 1e-6, "each has only its own image to choose");
    let (mut other, _, _other) = stage(&["a red apple", "a green pear"], 2);
    assert!(loss(&mut other, &clip, 0) > 0.1);
    // Two of three: the third is still contrasted with both.
    let (mut mixed, _, _mixed) = stage(&["a red apple", "a red apple", "a green pear"], 3);
    let pairs = other_true_pairs(&captions(&mixed.data.batch(0).unwrap())).unwrap();
    assert_eq!(pairs.iter().filter(|pair| **pair).count(), 2);
    assert!(loss(&mut mixed, &clip, 0) > 0.1);
}

#[test]
fn an_example_that_two_epochs_bring_into_one_batch_is_not_contrasted_with_itself() {
    let (mut stage, clip, _dataset) = stage(&["one", "two", "three"], 2);
    let twice = (0..60).find(|&step| {
        let batch = stage.data.batch(step).unwrap();
        batch[0].caption.example == batch[1].caption.example
    });
    assert!(loss(&mut stage, &clip, twice.unwrap()).abs() < 1e-6);
}

#[test]
fn gradients_and_metrics_are_the_same_however_many_parts_a_batch_is_computed_in() {
    let captions = ["one", "two", "three", "two", "five", "six"];
    let (_, clip, _) = stage(&captions, 6);
    let of = |parts| {
        let (mut stage, _, _dataset) = stage_in_parts(&captions, 6, parts);
        let (gradients, metrics) = stage.gradients(&clip, 0).unwrap();
        let metrics = metrics.into_iter().map(|(_, value)| value.into_scalar::<f32>());
        (gradients, metrics.collect::<Vec<_>>(), stage.validate(&clip.valid()).unwrap())
    };
    let (whole, expected, validation) = of(1);
    for parts in [2, 4, 6] {
        let (gradients, metrics, ours) = of(parts);
        crate::gradients::assert_close(&gradients, &whole);
        for (ours, expected) in metrics.iter().zip(&expected) {
            assert!((ours - expected).abs() < 1e-5, "{metrics:?} {expected:?}");
        }
        assert!((ours.loss - validation.loss).abs() < 1e-5, "{ours:?} {validation:?}");
    }
}
