use std::collections::BTreeMap;

use dalle_model::Device;
use dalle_model::burn::tensor::DType;
use dalle_model::config::ModelConfig;
use dalle_model::precision::Precision;
use dalle_model::prior::loss::PriorLoss;

use super::*;

/// A prior of 8 resblocks, and two pairs of captions and images.
struct Toy {
    prior: Prior,
    masks: Masks,
    captions: [Vec<TextToken>; 2],
    images: [Vec<ImageToken>; 2],
}

impl Toy {
    fn new(precision: Precision) -> Self {
        let _random = crate::DEVICE_RANDOM.lock();
        let config: ModelConfig = serde_json::from_str(include_str!("../../../configs/tiny.json")).unwrap();
        let device = Device::flex().autodiff();
        device.seed(11);
        let tokens = (config.image_size / 8).pow(2);
        let toy = Self {
            prior: Prior::new(&config, &device).with_precision(precision),
            masks: Masks::new(&config, &device),
            captions: [vec![3, 1, 200, 77], vec![9; 15]].map(|ids| ids.into_iter().map(TextToken).collect()),
            images: [7, 31].map(|step| (0..tokens).map(|i| ImageToken((i * step % 64) as u16)).collect()),
        };
        // Parameters are made when they are first used: while no other test uses the generator.
        drop(toy.forward());
        toy
    }

    fn forward(&self) -> Logits {
        let (captions, images) = self.slices();
        self.prior.forward(&self.masks, &captions, &images).unwrap()
    }

    fn slices(&self) -> ([&[TextToken]; 2], [&[ImageToken]; 2]) {
        (self.captions.each_ref().map(Vec::as_slice), self.images.each_ref().map(Vec::as_slice))
    }

    fn loss(&self, logits: Logits) -> Tensor<1> {
        let (captions, images) = self.slices();
        PriorLoss::new(logits, &captions.map(Some), &images).total()
    }

    /// All gradients by the engine, as far as they are finite, divided by their scales; and which resblocks have finite ones.
    fn engine(&self, resblocks: &mut dyn Resblocks, scales: &[f32]) -> (Gradients, Vec<bool>) {
        let (captions, images) = self.slices();
        let (mut all, mut finite) = (Gradients::default(), vec![false; 8]);
        let mut order = Vec::new();
        let pass = gradients(
            &self.prior,
            resblocks,
            &self.masks,
            (&captions, &images),
            scales,
            |logits| (self.loss(logits), "kept"),
            &mut |resblock| {
                order.push(resblock.index);
                finite[resblock.index] = resblock.finite();
                for (path, gradient) in resblock.gradients.iter() {
                    all.insert(path.to_owned(), gradient.clone().cast(DType::F32).div_scalar(resblock.scale));
                }
                Ok(())
            },
        );
        let pass = pass.unwrap();
        assert_eq!(pass.result, "kept");
        assert_eq!(order, [7, 6, 5, 4, 3, 2, 1, 0]);
        all.add(pass.outer);
        (all, finite)
    }
}

/// The greatest difference of each gradient, as a part of its greatest value.
fn differences(ours: &Gradients, expected: &Gradients) -> BTreeMap<String, f32> {
    let paths = |gradients: &Gradients| gradients.iter().map(|(path, _)| path.to_owned()).collect::<Vec<_>>();
    assert_eq!(paths(ours), paths(expected));
    let greatest = |x: Tensor<1>| x.abs().max().into_scalar::<f32>();
    let difference = |(path, expected): (&str, &Tensor<1>)| {
        let ours = ours.get(path).unwrap().clone().cast(DType::F32);
        let expected = expected.clone().cast(DType::F32);
        (path.to_owned(), greatest(ours - expected.clone()) / greatest(expected))
    };
    expected.iter().map(difference).collect()
}

#[test]
fn gradients_are_those_of_a_tape_over_the_whole_network() {
    let toy = Toy::new(Precision::F32);
    let expected = Gradients::of(&toy.loss(toy.forward()), &toy.prior);
    for scale in [1.0, 8192.0, 12_345.6] {
        let (ours, finite) = toy.engine(&mut InMemory::new(&toy.prior), &[scale; 8]);
        assert_eq!(finite, [true; 8]);
        for (path, difference) in differences(&ours, &expected) {
            assert!(difference <= 1e-6, "{path}: {difference} at a scale of {scale}");
        }
    }
}

#[test]
fn sixteen_bits_with_scales_come_close_to_32() {
    let expected = Toy::new(Precision::F32);
    let expected = Gradients::of(&expected.loss(expected.forward()), &expected.prior);
    let toy = Toy::new(Precision::F16);
    let (ours, finite) = toy.engine(&mut InMemory::new(&toy.prior), &[8192.0; 8]);
    assert_eq!(finite, [true; 8]);
    for (path, difference) in differences(&ours, &expected) {
        assert!(difference <= 1e-2, "{path}: {difference}");
    }
}

#[test]
fn an_overflow_in_one_resblock_leaves_the_others_finite_and_divides_its_scale_alone() {
    let toy = Toy::new(Precision::F16);
    let (bad_update, bad) = (2, 4);
    let mut scales = GradientScales::new(8, 1);
    for update in 0..4 {
        let before = scales.values();
        let mut given = before.clone();
        if update == bad_update {
            // Gradients beyond the greatest value of f16.
            given[bad] = 2f32.powi(60);
        }
        let (gradients, finite) = toy.engine(&mut InMemory::new(&toy.prior), &given);
        let expected: Vec<bool> = (0..8).map(|index| update != bad_update || index != bad).collect();
        assert_eq!(finite, expected, "update {update}");
        let of_bad = [
            "qkv.weight",
            "qkv.bias",
            "projection.weight",
            "projection.bias",
            "norm_attention.gamma",
            "norm_attention.beta",
        ]
        .map(|name| format!("blocks.{}.{name}", bad / 2));
        // What lies before the overflow still gets a gradient, and the embeddings too.
        for (path, gradient) in gradients.iter().filter(|(path, _)| !of_bad.iter().any(|bad| bad == path)) {
            let greatest = gradient.clone().abs().max().into_scalar::<f32>();
            assert!(greatest.is_finite() && greatest > 0.0, "update {update}, {path}: {greatest}");
        }
        assert_eq!(scales.record(&finite), update != bad_update, "the update is skipped");
        for (index, (before, after)) in before.into_iter().zip(scales.values()).enumerate() {
            assert_eq!(
                after < before,
                update == bad_update && index == bad,
                "resblock {index}, update {update}"
            );
        }
    }
}

#[test]
fn the_filter_replaces_what_is_not_finite_and_nothing_else() {
    let device = Device::flex();
    let x = Tensor::<3>::from_floats(
        [[[1.0, f32::NAN], [f32::INFINITY, f32::NEG_INFINITY], [-2.0, f32::MAX]]],
        &device,
    );
    let expected = Tensor::<3>::from_floats([[[1.0, 0.0], [0.0, 0.0], [-2.0, f32::MAX]]], &device);
    assert_eq!(filter(x).into_data(), expected.into_data());
}

/// Resblocks that note what is asked for.
struct Noted(InMemory, Vec<(&'static str, usize)>);

impl Resblocks for Noted {
    fn count(&self) -> usize {
        self.0.count()
    }

    fn prefetch(&mut self, index: usize) -> Result<()> {
        self.1.push(("prefetch", index));
        Ok(())
    }

    fn get(&mut self, index: usize) -> Result<Resblock> {
        self.1.push(("get", index));
        self.0.get(index)
    }
}

#[test]
fn each_resblock_is_prefetched_while_the_one_before_is_computed() {
    let toy = Toy::new(Precision::F32);
    let mut noted = Noted(InMemory::new(&toy.prior), Vec::new());
    toy.engine(&mut noted, &[1.0; 8]);
    let forward = (0..8).flat_map(|index| [("get", index), ("prefetch", index + 1)]).take(15);
    let backward = (0..8).rev().flat_map(|index| [("get", index), ("prefetch", index.max(1) - 1)]).take(15);
    assert_eq!(noted.1, forward.chain(backward).collect::<Vec<_>>());
}

#[test]
fn an_error_of_who_takes_gradients_ends_the_pass() {
    let toy = Toy::new(Precision::F32);
    let (captions, images) = toy.slices();
    let pass = gradients(
        &toy.prior,
        &mut InMemory::new(&toy.prior),
        &toy.masks,
        (&captions, &images),
        &[1.0; 8],
        |logits| (toy.loss(logits), ()),
        &mut |_| anyhow::bail!("rank 3 failed"),
    );
    assert_eq!(pass.err().unwrap().to_string(), "rank 3 failed");
}
