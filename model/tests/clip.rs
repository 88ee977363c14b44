//! CLIP: it equals a model of PyTorch's own modules, and its scores are stable.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;

use common::{assert_close, config, gradients, greatest, values};
use dalle_model::Device;
use dalle_model::burn::tensor::{FloatDType, Tensor, TensorData};
use dalle_model::clip::{Clip, ClipConfig, MAX_SCALE, ScoreError, TowerConfig, best_first};
use dalle_model::config::ModelConfig;
use dalle_model::weights::{from_safetensors, to_safetensors};
use dalle_shared::TextToken;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// As in fixtures/clip/make.py.
fn sizes() -> (ClipConfig, ModelConfig) {
    let tower = |width, layers, heads| TowerConfig { width, layers, heads };
    let clip = ClipConfig {
        embedding: 10,
        patch: 4,
        text: tower(16, 2, 2),
        image: tower(24, 1, 3),
        tokenizer: None,
    };
    let model = ModelConfig { text_vocab: 40, text_length: 12, image_size: 16, ..config("tiny") };
    clip.validate(&model).unwrap();
    (clip, model)
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/fixtures/clip/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The model of the fixture.
fn clip(device: &Device) -> Clip {
    let (clip, model) = sizes();
    from_safetensors(Clip::new(&clip, &model, device), &fixture("clip.safetensors")).unwrap()
}

/// PyTorch's values, by name.
struct Expected(HashMap<String, Vec<f32>>);

impl Expected {
    fn read() -> Self {
        let bytes = fixture("expected.safetensors");
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let floats = |data: &[u8]| data.as_chunks::<4>().0.iter().map(|&x| f32::from_le_bytes(x)).collect();
        Self(file.iter().map(|(name, view)| (name.to_owned(), floats(view.data()))).collect())
    }

    fn captions(&self) -> Vec<Vec<TextToken>> {
        let caption =
            |ids: &[f32]| ids.iter().filter(|&&id| id >= 0.0).map(|&id| TextToken(id as u32)).collect();
        self.0["captions"].chunks(12).map(caption).collect()
    }

    /// Images as interleaved RGB8.
    fn images(&self) -> Vec<Vec<u8>> {
        let plane = 16 * 16;
        let interleave = |x: &[f32]| (0..3 * plane).map(|i| x[(i % 3) * plane + i / 3] as u8).collect();
        self.0["pictures"].chunks(3 * plane).map(interleave).collect()
    }

    fn batch(&self, device: &Device) -> Tensor<4> {
        let values = self.0["pictures"].clone();
        let data = TensorData::new(values, [self.captions().len(), 3, 16, 16]);
        Tensor::from_data(data, device).div_scalar(255.0)
    }
}

fn slices<T>(rows: &[Vec<T>]) -> Vec<&[T]> {
    rows.iter().map(Vec::as_slice).collect()
}

#[test]
fn features_loss_and_gradients_match_pytorch() {
    let device = Device::flex().autodiff();
    let (clip, expected) = (clip(&device), Expected::read());
    let captions = expected.captions();
    let captions = slices(&captions);
    assert_close(&values(clip.texts(&captions).unwrap()), &expected.0["texts"], 1e-5, "texts");
    assert_close(&values(clip.images(expected.batch(&device))), &expected.0["images"], 1e-5, "images");

    let outcome = clip.loss(&captions, expected.batch(&device)).unwrap();
    assert_close(&values(outcome.loss.clone()), &expected.0["loss"], 1e-5, "loss");
    assert_close(&values(outcome.retrieval), &expected.0["retrieval"], 1e-6, "retrieval");

    let compared = gradients(&clip, &outcome.loss.backward());
    assert_eq!(compared.len(), expected.0.keys().filter(|name| name.starts_with("gradient.")).count());
    for (name, gradient) in compared {
        let expected = &expected.0[&format!("gradient.{name}")];
        let greatest = greatest(expected);
        assert!(greatest > 0.0, "the gradient of {name} is zero and proves nothing");
        assert_close(&gradient, expected, 1e-5 + 1e-4 * greatest, &name);
    }
}

#[test]
fn features_do_not_depend_on_the_rest_of_the_batch() {
    let device = Device::flex();
    let (clip, expected) = (clip(&device), Expected::read());
    let (captions, images) = (expected.captions(), expected.images());
    let together = clip.cosines(&slices(&captions), &slices(&images)).unwrap();
    for (caption, scores) in captions.iter().zip(&together) {
        for (image, score) in images.iter().zip(scores) {
            let alone = clip.cosines(&[caption], &[image]).unwrap();
            assert_close(&alone[0], &[*score], 1e-6, "alone and in a batch");
            assert!(score.abs() <= 1.0 + 1e-6);
        }
    }
    // More than one chunk.
    let many: Vec<&[u8]> = slices(&images).into_iter().cycle().take(130).collect();
    let scores = clip.cosines(&[&captions[0]], &many).unwrap().swap_remove(0);
    assert_close(&scores, &together[0].iter().copied().cycle().take(130).collect::<Vec<_>>(), 1e-6, "many");
    assert!(clip.cosines(&[&captions[0]], &[]).unwrap()[0].is_empty());
}

#[test]
fn the_scale_starts_at_its_initial_value_and_is_clamped() {
    for device in [Device::flex().autodiff(), Device::flex().autodiff().gradient_checkpointing()] {
        the_scale_is_kept_within_bounds(&device);
    }
}

fn the_scale_is_kept_within_bounds(device: &Device) {
    let (sizes, model) = sizes();
    let scale = |clip: &Clip| clip.scale().into_scalar::<f32>();
    let fresh = Clip::new(&sizes, &model, device);
    assert!((scale(&fresh) - 1.0 / 0.07).abs() < 1e-3);
    assert!((scale(&fresh.clone().clamp_scale()) - 1.0 / 0.07).abs() < 1e-3);

    // The same weights with a scale of e⁶.
    let bytes = to_safetensors(&fresh, FloatDType::F32).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let six = 6f32.to_le_bytes();
    let views = file.iter().map(|(name, view)| {
        (name, if name == "ln_scale" { TensorView::new(Dtype::F32, vec![1], &six).unwrap() } else { view })
    });
    let bytes = safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap();
    let loud = from_safetensors(fresh, &bytes).unwrap();
    assert!((scale(&loud) - 6f32.exp()).abs() < 0.1);
    let bounded = loud.clamp_scale();
    assert!((f64::from(scale(&bounded)) - MAX_SCALE).abs() < 1e-2);
    // It can still be trained: the loss's gradient reaches it.
    let expected = Expected::read();
    let captions = expected.captions();
    let loss = bounded.loss(&slices(&captions), expected.batch(device)).unwrap().loss;
    assert_ne!(gradients(&bounded, &loss.backward())["ln_scale"], [0.0]);
}

#[test]
fn captions_and_images_that_do_not_fit_are_refused_with_their_sizes() {
    let clip = clip(&Device::flex());
    let image = vec![0u8; 3 * 16 * 16];
    let refusal = |caption: &[TextToken], image: &[u8]| match clip.cosines(&[caption], &[image]) {
        Err(ScoreError::Request(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(clip.cosines(&[&[TextToken(39); 11]], &[&image]).is_ok());
    assert!(refusal(&[TextToken(0); 12], &image).contains("at most 11"));
    assert!(refusal(&[TextToken(40)], &image).contains("expected ids below 40, got 40"));
    assert!(refusal(&[], &image[1..]).contains("16×16"));
}

#[test]
fn best_first_sorts_by_score_and_keeps_the_order_of_ties() {
    assert_eq!(best_first(&[0.1, 0.9, -0.5, 0.9, 0.2]), [1, 3, 4, 0, 2]);
    assert!(best_first(&[]).is_empty());
}

#[test]
fn invalid_sizes_are_named() {
    let (sizes, model) = sizes();
    let complaint = |change: fn(&mut ClipConfig)| {
        let mut changed = sizes.clone();
        change(&mut changed);
        changed.validate(&model).unwrap_err().to_string()
    };
    assert!(complaint(|clip| clip.patch = 5).starts_with("`patch` must divide"));
    assert!(complaint(|clip| clip.patch = 0).contains("`patch`"));
    assert!(complaint(|clip| clip.embedding = 0).contains("`embedding`"));
    assert!(complaint(|clip| clip.text.heads = 3).contains("`text.heads` must divide"));
    assert!(complaint(|clip| clip.image.layers = 0).contains("`image.layers`"));
}
