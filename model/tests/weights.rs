//! Serialising and loading weights, and errors for weights that do not fit.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::config;
use dalle_model::Device;
use dalle_model::burn::tensor::{FloatDType, Tensor, bf16, f16};
use dalle_model::dvae::{Decoder, Encoder};
use dalle_model::weights::{WeightsError, from_safetensors, to_safetensors};
use safetensors::SafeTensors;

fn logits(encoder: &Encoder) -> Vec<f32> {
    let x = Tensor::<4>::full([1, 3, 16, 16], 0.3, &Device::flex());
    encoder.forward(x).into_data().iter::<f32>().collect()
}

#[test]
fn weights_round_trip_exactly_in_f32_and_closely_in_f16() {
    let (config, device) = (config("tiny").dvae, Device::flex());
    let encoder = Encoder::new(&config, &device);
    let expected = logits(&encoder);
    let again = |dtype| {
        let bytes = to_safetensors(&encoder, dtype).unwrap();
        logits(&from_safetensors(Encoder::new(&config, &device), &bytes).unwrap())
    };
    assert_eq!(again(FloatDType::F32), expected);
    let half = again(FloatDType::F16);
    assert_ne!(half, expected);
    assert!(half.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-2));
}

#[test]
fn parameter_names_are_paths_through_the_papers_figure() {
    let encoder = Encoder::new(&config("tiny").dvae, &Device::flex());
    let bytes = to_safetensors(&encoder, FloatDType::F16).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let kernel = file.tensor("groups.3.0.res_path.conv_2.w").unwrap();
    assert_eq!(kernel.shape(), [16, 16, 3, 3]);
}

#[test]
fn weights_of_another_model_are_refused_by_name() {
    let (config, device) = (config("tiny").dvae, Device::flex());
    let encoder = to_safetensors(&Encoder::new(&config, &device), FloatDType::F32).unwrap();
    let load = |bytes: &[u8]| from_safetensors(Encoder::new(&config, &device), bytes).unwrap_err();

    let mut wider = config.clone();
    wider.vocab += 1;
    let bytes = to_safetensors(&Encoder::new(&wider, &device), FloatDType::F32).unwrap();
    assert!(
        matches!(load(&bytes), WeightsError::Shape { name, .. } if name == "output.w" || name == "output.b")
    );

    let mut deeper = config.clone();
    deeper.blocks_per_group += 1;
    let bytes = to_safetensors(&Encoder::new(&deeper, &device), FloatDType::F32).unwrap();
    assert!(matches!(load(&bytes), WeightsError::Unexpected(name) if name.starts_with("groups.0.1.")));

    let decoder = to_safetensors(&Decoder::new(&config, &device), FloatDType::F32).unwrap();
    assert!(matches!(load(&decoder), WeightsError::Shape { .. } | WeightsError::Missing(_)));
    for cut in [0, 7, 100, encoder.len() - 1] {
        assert!(matches!(load(&encoder[..cut]), WeightsError::Malformed(_)), "{cut} bytes");
    }
}

#[test]
fn non_finite_weights_are_refused_by_name_in_every_type() {
    let (config, device) = (config("tiny").dvae, Device::flex());
    for (dtype, bytes) in [(FloatDType::F32, 4), (FloatDType::F16, 2), (FloatDType::BF16, 2)] {
        let mut file = to_safetensors(&Encoder::new(&config, &device), dtype).unwrap();
        let last = file.len() - bytes;
        let name = SafeTensors::deserialize(&file).unwrap();
        let name = name.iter().find(|(_, view)| view.data().as_ptr_range().end == file.as_ptr_range().end);
        let name = name.unwrap().0.to_owned();
        for infinite in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let value = match dtype {
                FloatDType::F16 => f16::from_f32(infinite).to_le_bytes().to_vec(),
                FloatDType::BF16 => bf16::from_f32(infinite).to_le_bytes().to_vec(),
                _ => infinite.to_le_bytes().to_vec(),
            };
            file[last..].copy_from_slice(&value);
            match from_safetensors(Encoder::new(&config, &device), &file).unwrap_err() {
                WeightsError::NotFinite(got) => assert_eq!(got, name),
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn the_shipped_weights_fit_the_code() {
    let assets = format!("{}/../assets/models", env!("CARGO_MANIFEST_DIR"));
    let mut models = 0;
    for folder in std::fs::read_dir(assets).unwrap() {
        let folder = folder.unwrap().path();
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let config: dalle_model::config::ModelConfig = serde_json::from_slice(&read("config.json")).unwrap();
        config.validate().unwrap();
        let device = Device::flex();
        from_safetensors(Encoder::new(&config.dvae, &device), &read("encoder.safetensors")).unwrap();
        from_safetensors(Decoder::new(&config.dvae, &device), &read("decoder.safetensors")).unwrap();
        let prior = dalle_model::prior::Prior::new(&config, &device);
        from_safetensors(prior, &read("model.safetensors")).unwrap();
        let tokenizer = dalle_shared::Tokenizer::from_json(&read("tokenizer.json")).unwrap();
        assert!(tokenizer.vocab_size() <= config.text_vocab);
        if folder.join("clip.json").exists() {
            let clip: dalle_model::clip::ClipConfig = serde_json::from_slice(&read("clip.json")).unwrap();
            clip.validate(&config).unwrap();
            assert_eq!(clip.tokenizer, Some(dalle_shared::sha256_hex(&read("tokenizer.json"))));
            let network = dalle_model::clip::Clip::new(&clip, &config, &device);
            from_safetensors(network, &read("clip.safetensors")).unwrap();
        }
        models += 1;
    }
    assert!(models > 0, "no model is shipped");
}
